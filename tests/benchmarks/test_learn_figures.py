"""Figures of `structmat learn` on the README and the guide, from their result file."""

import json
import statistics
import subprocess
from types import SimpleNamespace

import pytest

from benchmarks import learn
from benchmarks.results import BenchmarkError, load


def run(kind, seed, metric):
    figures = {"metric": metric, "train_metric": 1.0, "relative_cost": 0.0199999}
    return figures | {
        "kind": kind, "seed": seed, "relative_inference": 0.4, "train_seconds": 9.0, "history": [],
    }  # fmt: skip


FOUND = {
    "task": {"data": "digits", "model": "mlp", "size": "full", "budget": 0.02, "epochs": 40},
    "runs": [run(k, s, 0.9 + 0.01 * s) for k in ("low_rank", "gblr_fixed", "gblr") for s in (0, 1)],
}


@pytest.fixture
def result(tmp_path, monkeypatch):
    """Result file of a run that is made up."""

    def command(words, check):
        with open(f"{words[-1]}/results.json", "w", encoding="utf-8") as file:
            json.dump(FOUND, file)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(learn, "RESULT", tmp_path / "learn.json")
    monkeypatch.setattr(subprocess, "run", command)
    learn.measure()
    return load(learn.RESULT, learn.SCHEMA, learn.KEYS)


@pytest.mark.parametrize("page", learn.PAGES, ids=lambda page: page.name)
def test_pages_hold_the_figures_of_the_file(page):
    written = page.read_text(encoding="utf-8")
    table = learn.table(load(learn.RESULT, learn.SCHEMA, learn.KEYS))
    assert learn.placed(written, table, page.name) == written


def test_learned_blocks_are_clearly_ahead_in_the_file_as_the_readme_says():
    result = load(learn.RESULT, learn.SCHEMA, learn.KEYS)
    scores = {(row["kind"], row["seed"]): row["metric"] for row in result["rows"]}
    seeds = sorted({seed for _, seed in scores})
    for kind in {kind for kind, _ in scores} - {"gblr"}:
        ahead = [scores["gblr", seed] - scores[kind, seed] for seed in seeds]
        assert statistics.fmean(ahead) > 2 * statistics.stdev(ahead) / len(seeds) ** 0.5, kind
    assert all(row["relative_inference"] < 0.5 for row in result["rows"] if row["kind"] == "gblr")
    assert result["seconds"] < 120


def test_the_table_has_means_spreads_and_the_machine(result):
    assert set(result["rows"][0]) == {"kind", "seed", *learn.FIGURES}
    lines = learn.table(result).splitlines()
    assert lines[2] == "| low rank | 90.50\u00a0±\u00a00.71\u00a0% | 100.00 % | 2 % | 0.4 |"
    assert [line.split(" | ")[0] for line in lines[3:5]] == [
        "| GBLR, random places held",
        "| **GBLR, learned**",
    ]
    assert "2 seeds of 40 epochs" in lines[-1]
    assert result["machine"]["cpu"] in lines[-1]
    one = result | {"rows": [row for row in result["rows"] if row["seed"] == 0]}
    assert "±" not in learn.table(one)
    assert "1 seed of 40 epochs" in learn.table(one)


def test_pages_without_a_place_for_the_table_are_refused():
    page = f"a\n{learn.BEGIN}\nold\n{learn.END}\nb\n"
    assert learn.placed(page, "new", "page") == f"a\n{learn.BEGIN}\nnew\n{learn.END}\nb\n"
    with pytest.raises(BenchmarkError, match="put both back"):
        learn.placed("a\n", "new", "page")


def test_a_command_that_fails_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(learn, "RESULT", tmp_path / "learn.json")
    monkeypatch.setattr(subprocess, "run", lambda *words, check: SimpleNamespace(returncode=2))
    with pytest.raises(BenchmarkError, match="its message says why"):
        learn.measure()
    assert not learn.RESULT.exists()
