"""The command line as a user meets it: files in, tables, files and pictures out."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import tqdm

import structmat
from structmat._input import read_matrix
from structmat.cli import _learn_text, main
from structmat.cli._training_bar import training_bar
from structmat.kinds import fitted_kinds, kind_record

KINDS = fitted_kinds()

rng = np.random.default_rng(5)
LOW = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 32))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("low.npy", LOW)
    return tmp_path


def run(capsys, *words):
    status = main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


def test_compare_prints_a_table_and_draws(here, capsys):
    status, out, err = run(capsys, "compare", "low.npy", "--budget", "0.5", "-o", "a.png")
    assert (status, err) == (0, "")
    for kind in KINDS:
        assert kind in out
    assert (here / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "scipy.sparse.linalg.cg" in out


def test_compare_for_machines(here, capsys):
    status, out, _ = run(capsys, "compare", "low.npy", "--budget", "0.5", "--json")
    figures = json.loads(out)
    assert status == 0
    assert [row["kind"] for row in figures["rows"]] == list(KINDS)
    assert all(row["cost"] <= 0.5 for row in figures["rows"] if row["error"] is not None)
    assert figures["solve"]["converged"]
    assert figures["solve"]["relative_difference"] < 1e-6
    assert (here / figures["picture"]).exists()


def test_compare_to_a_tolerance(here, capsys):
    words = ["compare", "low.npy", "--tol", "1e-3"]
    status, out, _ = run(capsys, *words, "--json")
    figures = json.loads(out)
    assert status == 0
    assert (figures["budget"], figures["tol"]) == (None, 1e-3)
    assert all(row["error"] <= 1e-3 for row in figures["rows"])
    assert "within a relative error of 0.001" in run(capsys, *words)[1]


@pytest.mark.parametrize(("speed", "told"), [(0.5, True), (2.0, False)])
def test_compare_tells_when_fewer_multiplications_do_not_pay(
    here, capsys, monkeypatch, speed, told
):
    monkeypatch.setattr("structmat.cli._compare._speedup", lambda A, B: speed)
    status, out, _ = run(capsys, "compare", "low.npy", "-o", "picture.png")
    assert status == 0
    assert f"{speed:.2f}x" in out
    assert ("quick all the same" in out) == told


def test_compare_without_a_gblr_matrix(here, capsys, monkeypatch):
    np.save("single.npy", LOW.astype(np.float32) * np.float32(1.1))
    monkeypatch.setattr("structmat.kinds.registry._KINDS", {"low_rank": kind_record("low_rank")})
    status, out, _ = run(capsys, "compare", "single.npy", "--tol", "1e-12", "-o", "none.png")
    assert status == 0
    assert "none: tol = 1e-12" in out
    assert "no GBLR matrix" in out
    assert not (here / "none.png").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_compress_info_plot(here, capsys, kind):
    status, out, _ = run(
        capsys, "compress", "low.npy", "--to", kind, "--budget", "0.6", "-o", "out", "--json"
    )
    figures = json.loads(out)
    assert status == 0
    A = structmat.load("out")
    assert A.kind == kind
    assert figures["cost"] == A.cost <= 0.6 * LOW.size
    error = np.linalg.norm(A.to_dense() - LOW) / np.linalg.norm(LOW)
    np.testing.assert_allclose(figures["error"], error, rtol=1e-6, atol=1e-12)
    status, out, _ = run(capsys, "info", "out", "--json")
    assert json.loads(out)["kind"] == kind
    assert json.loads(out)["shape"] == [40, 32]
    status, out, _ = run(capsys, "plot", "out", "-o", "out.svg")
    assert status == 0
    assert "<svg" in (here / "out.svg").read_text()


def test_compress_to_a_tolerance(here, capsys):
    status, out, _ = run(
        capsys, "compress", "low.npy", "--to", "low_rank", "--tol", "1e-6", "-o", "b.npz"
    )
    assert status == 0
    assert "written to b.npz" in out
    assert structmat.load("b.npz").rank == 3


def test_half_of_a_symmetric_matrix_is_stored(here, capsys):
    A = LOW @ LOW.T
    np.save("symmetric.npy", A)
    words = ["--to", "low_rank", "--tol", "1e-9", "-o", "half.npz"]
    status, out, _ = run(capsys, "compress", "symmetric.npy", *words, "--symmetric", "--json")
    assert status == 0
    B = structmat.load("half.npz")
    assert B.hermitian
    assert json.loads(out)["storage"] == B.storage == 3 * 40 + 3
    np.testing.assert_allclose(B.to_dense(), A, atol=1e-9 * np.linalg.norm(A))
    # One that is not is refused, and nothing is written.
    status, _, err = run(capsys, "compress", "low.npy", *words[:-1], "other.npz", "--symmetric")
    assert status == 1
    assert "expected a square one" in err
    assert not (here / "other.npz").exists()
    with pytest.raises(SystemExit):
        main(["compress", "--help"])
    assert "--tol 1e-6 --symmetric" in capsys.readouterr().out


def test_formats(here, capsys):
    np.savez("two.npz", a=LOW, b=LOW[:4])
    scipy.io.mmwrite("m.mtx", scipy.sparse.coo_array(LOW))
    scipy.sparse.save_npz("s.npz", scipy.sparse.csr_array(LOW))
    for words in (["two.npz", "--key", "a"], ["m.mtx"], ["s.npz"]):
        words = ["compress", *words, "--to", "low_rank", "--budget", "0.5", "-o", "c.npz"]
        assert run(capsys, *words)[0] == 0
        np.testing.assert_allclose(structmat.load("c.npz").to_dense(), LOW, atol=1e-9)


REFUSED = {
    "no file": (["info", "nothing.npz"], "nothing.npz"),
    "which array": (["compare", "two.npz"], "choose one of them with --key"),
    "no such array": (["compare", "two.npz", "--key", "z"], "there is no 'z'"),
    "not a matrix": (["compare", "text.npy"], "numbers in text become one with numpy.save"),
    "not ours": (["info", "low.npy"], "not a structmat file"),
    "foreign archive": (["plot", "two.npz", "-o", "p.png"], "no structmat header"),
    "nan": (["compress", "nan.npy", "--budget", "0.5", "-o", "o"], "finite"),
    "strings": (["compress", "words.npy", "--budget", "0.5", "-o", "o"], "dtype"),
    "unwritable": (["compress", "low.npy", "--budget", "0.5", "-o", "no/such/o"], "cannot write"),
    "key of no archive": (["compare", "low.npy", "--key", "a"], "goes with an .npz file"),
    "no such tolerance": (
        ["compress", "noise.npy", "--to", "low_rank", "--tol", "0", "-o", "o"],
        "0 wanted, but full rank 9 reaches only",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(here, capsys, name):
    np.savez("two.npz", a=LOW, b=LOW)
    np.save("nan.npy", np.full((4, 4), np.nan))
    np.save("words.npy", np.full((4, 4), "x"))
    np.save("noise.npy", rng.standard_normal((9, 9)))
    (here / "text.npy").write_text("1 2 3")
    words, message = REFUSED[name]
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert err.startswith("structmat: ")
    assert message in err
    assert not (here / "o").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "--budget", "lots"], "'lots'; expected a share of the dense cost"),
        (["compare", "--budget", "1.5"], "'1.5'; expected a share of the dense cost"),
        (["compare", "--seed", "-1"], "expected a whole number"),
        (["compare", "--seed", "inf"], "expected a whole number"),
        (["compress", "x.npy", "--tol", "nan", "-o", "o"], "expected a relative error"),
        (["compress", "x.npy", "--to", "toeplitz", "--tol", "1", "-o", "o"], "invalid choice"),
        (["compress", "x.npy", "-o", "o"], "required"),
        ([], "required"),
    ],
)
def test_words_that_mean_nothing(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_failed_write_leaves_the_old_file(here, capsys, monkeypatch):
    (here / "old").write_bytes(b"precious")

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    status, _, err = run(capsys, "compress", "low.npy", "--budget", "0.5", "-o", "old")
    assert status == 1
    assert "No space left" in err
    assert (here / "old").read_bytes() == b"precious"
    assert sorted(p.name for p in here.iterdir()) == ["low.npy", "old"]


def test_quiet_in_a_pipe_and_a_bar_on_a_terminal(here, monkeypatch, capsys):
    command = [sys.executable, "-m", "structmat", "compare", "low.npy", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    json.loads(done.stdout)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("structmat._progress.DELAY", 0.0)
    assert main(["compress", "low.npy", "--to", "low_rank", "--budget", "0.5", "-o", "o"]) == 0
    assert "%" in capsys.readouterr().err


def test_pictures_are_optional(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, _ = run(capsys, "compare", "low.npy")
    assert status == 0
    assert "structmat[plot]" in out
    run(capsys, "compress", "low.npy", "--to", "low_rank", "--budget", "0.5", "-o", "o")
    status, _, err = run(capsys, "plot", "o", "-o", "p.png")
    assert status == 1
    assert "structmat[plot]" in err


@pytest.mark.parametrize("shape", [(5, 4), (0, 3), (3, 0)])
def test_zero_and_empty_matrices(here, capsys, shape):
    np.save("zero.npy", np.zeros(shape))
    status, out, err = run(capsys, "compare", "zero.npy")
    assert (status, err) == (0, "")
    assert "no system solved" in out


def test_a_sparse_matrix_too_large_to_be_dense(here, capsys, monkeypatch):
    monkeypatch.setattr("structmat.cli._compare.DENSE_ENTRIES", 10)
    scipy.io.mmwrite("m.mtx", scipy.sparse.coo_array(LOW))
    status, _, err = run(capsys, "compare", "m.mtx")
    assert status == 1
    assert "too large to be made dense" in err
    words = ["compress", "m.mtx", "--to", "low_rank", "--budget", "0.5", "-o", "o"]
    assert run(capsys, *words)[0] == 0


def test_a_missing_folder_is_found_before_the_work(here, capsys):
    status, _, err = run(capsys, "compare", "low.npy", "-o", "no/such/a.png")
    assert status == 1
    assert "cannot write 'no/such/a.png'" in err


def test_a_tolerance_that_costs_more_than_dense_is_told(here, capsys):
    np.save("noise.npy", rng.standard_normal((20, 20)))
    words = ["compress", "noise.npy", "--to", "low_rank", "--tol", "1e-3", "-o", "o"]
    assert "costs more than the dense matrix" in run(capsys, *words)[1]


def test_a_budget_that_leaves_nothing_is_told(here, capsys):
    words = ["compress", "low.npy", "--budget", "1e-9", "-o", "o"]
    status, out, err = run(capsys, *words)
    assert (status, err) == (0, "")
    assert "the result is the zero matrix: a budget of 1e-09 is 0 of" in out


def test_a_sparse_file_is_compared_like_its_dense_form(here, capsys):
    scipy.io.mmwrite("m.mtx", scipy.sparse.coo_array(LOW))
    tables = [
        json.loads(run(capsys, "compare", name, "--budget", "0.5", "--json")[1])["rows"]
        for name in ("low.npy", "m.mtx")
    ]
    costs = [[(row["kind"], row["cost"]) for row in rows] for rows in tables]
    assert costs[0] == costs[1]


def test_a_system_too_large_for_the_dense_solution_is_solved_all_the_same(
    here, capsys, monkeypatch
):
    monkeypatch.setattr("structmat.cli._compare._DENSE_SOLVE", 10)
    status, out, _ = run(capsys, "compare", "low.npy", "--budget", "0.5")
    assert status == 0
    assert "iterations" in out
    assert "dense solution" not in out


def test_an_interrupt_ends_with_its_own_status(here, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("structmat.cli._matrices.read_matrix", interrupted)
    words = ["compress", "low.npy", "--to", "low_rank", "--budget", "0.5", "-o", "o"]
    assert run(capsys, *words) == (130, "", "structmat: interrupted\n")


@pytest.mark.parametrize("name", ["picture.xyz", "picture.png"])
def test_a_picture_that_cannot_be_written_is_refused(here, capsys, name):
    run(capsys, "compress", "low.npy", "--to", "low_rank", "--budget", "0.5", "-o", "o")
    (here / "picture.png").mkdir()
    status, _, err = run(capsys, "plot", "o", "-o", name)
    assert status == 1
    assert "cannot write" in err
    assert f"{name!r}" in err
    assert (".png, .svg or .pdf" in err) == (name == "picture.xyz")


@pytest.mark.parametrize("ending", ["npz", "npy"])
def test_the_only_array_of_a_file_needs_no_key(here, ending):
    np.savez("one.npz", A=LOW)
    np.testing.assert_array_equal(read_matrix({"npz": "one.npz", "npy": "low.npy"}[ending]), LOW)


@pytest.mark.parametrize("name", ["short.npy", "short.npz", "short.mtx"])
def test_a_damaged_file_names_the_fault(here, capsys, name):
    whole = (here / "low.npy").read_bytes()
    (here / name).write_bytes(whole[:200])
    status, _, err = run(capsys, "info", name)
    assert status == 1
    words = ["compress", name, "--to", "low_rank", "--budget", "0.5", "-o", "o"]
    status, _, err = run(capsys, *words)
    assert status == 1
    assert f"{name!r} cannot be read: " in err
    assert "expected a matrix as .npy, .npz or Matrix Market" in err
    assert "numbers in text" not in err


def test_learning_in_several_processes_is_refused(here, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = run(capsys, "learn", "-o", "several")
    assert status == 1
    assert "started in 2 processes (WORLD_SIZE)" in err
    assert "start it without torchrun" in err
    assert not (here / "several").exists()


def test_learning_without_torch_names_the_extra(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    status, _, err = run(capsys, "learn")
    assert status == 1
    assert "install what learning needs with pip install 'structmat[learn]'" in err


def test_trainings_show_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, capsys):
    with training_bar() as advance:
        for done in (0.1, 0.2):
            advance("gblr, seed 0", done, 0.5)
    assert capsys.readouterr().err == " 10 %  gblr, seed 0\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    drawn = []
    monkeypatch.setattr("tqdm.tqdm.set_description_str", lambda self, text, **_: drawn.append(text))
    update = tqdm.tqdm.update
    monkeypatch.setattr("tqdm.tqdm.update", lambda self, n: drawn.append(n) or update(self, n))
    with training_bar() as advance:
        advance("gblr, seed 0", 0.5, 0.25)
        advance("gblr, seed 0", 0.75, 0.125)
    first, second = (f"gblr, seed 0: loss {loss}" for loss in ("0.250", "0.125"))
    assert drawn == [first, 0.5, second, 0.25]
    assert "\n" not in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with training_bar() as advance:
        advance("gblr, seed 1", 0.5, 0.25)
    assert " 50 %  gblr, seed 1\n" in capsys.readouterr().err


def test_scores_of_several_seeds_have_a_spread():
    assert _learn_text._spread([0.5]) == "0.5000"
    assert _learn_text._spread([0.5, 0.7]) == "0.6000 ± 0.1414"
