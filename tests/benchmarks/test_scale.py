"""The benchmark of growing numbers of points: its cases, exponents and targets."""

import json
from functools import partial

import distributed
import numpy as np
import pytest

from benchmarks.machine import facts
from benchmarks.reporting.tables import number
from benchmarks.results import BenchmarkError
from benchmarks.scale import (
    command,
    equal,
    growth,
    peers,
    row,
    solve_tables,
    solve_targets,
    solves,
    tables,
)
from benchmarks.scale.places import points_of
from structmat import KernelMatrix


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


def test_the_section_shows_figures_ratios_peers_and_reasons():
    own = figures(100_000, seconds=5.0, storage_bytes=2**28, product_seconds=0.06, bound=9e-4)
    rows = [own, own | {"peer": "other", "seconds": 10.0, "error": 0.25}]
    rows.append({**own, "points": "8-D", "note": "costs more"})
    result = {"targets": [], "solves": [], "rows": rows}
    result |= {"machine": facts(), "load": 0.5, "command": "scale", "growth": command.growth(rows)}
    text = tables.scale_section(result)
    assert "| square | 100000 | exponential | 0.001 | 5 | 0.25 | 0.336 % | 0.1 % |" in text
    assert "| 0.001 | 2 | 0.83 | 0.14 | 2 |" in text
    assert "| other | 10 | 5 | 0.25 |" in text
    assert "| structmat | costs more |" in text
    assert "<summary>Growth" not in text


def test_solve_cases_have_peers_a_million_and_files():
    found = solves.cases([1000, 100_000], True, ["a.npy"], "folder")
    assert {case["peer"] for case in found if "peer" in case} == set(solves.PEERS)
    assert {case["task"] for case in found if case["n"] == 10**6} == {"solve"}
    assert {case["points"] for case in found if case["task"] == "preconditioner"} == {
        "a.npy", "earthquakes", "sphere", "bcsstk16",
    }  # fmt: skip
    assert {case["task"] for case in found} == {*solves.TASKS, "woodbury"}


@pytest.mark.parametrize("task", solves.TASKS)
def test_a_task_has_its_figures(task, monkeypatch):
    monkeypatch.setattr(solves, "WARM_POINTS", 20)
    # George is not installed with the tests.
    monkeypatch.setattr(
        equal, "george_run", lambda K, case, b, tol: equal.own_run(K, case["shift"], b, tol)
    )
    case = next(case for case in solves.cases([300], False, []) if case["task"] == task)
    figures = json.loads(json.dumps(row.measured(case | {"n": 300})))
    own = {"points": "square", "n": 300, "kernel": case["kernel"]} | case | figures
    for target in solve_targets.targets([own]):
        assert target["met"] or target["figure"] in ("times", "seconds"), target
    shown = solve_tables.solve_tables([own], solve_targets.targets([own]))
    assert any(table.rows for table in shown)


def test_low_rank_is_measured_for_few_steps_and_for_many():
    some = [case for case in solves.cases([300], False, []) if case["task"] == "woodbury"]
    rows = [case | row.measured(case | {"n": 300}) | {"load": 0.25} for case in some]
    few, many = rows
    assert few["cg_steps"] < 40
    assert many["cg_steps"] > 5 * few["cg_steps"]
    assert max(found["residual"] for found in rows) < 1e-8
    assert max(found["cg_residual"] for found in rows) < 1e-8
    # The target was set beside many steps.
    (target,) = solve_targets.targets(rows)
    assert target["kernel"] == many["kernel"]
    assert target["value"] == pytest.approx(many["cg_seconds"] / many["seconds"], rel=1e-3)
    table = solve_tables.low_rank(rows)
    assert [shown[7] for shown in table.rows] == [str(found["cg_steps"]) for found in rows]
    assert [shown[9] for shown in table.rows] == ["0.25", "0.25"]


def test_a_preconditioner_names_the_shift_that_was_used():
    some = solves.cases([300], False, [])
    case = next(c for c in some if (c["task"], c["points"]) == ("preconditioner", "sphere"))
    found = case | row.measured(case | {"n": 200})
    K = KernelMatrix(points_of("sphere", 200), "inverse", length=case["length"])
    assert found["shift"] == pytest.approx(solves.SHARE * np.linalg.norm(K.toarray(), 2), rel=1e-3)
    assert number(found["shift"], 3) in str(solve_tables.preconditioners([found]).rows)


def test_a_row_has_the_load_when_it_began(monkeypatch):
    monkeypatch.setattr(command, "measured_apart", lambda *words: {"seconds": 1.0})
    monkeypatch.setattr(command.os, "getloadavg", lambda: (1.25, 0.0, 0.0))
    case = command.cases([300], False, [])[0]
    assert command._row(case) == case | {"seconds": 1.0, "load": 1.25}


def test_the_command_of_a_result_is_the_one_that_ran(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_row", lambda case: case | {"note": "not measured"})
    path = tmp_path / "scale.json"
    words = [
        "--sizes",
        "300,500",
        "--points",
        f"{tmp_path}/zip codes.npy",
        "--data-dir",
        "/data/in",
    ]
    assert command.main([*words, "-o", str(path)]) == 0
    shown = "--sizes 300,500 --points 'zip codes.npy' --data-dir in"
    assert json.loads(path.read_text())["command"] == f"python -m benchmarks scale {shown}"


@pytest.mark.parametrize("kernel", ["exponential", "matern32", "gaussian"])
def test_kernels_of_scikit_learn_are_those_here(kernel):
    pytest.importorskip("sklearn")
    points = points_of("square", 20)
    own = KernelMatrix(points, kernel, length=0.3).toarray()
    peer = peers._scikit_kernel({"kernel": kernel, "length": 0.3})
    np.testing.assert_allclose(peer(points), own, atol=1e-12)


def test_points_in_many_dimensions_are_left_out():
    case = solves.cases([300], False, [])[0] | {"points": "8-D"}
    assert "8 dimensions" in row.measured(case)["note"]


def call(tol, seconds, difference, residual):
    return {"tol": tol, "seconds": seconds, "difference": difference, "residual": residual}


def test_the_first_good_tolerance_counts():
    calls = [call(1e-3, 1.0, 1e-4, 1e-2), call(1e-4, 2.0, 1e-6, 1e-3), call(1e-5, 3.0, 1e-7, 1e-7)]
    found = equal._goals(iter([*calls, call(1e-6, 9.0, 0.0, 0.0)]))
    assert found["logdet"] == calls[1] | {"reached": True}
    assert found["solve"] == calls[2] | {"reached": True}
    short = equal._goals(iter(calls[:2]))
    assert short["logdet"] == calls[1] | {"reached": True}
    assert short["solve"] == calls[1] | {"reached": False}


def test_times_faster_than_george_are_those_at_equal_accuracy():
    own, peer = (call(1e-6, s, 1e-6, 1e-7) | {"reached": True} for s in (0.5, 2.0))
    row = {"task": "equal", "points": "square", "n": 4096, "kernel": "matern32"}
    row |= {goal: {"structmat": own, "george": peer} for goal in ("logdet", "solve")}
    (found,) = solve_targets.targets([row])
    assert (found["figure"], found["value"], found["target"]) == ("times", 4.0, 5.0)
    assert not found["met"]
    assert "| 4 |" in equal.equal_table([row]).markdown()
    row["solve"] = {"structmat": own | {"reached": False}, "george": peer}
    assert solve_targets.targets([row])[0]["value"] == 0.0
    assert solve_targets.targets([row | {"n": 300}]) == []
    assert solve_targets.targets([row | {"note": "stopped"}]) == []


def test_the_determinant_that_others_are_compared_to(monkeypatch):
    K = KernelMatrix(points_of("square", 2100), "exponential", length=0.1)
    dense = equal.exact_logdet(K, 0.01)
    monkeypatch.setattr(equal, "DENSE_POINTS", 2000)
    assert equal.exact_logdet(K, 0.01) == pytest.approx(dense, abs=2100 * 1e-7)


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
