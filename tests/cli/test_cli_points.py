"""The command line on points: an operator in a file, foretold, described and drawn."""

import json

import numpy as np
import pytest
import scipy.sparse

import structmat
from structmat import KernelMatrix
from structmat.cli import main
from structmat.compress.entries import forecast
from structmat.demo import _hypocentres

HYPOCENTRES = _hypocentres()[:900]
GOAL = ["--kernel", "matern32", "--length", "2000", "--tol", "1e-3"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("points.npy", HYPOCENTRES)
    monkeypatch.setattr(forecast, "TRIALS", (150, 300))
    return tmp_path


def run(capsys, *words):
    status = main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


def test_points_become_an_operator_in_a_file(here, capsys):
    words = ["compress", "points.npy", *GOAL, "-o", "out.npz", "--picture", "out.png"]
    status, out, err = run(capsys, *words)
    assert status == 0
    assert err.startswith("expected: ")
    assert "MiB for the matrix" in err
    assert "error estimated from 16 products, 256 rows: at most" in out
    assert "rows and columns in the order of a k-d tree" in out
    assert (here / "out.png").read_bytes().startswith(b"\x89PNG")
    K = KernelMatrix(HYPOCENTRES, "matern32", length=2000.0).toarray()
    B = structmat.load("out.npz")
    assert np.linalg.norm(B.to_dense() - K) <= 1e-3 * np.linalg.norm(K)
    status, out, _ = run(capsys, "info", "out.npz", "--json")
    figures = json.loads(out)
    assert (status, figures["kind"], figures["shape"]) == (0, "hierarchical", [900, 900])
    assert figures["symmetric"]
    assert 0 < figures["dense_blocks"] < figures["blocks"]


def test_a_forecast_is_near_what_comes(here, capsys):
    status, out, _ = run(capsys, "compress", "points.npy", *GOAL, "-o", "out.npz", "--json")
    figures = json.loads(out)
    assert status == 0
    assert 0.5 < figures["expected_bytes"] / (8 * figures["storage"]) < 2
    assert figures["estimate"]["bound"] <= 1e-3
    assert figures["entries"] > 0


def test_another_kind_and_a_budget(here, capsys):
    words = ["--to", "block_low_rank", "--kernel", "inverse", "--budget", "0.3", "-o", "out.npz"]
    status, out, _ = run(capsys, "compress", "points.npy", *words, "--json")
    assert status == 0
    assert json.loads(out)["relative_cost"] <= 0.3
    status, out, _ = run(capsys, "info", "out.npz", "--json")
    assert json.loads(out)["in_orders"] == "block_low_rank"


REFUSED = {
    "a length alone": (["--length", "3", "--tol", "1e-3"], "--length goes with --kernel"),
    "a wave of another kernel": (
        ["--kernel", "gaussian", "--wavenumber", "3", "--tol", "1e-3"],
        "helmholtz alone has one",
    ),
    "NaN": (["nan.npy", *GOAL], "point 1 is"),
    "a vector": (["line.npy", *GOAL], "points[:, None]"),
    "a sparse file": (["sparse.npz", *GOAL], "expected points (n, d)"),
    "twice": (["twice.npy", "--kernel", "inverse", "--tol", "1"], "points 0 and 2 coincide"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(here, capsys, name):
    np.save("nan.npy", [[0.0, 1.0], [np.nan, 1.0]])
    np.save("line.npy", np.zeros(3))
    np.save("twice.npy", [[0.0], [1.0], [0.0]])
    scipy.sparse.save_npz("sparse.npz", scipy.sparse.eye_array(3))
    words, message = REFUSED[name]
    words = words if words[0].endswith((".npy", ".npz")) else ["points.npy", *words]
    status, out, err = run(capsys, "compress", *words, "-o", "out.npz")
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (here / "out.npz").exists()


@pytest.mark.parametrize("number", ["0", "-1", "nan", "inf", "x"])
def test_lengths_are_positive_numbers(here, capsys, number):
    with pytest.raises(SystemExit) as end:
        main(["compress", "points.npy", *GOAL, "--length", number, "-o", "out.npz"])
    assert end.value.code == 2
    assert "expected a positive number" in capsys.readouterr().err
