"""The experiment on real matrices: every kind under its cap, on small files of the same form."""

import json

import numpy as np
import pytest

from benchmarks.experiments import config, matrices
from benchmarks.micro import data
from benchmarks.results import BenchmarkError

ZIP, BUS = "US zip codes, exp(−r/5°)", "inverse of 1138_bus"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Points, two sparse matrices, and no other file."""
    place, rng = tmp_path_factory.mktemp("data") / "matrices", np.random.default_rng(0)
    place.mkdir()
    points = {"latlon": rng.uniform(25, 49, (60, 2)), "contiguous_us": np.arange(60) < 50}
    np.savez(place / "points_us_zipcodes.npz", **points)
    n = np.arange(40)
    sparse = {
        "1138_bus_row": np.concatenate([n, n[1:], n[:-1]]),
        "1138_bus_col": np.concatenate([n, n[:-1], n[1:]]),
        "1138_bus_val": np.concatenate([2.1 + 0 * n, -1 + 0 * n[1:], -1 + 0 * n[1:]]),
        "1138_bus_shape": [40, 40],
        "qc324_row": n, "qc324_col": n[::-1], "qc324_val": 1j + n, "qc324_shape": [40, 40],
    }  # fmt: skip
    np.savez(place / "suitesparse_small.npz", **sparse)
    return place.parent


def tiny(**changes):
    settings = {
        "matrices": [ZIP, BUS],
        "kinds": list(matrices.KINDS),
        "budgets": [0.2, 0.4],
        "size": 32,
        "seeds": [0],
    }
    return settings | changes


def rows_of(settings, folder, done=(), report=lambda *_: None):
    return list(matrices.run(settings, folder, list(done), report))


@pytest.fixture(scope="module")
def made(folder):
    return rows_of(tiny(), folder)


def without_time(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_every_matrix_kind_and_budget_has_one_row(made):
    assert len(made) == len({matrices._key(row) for row in made}) == 2 * 6 * 2
    assert {row["case"] for row in made} == {
        "low rank", "block sparse", "block low rank", "Monarch", "BLAST", "GBLR",
    }  # fmt: skip
    assert json.loads(json.dumps(made)) == made
    for row in made:
        assert row["group"] == "kinds"
        assert row["n"] == 32
        assert 0 <= row["score"] < 1
        assert 0 <= row["scores"]["spectral"] < 1
        assert 0 < row["relative_cost"] <= row["budget"]
        assert row["relative_storage"] >= 0.9 * row["relative_cost"]
        assert row["seconds"] > 0
        assert "failures" not in row


def test_low_rank_has_the_errors_of_the_truncated_decomposition(made, folder):
    cases = {case.name: case for case in data.cases(data.find(folder), 32)}
    for row in made:
        if row["kind"] != "low_rank":
            continue
        s = np.linalg.svd(cases[row["matrix"]].make(np.random.default_rng(0)))[1]
        rank = int(row["budget"] * 32 * 32) // 64
        expected = np.linalg.norm(s[rank:]) / np.linalg.norm(s), s[rank] / s[0]
        np.testing.assert_allclose((row["score"], row["scores"]["spectral"]), expected, rtol=1e-3)
        assert row["relative_cost"] == pytest.approx(rank * 64 / 1024, rel=1e-3)


def test_blast_has_the_largest_rank_that_fits(made):
    for row in made:
        assert ("settings" in row) == (row["kind"] == "blast")
        if row["kind"] == "blast":
            blocks, rank = row["settings"]["blocks"], row["settings"]["rank"]
            assert blocks in matrices.BLAST_BLOCKS
            assert row["relative_cost"] == pytest.approx(rank * (64 + blocks**2) / 1024, rel=1e-3)
            assert rank == int(row["budget"] * 1024) // (64 + blocks**2)


def test_the_best_of_the_block_numbers_is_kept(folder, monkeypatch):
    def fit(A, blocks, rank, seed):
        return matrices.Approximation(
            A * (0.9 if blocks == 8 else 0.5), 9, 9, 2.0, settings={"b": blocks}
        )

    monkeypatch.setattr(matrices, "_blast_of", fit)
    (row,) = rows_of(tiny(matrices=[ZIP], kinds=["blast"], budgets=[0.4]), folder)
    assert (row["settings"], row["score"], row["seconds"]) == ({"b": 8}, 0.1, 6.0)


def test_an_interrupted_run_goes_on(made, folder):
    steps = []
    rest = rows_of(tiny(), folder, made[:-2], lambda *step: steps.append(step))
    assert without_time(rest) == without_time(made[-2:])
    assert steps == [(f"{BUS}, GBLR at 0.4", 22, 24), (f"{BUS}, BLAST at 0.4", 23, 24)]
    assert rows_of(tiny(), folder, made) == []
    other = rows_of(tiny(kinds=["low_rank"], seeds=[1]), folder, made)
    assert [row["seed"] for row in other] == [1] * 4


def test_what_cannot_be_made_says_why(folder):
    settings = tiny(matrices=["SUSY, exp(−r²/8)", "bcsstk13", "qc324"], budgets=[0.05])
    rows = rows_of(settings | {"kinds": ["monarch", "blast", "block_sparse"]}, folder)
    reasons = [row.get("skipped", "") for row in rows]
    assert all("score" not in row for row in rows if "skipped" in row)
    assert set(reasons[:3]) == {"susy_10k.npz is not in the data folder"}
    assert set(reasons[3:6]) == {"suitesparse_small.npz holds no bcsstk13"}
    assert "the cost of the smallest Monarch matrix" in reasons[6]
    assert reasons[7:] == ["BLAST is fitted to real matrices only", ""]
    (row,) = rows_of(tiny(matrices=[ZIP], kinds=["blast"], budgets=[0.05]), folder)
    assert row["skipped"] == "no BLAST matrix of 32×32 in 4, 8, 16 blocks a side is so cheap"


def test_a_row_records_what_a_check_found_wrong(folder, monkeypatch):
    found = matrices.Approximation(np.zeros((32, 32)), 300, 300, 0.1, svd_error=0.5)
    monkeypatch.setattr(matrices, "_compressed", lambda *_: found)
    gblr, other = rows_of(tiny(matrices=[ZIP], kinds=["gblr", "low_rank"], budgets=[0.2]), folder)
    assert gblr["failures"] == [
        "cost 300, above the cap 204",
        "error 1, above that of truncated SVD, 0.5",
    ]
    assert other["failures"] == ["cost 300, above the cap 204"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"matrices": ["Hilbert"]}, "matrices = 'Hilbert' in the config; expected one of US zip"),
        ({"kinds": ["sparse"]}, "kinds = 'sparse' in the config; expected one of low_rank"),
    ],
)
def test_unknown_names_are_refused(changes, words, folder):
    with pytest.raises(BenchmarkError, match=words):
        rows_of(tiny(**changes), folder)


def test_the_shipped_config_names_matrices_and_kinds_that_exist(folder):
    experiment = config.load("matrices")
    assert (experiment.task, experiment.metric) == ("matrices", "error")
    raw = experiment.raw
    assert set(raw["matrices"]) <= {case.name for case in data.cases(data.find(folder))}
    assert raw["kinds"] == sorted(matrices.KINDS, key=raw["kinds"].index)
    assert all(0 < budget <= 1 for budget in raw["budgets"])
    assert isinstance(raw["size"], int)
