"""The benchmark of growing numbers of points: its cases, exponents and targets."""

import json
from functools import partial

import distributed
import pytest

from benchmarks.machine import facts
from benchmarks.results import BenchmarkError
from benchmarks.scale import command, growth, row, solve_tables, solve_targets, solves, tables


def figures(n, **changed):
    grown = dict.fromkeys(command.GROWING, 3.0 * n**1.5)
    own = {"points": "square", "n": n, "kernel": "exponential", "tol": 1e-3}
    return own | grown | {"share_of_entries": 0.001} | changed


def test_growth_is_the_exponent_of_each_figure():
    rows = [figures(10_000), figures(100_000), figures(10_000) | {"peer": "george"}]
    (found,) = command.growth(rows)
    assert found == {"points": "square", "kernel": "exponential", "tol": 1e-3} | dict.fromkeys(
        command.GROWING, 1.5
    )
    assert command.growth(rows[:1]) == []


def test_targets_are_met_figure_by_figure():
    met = figures(100_000, seconds=1.0, storage_bytes=2**28, product_seconds=0.01)
    late = met | {"seconds": 9.0}
    one, other = command.targets([met, late])
    assert all(one[name] for name in command.FIGURES)
    assert [name for name in command.FIGURES if not other[name]] == ["seconds"]
    assert command.targets([figures(10_000)]) == []


def test_cases_have_peers_at_small_sizes_and_a_million_on_request():
    found = command.cases([1000, 100_000], True, ["a.npy"])
    assert {case["n"] for case in found if case.get("peer")} == {1000}
    assert [case["tol"] for case in found if case["n"] == command.MILLION] == [1e-3, 1e-3]
    assert found[-1]["points"] == "a.npy"
    with pytest.raises(BenchmarkError, match="expected numbers"):
        command.main(["--sizes", "many"])


def test_a_row_has_all_figures(monkeypatch):
    monkeypatch.setattr(row, "WARM_POINTS", 20)
    (case, *_) = command.cases([300], False, [])
    found = json.loads(json.dumps(row.measured(case)))
    assert set(command.GROWING) | {"error", "bound", "share_of_entries"} <= set(found)
    assert found["bound"] <= case["tol"]


def test_the_section_shows_figures_ratios_peers_and_reasons(tmp_path):
    own = figures(100_000, seconds=5.0, storage_bytes=2**28, product_seconds=0.06, bound=9e-4)
    rows = [own, own | {"peer": "other", "seconds": 10.0, "error": 0.25}]
    rows.append({**own, "points": "8-D", "note": "costs more"})
    path = tmp_path / "scale.json"
    assert tables.scale_section(path) == ""
    result = {key: [] for key in tables.KEYS} | {"schema": command.SCHEMA, "rows": rows}
    result |= {"machine": facts(), "load": 0.5, "command": "scale", "growth": command.growth(rows)}
    path.write_text(json.dumps(result))
    text = tables.scale_section(path)
    assert "| square | 100000 | exponential | 0.001 | 5 | 0.25 | 0.336 % | 0.1 % |" in text
    assert "| 0.001 | 2 | 0.83 | 0.14 | 2 |" in text
    assert "| other | 10 | 5 | 0.25 |" in text
    assert "| structmat | costs more |" in text
    assert "### Growth" not in text


def test_solve_cases_have_peers_a_million_and_files():
    found = solves.cases([1000, 100_000], True, ["a.npy"], "folder")
    assert {case["peer"] for case in found if "peer" in case} == set(solves.PEERS)
    assert {case["task"] for case in found if case["n"] == 10**6} == {"solve"}
    assert {case["points"] for case in found if case["task"] == "preconditioner"} == {
        "a.npy", "earthquakes", "sphere", "bcsstk16",
    }  # fmt: skip
    assert {case["task"] for case in found} == set(solves.TASKS)


@pytest.mark.parametrize("task", solves.TASKS)
def test_a_task_has_its_figures(task, monkeypatch):
    monkeypatch.setattr(solves, "WARM_POINTS", 20)
    case = next(case for case in solves.cases([300], False, []) if case["task"] == task)
    figures = json.loads(json.dumps(row.measured(case | {"n": 300})))
    own = {"points": "square", "n": 300, "kernel": case["kernel"]} | case | figures
    for target in solve_targets.targets([own]):
        assert target["met"] or target["figure"] in ("times", "seconds"), target
    shown = solve_tables.solve_tables([own], solve_targets.targets([own]))
    assert any(table.rows for table in shown)


def test_points_in_many_dimensions_are_left_out():
    case = solves.cases([300], False, [])[0] | {"points": "8-D"}
    assert "8 dimensions" in row.measured(case)["note"]


def test_times_faster_than_george_come_from_the_same_points():
    own = {"task": "logdet", "points": "square", "n": 4096, "kernel": "matern32", "seconds": 0.5}
    own |= {"difference": 1e-6}
    other = own | {"kernel": "exponential"}
    peer = own | {"peer": "george", "seconds": 2.0}
    found = [row for row in solve_targets.targets([own, other, peer]) if row["figure"] == "times"]
    assert [(row["value"], row["target"], row["met"]) for row in found] == [(4.0, 5.0, False)]
    assert solve_targets.targets([own | {"note": "stopped"}]) == []


def test_growth_on_workers(monkeypatch):
    monkeypatch.setattr(growth, "WARM_POINTS", 50)
    inside = partial(distributed.LocalCluster, processes=False)
    monkeypatch.setattr(distributed, "LocalCluster", inside)
    found = growth.cases([1000, 3000])
    assert [(case["n"], case["workers"]) for case in found] == [
        (1000, 2), (3000, 2), (3000, 1), (3000, 4),
    ]  # fmt: skip
    case = found[0] | {"n": 300}
    own = case | json.loads(json.dumps(row.measured(case)))
    assert own["bound"] <= own["tol"]
    assert own["bytes_per_product"] >= 2 * 8 * 300
    assert own["storage_bytes"] <= 8 * 300**2
    (line,) = growth.worker_table([own]).rows
    assert line[:2] == ["300", "2"]
