"""The benchmarks run from end to end on tiny sizes, check what they measure, and report."""

import contextlib
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import structmat
from benchmarks import __main__, machine, results
from benchmarks.micro import (
    compression,
    data,
    gblr,
    inputs,
    kernels,
    layer_tables,
    layers,
    memory,
    peer_products,
    product_tables,
    products,
    report,
    rivals,
    settings,
    structures,
    suites,
    targets,
    threads,
    timing,
    training,
)
from structmat.nn import gaudi_mask

TINY = replace(
    products.QUICK,
    sizes=(64, 128),
    costs=(0.25,),
    columns=(1, 8),
    dtypes={"float32": 128, "float64": 64},
    learned=((64, 0.25),),
    others=((64, 0.25),),
    compressed=((32, 0.25),),
    peers=(64,),
    threads=((64, 1), (64, 8)),
    growth=(128, 256),
    seconds=0.0001,
)
LAYERS = replace(
    layers.QUICK, masks=((40, 8),), cpu=((24, 48, 1), (24, 48, 8)), costs=(0.25,), seconds=0.001
)
TRAINING = replace(training.QUICK, cpu=((24, 48, 8),), seconds=0.0001)


def tiny_cases():
    def skipped(_rng):
        raise results.Skip("not here")

    small = inputs.MatrixCase(
        "table", "noise | small", lambda rng: inputs.noise(16, 20, rng), [0.3], 0.9, 9, True, True
    )
    return [small, inputs.MatrixCase("data", "absent", skipped, [0.2])]


def make_tiny(monkeypatch, plan=TINY):
    for name in ("QUICK", "FULL"):
        monkeypatch.setattr(products, name, plan)
        monkeypatch.setattr(compression, name, compression.CompressionPlan(tiny_cases, 0.1))
        monkeypatch.setattr(layers, name, LAYERS)
        monkeypatch.setattr(training, name, TRAINING)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Folder of the results of all suites, and what was printed meanwhile."""
    folder, out, err = tmp_path_factory.mktemp("measured") / "out", io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_tiny(monkeypatch)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert __main__.main(["all", "--output", str(folder), "--seeds", "2"]) == 0
    return folder, out.getvalue(), err.getvalue()


def test_all_suites_run_and_the_page_comes_from_their_files(measured, tmp_path, monkeypatch):
    folder, out, err = measured
    page = tmp_path / "benchmarks.md"
    monkeypatch.setattr(report, "PAGE", page)
    assert "products: about" in out
    assert "GBLR in detail" in out
    assert err == ""
    assert __main__.main(["report", "--output", str(folder)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "\n# Benchmarks\n" in text
    assert "`python -m benchmarks compression --seeds 2`" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table
    assert "noise \\| small" in text
    assert "Left out: absent (not here)." in text
    assert "| over dense, Gaudi, shrunk, 25 % of the cost | 1 | " in text
    assert "| over the share, GPU, bfloat16, one row | 1.2 | – | not measured |" in text
    assert "| masks, forward and backward, over the Fourier formula | 0.0667 | " in text
    assert (
        "| over the share, one vector, n ≥ 4096, 2 threads | 1.2 | – | not measured | – |" in text
    )
    assert "\n## On a GPU\n" in text
    assert "| CuPy, any columns, any n | 170 | 1.05 | – | not measured | – |" in text
    pictures = re.findall(r"!\[.+\]\((.+)\)", text)
    assert len(pictures) == 3
    for picture in pictures:
        drawn = (tmp_path / picture).read_bytes()
        assert drawn.startswith(b"\x89PNG")
        assert len(drawn) < 30_000
    result = suites.read(folder, "products")
    assert "These checks failed" not in report.render([result], {})
    assert "- a wrong one\n" in report.render([result | {"failures": ["a wrong one"]}], {})


def test_quick_suites_are_named_so(monkeypatch, tmp_path):
    make_tiny(monkeypatch)
    assert __main__.main(["compression", "--quick", "--output", str(tmp_path)]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["compression.quick.json"]
    assert json.loads((tmp_path / "compression.quick.json").read_text(encoding="utf-8"))["quick"]


def test_files_follow_the_schema_and_name_no_machine(measured):
    folder, *_ = measured
    names = ["compression", "layers", "learned", "products", "training"]
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}.json" for name in names]
    for suite in names:
        text = (folder / f"{suite}.json").read_text(encoding="utf-8")
        assert str(folder) not in text
        assert "NaN" not in text
        result = json.loads(text)
        assert set(result) == set(suites.KEYS)
        assert result["suite"] == suite
        assert result["quick"] is False
        assert result["failures"] == []
        assert {"cpu", "cores", "threads", "python", "numpy", "scipy", "blas", "date"} <= set(
            result["machine"]
        )
    rows = json.loads((folder / "products.json").read_text(encoding="utf-8"))["rows"]
    kinds = {"gblr", "block_sparse", "block_low_rank", "low_rank", "monarch"}
    timed = [row for row in rows if row["what"] == "product"]
    assert {row["kind"] for row in timed} == kinds
    assert all(row["over_dense"] > 0 and row["rounds"] >= 3 for row in timed)
    ours = [row for row in timed if row["kind"] == "gblr"]
    assert {row["source"] for row in ours} == {"random", "grid", "uneven", "compressed"}
    assert all(set(row["over"]) == {"csr_pair", "low_rank"} for row in ours)
    assert all({row["kernel"], row["best"]} <= set(row["kernels"]) for row in ours)
    assert all(row["over_best"] >= 1 or row["kernel"] != row["best"] for row in ours)
    assert all(("over_read" in row) == (row["columns"] == 1) for row in timed)
    assert {(row["n"], row["dtype"]) for row in ours if row["source"] == "random"} == {
        (64, "float32"), (64, "float64"), (128, "float32"),
    }  # fmt: skip
    besides = [r for r in timed if r["kind"] != "gblr" or r["source"] in ("grid", "uneven")]
    assert {(row["n"], row["dtype"]) for row in besides} == {(64, "float32")}
    own = [row for row in ours if row["source"] == "random"]
    assert all(min(row["call_over_dense"], row["bytes_over_dense"]) > 0 for row in own)
    split = [row for row in rows if row["what"] == "threads" and "skipped" not in row]
    assert {(row["n"], row["columns"]) for row in split if row["threads"] == 1} == {
        (64, 1), (64, 8),
    }  # fmt: skip
    growth = [row for row in rows if row["what"] == "growth"]
    assert [row["n"] for row in growth] == [128, 256]
    assert growth[0]["over_first"] == 1
    rows = json.loads((folder / "layers.json").read_text(encoding="utf-8"))["rows"]
    assert {row["what"] for row in rows} == {"masks", "frozen"}
    assert all(row["bytes_over_formula"] > 0 for row in rows if row["what"] == "masks")
    learned = json.loads((folder / "learned.json").read_text(encoding="utf-8"))["rows"]
    assert all(row["bytes_over_dense"] > 0 for row in learned)
    assert all(row["over_dense"] > 0 for row in rows if row["what"] != "masks")
    rows = json.loads((folder / "training.json").read_text(encoding="utf-8"))["rows"]
    assert {row["layer"] for row in rows} == {
        *training.layers_of(24, 48, 0.25),
        *training.starts(24, 48),
    }
    assert all(row["over_dense"] > 0 and row["device"] == "cpu" for row in rows)
    assert all(row["cost"] <= 0.26 for row in rows if "splr" not in row["layer"])
    rows = json.loads((folder / "compression.json").read_text(encoding="utf-8"))["rows"]
    ours = [row for row in rows if row.get("method") == "structmat"]
    assert {row["kind"] for row in ours} == kinds | {"hierarchical"}
    assert all(row["cost"] <= row["budget"] for row in ours if "skipped" not in row)
    assert all("memory" in row for row in ours if "skipped" not in row)
    assert {row["method"] for row in rows if "method" in row} == {
        "structmat",
        *compression.peers.METHODS,
    }
    assert {"group": "data", "matrix": "absent", "skipped": "not here"} in rows


@pytest.mark.parametrize(
    "make",
    [
        gblr.random_gblr,
        gblr.grid_gblr,
        gblr.uneven_gblr,
        structures.random_block_sparse,
        structures.random_block_low_rank,
        structures.random_low_rank,
        structures.random_monarch,
    ],
)
@pytest.mark.parametrize("cost", [0.05, 0.125, 0.5])
def test_structures_equal_their_reference_and_keep_the_cost(make, cost):
    subject = make(128, cost, np.random.default_rng(0))
    dense = subject.matrix.to_dense()
    np.testing.assert_allclose(subject.reference(np.eye(128)), dense, rtol=0, atol=1e-11)
    assert 0.6 * cost < subject.matrix.relative_cost <= max(cost, 0.125)
    assert subject.size == pytest.approx(np.linalg.norm(dense), rel=0.1)
    x = np.arange(128.0)
    for rival in subject.rivals.values():
        np.testing.assert_allclose(rival("float64")(x), dense @ x, rtol=0, atol=1e-9)


def test_learned_structures_are_as_they_say():
    grid = gblr.grid_gblr(256, 0.25, np.random.default_rng(0)).matrix
    assert (grid.to_dense() != 0).all()
    assert set(grid.row_width) == set(grid.col_width) == {8}
    uneven = gblr.uneven_gblr(256, 0.25, np.random.default_rng(0)).matrix
    assert uneven.row_width.min() == 0
    assert uneven.row_width.max() == 256
    assert np.median(uneven.row_width) < 0.7 * uneven.row_width.mean()


def test_a_wrong_product_fails_the_run(monkeypatch, tmp_path, capsys):
    nothing = {"learned": (), "compressed": (), "peers": (), "threads": (), "growth": (128,)}
    make_tiny(monkeypatch, replace(TINY, columns=(8,), dtypes={"float64": 64}, **nothing))
    good = structures.random_low_rank

    def wrong(n, cost, rng):
        subject = good(n, cost, rng)
        return replace(subject, reference=lambda x: subject.reference(x) + 1e-2)

    monkeypatch.setattr(structures, "random_low_rank", wrong)
    assert __main__.main(["products", "--quick", "--output", str(tmp_path)]) == 1
    assert "LowRank" in capsys.readouterr().err
    result = json.loads((tmp_path / "products.quick.json").read_text(encoding="utf-8"))
    assert result["failures"]


def test_one_wrong_kernel_of_many_is_found(monkeypatch):
    def wrong(matrix, columns):
        found = kernels.forced(matrix, columns)
        return found | {"panels": lambda x: found["panels"](1.001 * x)}

    monkeypatch.setattr(products, "forced", wrong)
    suite, plan = suites.Suite("products", [0]), replace(TINY, columns=(8,))
    subjects = [gblr.random_gblr(64, 0.25, np.random.default_rng(0))]
    products._measure(suite, plan, 64, 0.25, "float64", subjects, 0)
    assert len(suite.failures) == 1
    assert "kernel panels: error" in suite.failures[0]


def test_kernels_that_would_take_long_are_left_out(monkeypatch):
    A = gblr.random_gblr(128, 0.25, np.random.default_rng(0)).matrix
    every = kernels.forced(A, 4)
    assert {"panels", "rows", "dense"} <= set(every)
    np.testing.assert_allclose(every["rows"](np.ones(128)), (A @ np.ones(128))[:, None])
    monkeypatch.setattr(kernels, "DENSE_ENTRY_LIMIT", 128 * 128 - 1)
    assert set(kernels.forced(A, 4)) == set(every) - {"dense"}
    monkeypatch.undo()
    monkeypatch.setattr(kernels, "SLOW_SECONDS", 0.0)
    assert 0 < len(kernels.forced(A, 4)) < len(every)


def test_large_operands_and_products_are_left_out(monkeypatch):
    suite = suites.Suite("products", [0])
    plan = replace(TINY, columns=(1, 2, 4, 8), multiplications=64 * 64 * 4)
    subjects = [gblr.random_gblr(64, 0.25, np.random.default_rng(0))]
    for dtype, columns in (("float32", [1, 2, 4]), ("float64", [1, 2])):
        products._measure(suite, plan, 64, 0.25, dtype, subjects, 0)
        assert [r["columns"] for r in suite.rows if r["dtype"] == dtype] == columns
    monkeypatch.setattr(products, "OPERAND_BYTE_LIMIT", 64 * 4)
    products._measure(suite, plan, 64, 0.25, "float32", subjects, 0)
    assert suite.rows[-1]["columns"] == 1
    groups = products._groups(replace(TINY, scalars=64 * 64 * 0.25, compressed=()))
    assert [n for n, *_ in groups] == [64]


def test_reading_reads_everything():
    name, read = memory.reader()
    assert name in ("compiled sum", "numpy.max")
    assert read(np.arange(5, dtype=np.float32)) in (10, 4)


def test_targets_say_whether_they_were_met():
    rows = [{"budget": b, "over_dense": t, "cost": 0.1} for b, t in ((0.1, 0.12), (0.1, 0.1))]
    rows += [{"budget": 0.5, "over_dense": 0.2, "cost": 0.1}]
    worst = targets.worst_of(rows, targets.over_share)
    assert worst == {"10 %": pytest.approx(1.2), "50 %": pytest.approx(2)}
    bounds = {"10 %": "0.5 by bytes", "50 %": "0.9 by bytes"}
    for limit, met, bound in (
        (2, "met", "–"),
        (1.5, "missed, met at 10 %", "0.9 by bytes (50 %)"),
        (1, "missed", "0.5 by bytes (10 %); 0.9 by bytes (50 %)"),
    ):
        line = targets.RatioTarget("it", limit, worst, bounds).line()
        assert line == ["it", f"{limit}", "1.2 (10 %), 2 (50 %)", met, bound]
    assert targets.RatioTarget("it", 1, {}).line()[2:] == ["–", "not measured", "–"]
    assert targets.RatioTarget("it", 1, {"a": np.nan}).verdict == "missed"


def product_row(**row):
    return {
        "what": "product", "n": 4096, "budget": 0.25, "cost": 0.25, "dtype": "float32",
        "columns": 1, "over_dense": 0.27,
    } | row  # fmt: skip


def test_targets_of_products_stand_at_each_number_of_threads():
    rows = [
        product_row(over_dense=0.27),
        product_row(n=1024, over_dense=0.5),
        product_row(columns=256, n=3072, over_dense=0.3),
        product_row(columns=2048, n=768, over_dense=0.5),
        product_row(threads=2, over_dense=0.4),
        # Beside every limit: other costs, sizes and columns.
        *(product_row(**other, over_dense=9) for other in ({"budget": 0.05}, {"n": 2048})),
        *(product_row(**other, over_dense=9) for other in ({"columns": 64}, {"columns": 8192})),
    ]
    lines = {target.what: target for target in product_tables.share_targets(rows)}
    assert [(target.limit, target.verdict) for target in lines.values()] == [
        (1.2, "met"), (1.5, "missed"), (1.3, "met"), (1.6, "missed"),
        (1.2, "missed"), *[(limit, "not measured") for limit in (1.5, 1.3, 1.6)],
    ]  # fmt: skip
    assert [what.rpartition(", ")[2] for what in lines] == ["1 thread"] * 4 + ["2 threads"] * 4


def test_bounds_stand_beside_misses():
    row = product_row(bytes_over_dense=0.2, call_over_dense=0.5)
    assert targets.share_bound(row) == "0.8 by bytes, 1 by operations, 2 by the call"
    earlier = product_row(over_dense=0.6, over_read=6)
    assert targets.share_bound(earlier) == "0.4 by bytes, 1 by operations"
    assert targets.layer_bound({"cost": 0.02, "bytes_over_dense": 0.3}) == (
        "0.3 by bytes, 0.02 by operations"
    )
    masks = {"n": 768, "formula_over_table": 10.0}
    assert targets.masks_bound(masks) == "not measured"
    missed = layer_tables.masks_target([masks | {"bytes_over_formula": 0.04}])
    assert missed.line()[2:] == ["0.1 (n = 768)", "missed", "0.04 by bytes (n = 768)"]
    assert layer_tables.masks_target([masks | {"formula_over_table": 15.1}]).verdict == "met"


def test_two_threads_need_two_processors(monkeypatch):
    suite = suites.Suite("products", [0])
    monkeypatch.setattr(threads, "processors", lambda: 1)
    monkeypatch.setenv("STRUCTMAT_NUM_THREADS", "7")
    threads.run(suite, [(64, 1)], 0.0, 1, 0)
    assert [row["threads"] for row in suite.rows] == [1, 1, 2]
    assert suite.rows[-1]["skipped"] == "1 processors"
    assert "Left out: 2 (1 processors)." in product_tables.threads_table(suite.rows).note
    assert structmat.kernels.num_threads() == 7


def test_wrong_layers_are_found():
    setting = settings.Setting((24, 48, 8), "cpu", "float32", 1)

    def failures(layer):
        suite = suites.Suite("training", [0])
        training._measure(suite, TRAINING, setting, {"layer": layer})
        return [failure.rpartition(": ")[2].partition(" off")[0] for failure in suite.failures]

    layer = rivals.LowRankLinear(24, 48, 0.25)
    assert failures(layer) == []
    layer[0].weight.register_hook(lambda grad: 1.01 * grad)
    assert failures(layer) == ["gradient of 0.weight"]

    class Wrong(rivals.LowRankLinear):
        def forward(self, x):
            return super().forward(1.001 * x)

    assert failures(Wrong(24, 48, 0.25)) == [
        "output",
        "gradient of the input",
        "gradient of 0.weight",
        "gradient of 1.weight",
    ]


@pytest.mark.parametrize("n", [24, 25])
def test_masks_by_the_formula_are_those_of_the_tables(n):
    width, location = torch.rand(2, 9, generator=torch.Generator().manual_seed(0))
    for sigma in (2.0, 100.0):
        mask = rivals.fourier_mask(width, location, n, sigma)
        torch.testing.assert_close(
            mask, gaudi_mask(width, location, n, sigma=sigma), atol=1e-5, rtol=0
        )


def test_a_gpu_is_measured_where_there_is_one(monkeypatch):
    shapes = {"cpu": [(2, 3, 4)], "gpu": [(5, 6, 7)], "threads": [1, 2]}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ours = settings.settings(**shapes)
    assert [(s.device, s.threads) for s in ours] == [("cpu", 1), ("cpu", 2)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [(s.shape, s.device, s.dtype) for s in settings.settings(**shapes)[2:]] == [
        ((5, 6, 7), "cuda", "bfloat16"),
        ((5, 6, 7), "cuda", "float32"),
    ]


def test_the_gpu_clock_counts_calls_alone_with_empty_caches(monkeypatch):
    done = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            done.append("event")

        def elapsed_time(self, end):
            return 3.0 if done[-1] == "synchronize" else 1e9

    class Filler:
        def zero_(self):
            done.append("filler")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("synchronize"))
    monkeypatch.setattr(settings, "_filler", Filler)
    assert settings.cuda_clock(lambda: done.append("call"), 2) == pytest.approx(3e-3)
    assert done == ["filler", "event", "call", "event"] * 2 + ["synchronize"]


def test_threads_are_limited_and_given_back(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("STRUCTMAT_NUM_THREADS", "7")
    with settings.limited(2):
        assert torch.get_num_threads() == structmat.kernels.num_threads() == 2
    assert torch.get_num_threads() == before
    assert structmat.kernels.num_threads() == 7


def test_an_exceeded_budget_and_a_false_error_are_found():
    A = np.random.default_rng(0).standard_normal((12, 10))
    reference = compression.Reference.of(A, 0.5)
    result = structmat.compress(A, "low_rank", budget=0.5)
    error = reference.error(result.matrix.to_dense())
    assert reference.svd_error == pytest.approx(error)
    suite = suites.Suite("compression", [0])
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
        (["report", *out], "run it again"),
    ):
        assert __main__.main(arguments) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "products.json").write_text('{"schema": 0}')
    assert __main__.main(["report", *out]) == 2
    assert "no result of this version" in capsys.readouterr().err
