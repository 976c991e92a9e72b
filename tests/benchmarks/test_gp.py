"""The benchmark of Gaussian processes: its cases, measurements and tables."""

import json

import numpy as np
import pytest

from benchmarks.gp import command, gradients, libraries, places, row, tables
from benchmarks.machine import facts
from benchmarks.results import BenchmarkError


def test_cases_have_the_libraries_that_reach_a_size():
    found = command.cases([4096, 100_000], ["a.npy"])
    of: dict = {}
    for case in found:
        if case["task"] == "fit":
            of.setdefault((case["points"], case["n"]), set()).add(case["library"])
    assert of["clusters", 4096] == set(libraries.LIBRARIES)
    large = {"structmat", "true parameters", "gpytorch, inducing points"}
    assert of["clusters", 100_000] == large
    assert of["a.npy", command.ALL] == large | {"george"}
    assert of["earthquakes", 1706] == {"structmat", "scikit-learn", "george", "gpytorch"}
    assert [c["n"] for c in found if c["task"] == "gradient"] == [4096]
    own = command.cases([4096], [], peers=False)
    assert {c["library"] for c in own if "library" in c} == {"structmat", "true parameters"}
    with pytest.raises(BenchmarkError, match="expected numbers"):
        command.main(["--sizes", "many"])


def test_the_result_names_the_options_of_its_run(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_row", lambda case, seconds: case)
    words = ["--sizes", "300", "--seconds", "5", "--points", f"{tmp_path}/a.npy"]
    command.main([*words, "--without-peers", "-o", str(tmp_path / "gp.json")])
    found = json.loads((tmp_path / "gp.json").read_text())["command"]
    expected = "--sizes 300 --seconds 5 --points a.npy --without-peers"
    assert found == f"python -m benchmarks gp {expected}"


def test_places_are_the_same_each_time_and_held_out_ones_are_others(tmp_path):
    one, two = (places.places_of("clusters", 1000) for _ in range(2))
    np.testing.assert_array_equal(one.y, two.y)
    assert len(one.X) == 1000
    assert len(np.unique(np.concatenate([one.X, one.X_new]), axis=0)) == 1300
    assert abs(one.y.mean()) < 1e-12
    # The variance is that of the process, but for few lengths in the square.
    assert 0.5 < one.y.var() / (places.TRUE["amplitude"] ** 2) < 2
    path = tmp_path / "points.npy"
    np.save(path, 7 + 50 * one.X)
    read = places.places_of(str(path), command.ALL)
    assert len(read.X) + len(read.X_new) == 1000
    assert np.ptp(np.concatenate([read.X, read.X_new]), axis=0).max() == pytest.approx(1.0)
    real = places.places_of("earthquakes", 1706)
    np.testing.assert_allclose(np.linalg.norm(real.X, axis=1), 1.0)


@pytest.fixture
def rows(monkeypatch):
    """Rows of two libraries at few points."""
    monkeypatch.setattr(row, "WARM_POINTS", 50)
    cases = [
        {"task": "fit", "points": "clusters", "n": 250, "library": name}
        for name in ("structmat", "scikit-learn")
    ]
    return [case | json.loads(json.dumps(row.measured(case))) for case in cases]


def test_rows_agree_and_make_tables(rows, tmp_path, monkeypatch):
    own, peer = rows
    assert own["likelihood"] == pytest.approx(own["dense_likelihood"], abs=1e-6)
    assert peer["likelihood"] == pytest.approx(peer["dense_likelihood"], abs=1e-4)
    assert own["likelihood"] > peer["likelihood"] - 0.1
    assert own["rmse"] == pytest.approx(peer["rmse"], rel=0.02)
    assert own["density"] == pytest.approx(peer["density"], abs=0.05)
    monkeypatch.setattr(gradients, "WARM_POINTS", 400)
    measured = json.loads(json.dumps(gradients.measured(places.places_of("clusters", 400))))
    assert [way["way"] for way in measured["ways"]] == list(gradients.WAYS)
    for way in measured["ways"]:
        assert way["difference"] < 5 * way["standard_error"] + 0.2, way
    rows.append({"task": "gradient", "points": "clusters", "n": 400} | measured)
    rows.append({"task": "fit", "points": "clusters", "n": 9, "library": "x", "note": "missing"})
    settings = {"true": places.TRUE, "start": places.START, "evaluations": 15, "steps": 30}
    settings |= {"inducing": 512, "batches": 250}
    result = {"schema": command.SCHEMA, "command": "gp", "machine": facts(), "load": 0.5}
    text = tables.gp_section(result | {"settings": settings, "rows": rows})
    assert "length 0.1, amplitude 2 and noise 0.3 on points of width one" in text
    assert f"| clusters | 250 | structmat | {own['rmse']:.4g} |" in text
    assert "| clusters | 400 | 64 random vectors |" in text
    assert "| clusters | 9 | x | missing |" in text
