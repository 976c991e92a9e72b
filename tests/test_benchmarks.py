"""The benchmarks run from end to end on tiny sizes, check what they measure, and report."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import structmat
from benchmarks import (
    __main__,
    compression,
    data,
    inputs,
    layers,
    learning,
    machine,
    peer_products,
    products,
    report,
    results,
    structures,
    timing,
)

TINY = replace(
    products.QUICK,
    sizes=(64,),
    costs=(0.25,),
    columns=(1, 8),
    dtypes=("float32", "float64"),
    compressed=((32, 0.25),),
    peers=(64,),
    seconds=0.001,
)


LAYERS = layers.Plan(
    masks=((40, 8),), layer=(24, 48), tokens=8, frozen_tokens=(1, 8), costs=(0.25,),
    seconds=0.001, least=3, minutes=0.1,
)  # fmt: skip
LEARNING = learning.Plan(budgets=(0.1, 0.05), seeds=1, epochs=1, minutes=0.1)
CASES = [c for c in learning.CASES if c.name in ("dense", "pixelfly", "GBLR")]


def tiny_cases():
    def skipped(_rng):
        raise results.Skip("not here")

    small = inputs.Case(
        "table", "noise | small", lambda rng: inputs.noise(16, 20, rng), [0.3], 0.9, 9, True, True
    )
    return [small, inputs.Case("data", "absent", skipped, [0.2])]


@pytest.fixture
def _tiny(monkeypatch):
    for name in ("QUICK", "FULL"):
        monkeypatch.setattr(products, name, TINY)
        monkeypatch.setattr(compression, name, compression.Plan(tiny_cases, 0.1))
        monkeypatch.setattr(layers, name, LAYERS)
        monkeypatch.setattr(learning, name, LEARNING)
    monkeypatch.setattr(learning, "CASES", CASES)


@pytest.mark.usefixtures("_tiny")
def test_all_suites_run_and_the_page_comes_from_their_files(tmp_path, monkeypatch, capsys):
    page = tmp_path / "benchmarks.md"
    monkeypatch.setattr(report, "PAGE", page)
    assert __main__.main(["--output", str(tmp_path / "out"), "--seeds", "2"]) == 0
    shown = capsys.readouterr()
    assert "products: about" in shown.out
    assert "GBLR in detail" in shown.out
    assert shown.err == ""
    assert __main__.main(["report", "--output", str(tmp_path / "out")]) == 0
    text = page.read_text(encoding="utf-8")
    assert "\n# Benchmarks\n" in text
    assert "`python -m benchmarks compression --seeds 2`" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table
    assert "noise \\| small" in text
    assert "Left out: absent (not here)." in text
    assert "| pixelfly | " in text
    assert "no such matrix" in text
    result = results.read(tmp_path / "out", "products")
    assert "These checks failed" not in report.render([result])
    assert "- a wrong one\n" in report.render([result | {"failures": ["a wrong one"]}])


@pytest.mark.usefixtures("_tiny")
def test_files_follow_the_schema_and_name_no_machine(tmp_path):
    assert __main__.main(["all", "--quick", "--output", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "compression.quick.json",
        "layers.quick.json",
        "learning.quick.json",
        "products.quick.json",
    ]
    for suite in ("products", "compression", "layers", "learning"):
        text = (tmp_path / f"{suite}.quick.json").read_text(encoding="utf-8")
        assert str(tmp_path) not in text
        assert "NaN" not in text
        result = json.loads(text)
        assert set(result) == set(results.KEYS)
        assert result["suite"] == suite
        assert result["quick"] is True
        assert result["failures"] == []
        assert {"cpu", "cores", "threads", "python", "numpy", "scipy", "blas", "date"} <= set(
            result["machine"]
        )
    rows = json.loads((tmp_path / "products.quick.json").read_text(encoding="utf-8"))["rows"]
    kinds = {"gblr", "block_sparse", "block_low_rank", "low_rank", "monarch"}
    timed = [row for row in rows if "peer" not in row]
    assert {row["kind"] for row in timed} == kinds
    assert all(row["over_dense"] > 0 and row["rounds"] >= 3 for row in timed)
    assert all(set(row["over"]) == {"csr_pair"} for row in timed if row["kind"] == "gblr")
    rows = json.loads((tmp_path / "layers.quick.json").read_text(encoding="utf-8"))["rows"]
    assert {row["what"] for row in rows} == {"masks", "training", "frozen"}
    assert all(row["over_dense"] > 0 for row in rows if row["what"] != "masks")
    rows = json.loads((tmp_path / "learning.quick.json").read_text(encoding="utf-8"))["rows"]
    learned = [row for row in rows if row["case"] == "GBLR"]
    assert len(learned) == 2
    assert {row["case"] for row in rows} >= {"dense", "GBLR", learning.TRANSFER}
    assert all("accuracy" in row for row in rows if row["case"] != "pixelfly")
    rows = json.loads((tmp_path / "compression.quick.json").read_text(encoding="utf-8"))["rows"]
    ours = [row for row in rows if row.get("method") == "structmat"]
    assert {row["kind"] for row in ours} == kinds
    assert all(row["cost"] <= row["budget"] for row in ours if "skipped" not in row)
    assert all("memory" in row for row in ours if "skipped" not in row)
    assert {row["method"] for row in rows if "method" in row} == {
        "structmat",
        *compression.peers.METHODS,
    }
    assert {"group": "data", "matrix": "absent", "skipped": "not here"} in rows


@pytest.mark.parametrize("kind", ["gblr", "block_sparse", "block_low_rank", "low_rank", "monarch"])
@pytest.mark.parametrize("cost", [0.05, 0.125, 0.5])
def test_random_structures_equal_their_dense_form_and_keep_the_cost(kind, cost):
    built = getattr(structures, f"random_{kind}")(128, cost, np.random.default_rng(0))
    np.testing.assert_allclose(built.matrix.to_dense(), built.dense, rtol=0, atol=1e-11)
    assert 0 < built.matrix.relative_cost <= max(cost, 0.125)
    for make in built.rivals.values():
        x = np.arange(128.0)
        np.testing.assert_allclose(make("float64")(x), built.dense @ x, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("_tiny")
def test_a_wrong_product_fails_the_run(monkeypatch, tmp_path, capsys):
    good = structures.random_low_rank

    def wrong(n, cost, rng):
        built = good(n, cost, rng)
        return replace(built, dense=built.dense + 1e-3)

    monkeypatch.setattr(structures, "random_low_rank", wrong)
    assert __main__.main(["products", "--quick", "--output", str(tmp_path)]) == 1
    assert "LowRank" in capsys.readouterr().err
    result = json.loads((tmp_path / "products.quick.json").read_text(encoding="utf-8"))
    assert result["failures"]


def test_an_exceeded_budget_and_a_false_error_are_found():
    A = np.random.default_rng(0).standard_normal((12, 10))
    reference = compression.Reference.of(A, 0.5)
    result = structmat.compress(A, "low_rank", budget=0.5)
    error = reference.error(result.matrix.to_dense())
    assert reference.svd_error == pytest.approx(error)
    suite = results.Suite("compression", [0])
    compression._check(suite, "fine", result, error, reference)
    assert suite.failures == []
    compression._check(suite, "cost", replace(result, cost=61), error, reference)
    compression._check(suite, "error", replace(result, error=0.9 * error), error, reference)
    worse = replace(result, kind="gblr", error=1.1 * error)
    compression._check(suite, "worse", worse, 1.1 * error, reference)
    assert [failure.split(":")[0] for failure in suite.failures] == ["cost", "error", "worse"]


def test_planted_matrices_fit_their_budget():
    for seed in range(5):
        widths = inputs.planted_widths(np.random.default_rng(seed), 256, 40)
        assert widths.min() >= 1
        assert 0.079 <= widths.sum() / 256**2 <= inputs.PLANTED_COST
        A = inputs.planted(np.random.default_rng(seed))
        assert np.linalg.matrix_rank(A) <= 40


def test_times_are_taken_in_turns_and_memory_is_seen():
    turns = []
    calls = {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}
    measured = timing.interleaved(calls, seconds=0, least=3)
    assert measured.rounds == 3
    assert measured.seconds("a") > 0
    assert measured.ratio("a", "a") == 1
    # Once for each to see how long it takes, then ab, ba, ab.
    assert re.sub(r"(.)\1+", r"\1", "".join(turns)) == "ababab"
    assert 8e5 <= timing.peak_bytes(lambda: np.zeros(10**5)) < 9e5


def test_peers_that_are_absent_say_so():
    with pytest.raises(results.Skip, match="nothing is not installed"):
        peer_products.load("no_such_module_at_all", "nothing")


def test_data_are_read_from_a_folder_or_its_matrices(tmp_path):
    folder = tmp_path / "matrices"
    folder.mkdir()
    values = {"qc324_row": [0, 1], "qc324_col": [1, 0], "qc324_val": [2j, 3], "qc324_shape": [2, 2]}
    np.savez(folder / "suitesparse_small.npz", **values)
    assert data.find(tmp_path) == data.find(folder) == folder
    made = {case.name: case for case in data.cases(folder)}
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(made["qc324"].make(rng), [[0, 2j], [3, 0]])
    with pytest.raises(results.Skip, match="holds no bcsstk13"):
        made["bcsstk13"].make(rng)
    with pytest.raises(results.Skip, match=r"susy_10k\.npz is not in"):
        made["SUSY, exp(−r²/8)"].make(rng)


def test_machine_facts_hold_no_name_and_no_path():
    text = json.dumps(machine.facts())
    assert "/" not in text.replace("w/", "")
    assert machine.platform.node() not in text or not machine.platform.node()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["speed"], "invalid choice"),
        (["--seeds", "0"], "expected a whole number of at least 1"),
        (["--seeds", "many"], "expected a whole number of at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        __main__.main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_bad_folders_are_refused_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "products.json").write_text("{")
    out = ["--output", str(tmp_path)]
    for arguments, words in (
        (["all", "--data-dir", str(tmp_path / "none"), *out], "give the folder that holds them"),
        (["all", "--output", str(tmp_path / "file")], "cannot be written"),
        (["report", "--output", str(tmp_path / "none")], "run python -m benchmarks all first"),
        (["report", *out], "run the suite again"),
    ):
        assert __main__.main(arguments) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "products.json").write_text('{"schema": 0}')
    assert __main__.main(["report", *out]) == 2
    assert "no result of this version" in capsys.readouterr().err
