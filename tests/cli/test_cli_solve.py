"""`structmat solve`: solutions in files, a table of errors, refusals in one line."""

import json

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import structmat
from structmat.cli import main

N = 40


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    U = rng.standard_normal((N, 3))
    structmat.save("low.npz", structmat.LowRank(U, U))
    np.save("B.npy", rng.standard_normal((N, 2)))
    np.save("b.npy", rng.standard_normal(N))
    np.save("A.npy", rng.standard_normal((N, N)))
    np.savez("two.npz", a=np.eye(N), b=np.ones((N, N)))
    np.save("points.npy", rng.uniform(size=(N, 2)))
    np.save("cube.npy", np.ones((N, 2, 2)))
    scipy.io.mmwrite("A.mtx", scipy.sparse.diags_array(np.arange(1.0, N + 1)))
    return tmp_path


def run(capsys, *words):
    status = main(["solve", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_saved_matrix_with_a_shift(here, capsys):
    status, out, err = run(capsys, "low.npz", "--shift", "0.01", "B.npy", "-o", "X.npy")
    assert (status, err) == (0, "")
    head, _, row, written = out.splitlines()
    assert head.split() == ["method", "factorize", "solve", "steps", *head.split()[4:]]
    assert row.startswith("woodbury, rank 3")
    assert written == "40x2 float64 written to X.npy"
    S = structmat.load("low.npz").to_dense() + 0.01 * np.eye(N)
    np.testing.assert_allclose(S @ np.load("X.npy"), np.load("B.npy"), atol=1e-8)


@pytest.mark.parametrize(
    ("words", "matrix"),
    [
        (["A.npy"], lambda: np.load("A.npy")),
        (["A.npy", "--shift", "1+2j"], lambda: np.load("A.npy") + (1 + 2j) * np.eye(N)),
        (["A.mtx", "--tol", "1e-12"], lambda: np.diag(np.arange(1.0, N + 1))),
        (["two.npz", "--key", "a"], lambda: np.eye(N)),
        (
            ["points.npy", "--kernel", "exponential", "--length", "0.5", "--shift", "0.1"],
            lambda: (
                structmat.KernelMatrix(np.load("points.npy"), "exponential", length=0.5).toarray()
                + 0.1 * np.eye(N)
            ),
        ),
    ],
    ids=["array", "complex shift", "sparse", "key", "kernel"],
)
def test_other_matrices_for_machines(here, capsys, words, matrix):
    status, out, _ = run(capsys, words[0], "b.npy", *words[1:], "-o", "x", "--json")
    figures = json.loads(out)
    assert status == 0
    assert figures["shape"] == [N]
    assert 0 <= figures["backward_error"] <= figures["tol"]
    assert figures["seconds"].keys() == {"factorize", "solve"}
    np.testing.assert_allclose(matrix() @ np.load("x"), np.load("b.npy"), atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["low.npz", "B.npy"], "expected a shift"),
        (["two.npz", "--key", "b", "B.npy"], "singular"),
        (["A.npy", "cube.npy"], "expected right-hand sides (n,) or (n, k)"),
        (["A.npy", "points.npy", "--length", "1"], "goes with --kernel"),
        (["points.npy", "B.npy"], "40x2 matrix has no inverse; expected a square one"),
        (["A.npy", "two.npz"], "--key"),
    ],
)
def test_refusals_write_nothing(here, capsys, words, message):
    status, out, err = run(capsys, *words, "-o", "X.npy")
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (here / "X.npy").exists()


def test_the_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["solve", "--help"])
    assert "structmat solve OUT.npz --shift 0.01 B.npy -o X.npy\n" in capsys.readouterr().out


def test_an_old_file_survives_a_failed_write(here, capsys, monkeypatch):
    np.save("X.npy", np.ones(1))

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    status, _, err = run(capsys, "A.npy", "b.npy", "-o", "X.npy")
    assert status == 1
    assert "No space left" in err
    np.testing.assert_array_equal(np.load("X.npy"), np.ones(1))
    assert sorted(p.name for p in here.glob(".X*")) == []
