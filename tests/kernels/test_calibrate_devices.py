"""Figures of a device: found from times, measured, kept and refused."""

import json
from functools import partial

import numpy as np
import pytest
from cases import contents, random_gblr
from fake_cupy_library import FakeLibrary

from structmat.cli import main
from structmat.errors import BackendError, InputError, MissingDependencyError
from structmat.kernels import plan
from structmat.kernels.choice import calibrate as calibration
from structmat.kernels.choice import calibrate_devices as on_devices
from structmat.kernels.choice.calibrate_devices import calibrate_device, fitted
from structmat.kernels.choice.table import KERNELS
from structmat.kernels.cost_model.coefficients import coefficients_file

COMPARED = {"intervals", "batches", "pair", "dense"}


@pytest.fixture
def quick(monkeypatch, cuda):
    """A calibration of tiny matrices on emulated devices."""
    monkeypatch.setattr(calibration, "_REPEATS", 1)
    monkeypatch.setattr(calibration, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(on_devices, "_COLUMNS", (1, 3))
    monkeypatch.setattr(on_devices, "_COSTS", (0.2,))
    return partial(calibrate_device, sizes=(24, 40), xp=FakeLibrary(cuda))


def samples(figures, rng, noise=0.0, longer=np.maximum):
    start, read, multiply = figures
    counts = np.stack([np.ones(60), *10 ** rng.uniform(3, 9, (2, 60))], axis=1)
    taken = start * counts[:, 0] + longer(read * counts[:, 1], multiply * counts[:, 2])
    taken *= 1 + noise * (-1.0) ** np.arange(60)
    return list(zip(counts.tolist(), (1e-9 * taken).tolist(), strict=True))


@pytest.mark.parametrize(
    "figures", [(5000.0, 2.5e-4, 3e-5), (0.0, 2e-3, 1e-2), (2e4, 1e-5, 1e-3)], ids=str
)
def test_figures_are_found_where_the_longer_of_two_counts(figures, rng):
    found, error = fitted(samples(figures, rng))
    np.testing.assert_allclose(found, figures, rtol=0.02, atol=1)
    assert error < 0.01
    found, error = fitted(samples(figures, rng, 0.1))
    assert found[2] == pytest.approx(figures[2], rel=0.2)
    assert 0.02 < error < 0.2


def test_figures_are_found_where_one_follows_the_other(rng):
    figures = (5000.0, 2.5e-4, 3e-5)
    rows = samples(figures, rng, longer=np.add)
    found, error = fitted(rows, in_turn=True)
    np.testing.assert_allclose(found, figures, rtol=0.02, atol=1)
    assert error < 0.01 < fitted(rows)[1]


def test_a_figure_that_no_sample_tells_is_the_largest_that_none_contradicts():
    """All samples read for longer than they multiply: multiplying is not free for that."""
    rows = [((1.0, size, size / 2), 1e-9 * (100 + 2.0 * size)) for size in (1e3, 1e4, 1e5)]
    found, error = fitted(rows)
    assert found[:2] == pytest.approx([100, 2.0], rel=0.02)
    assert found[2] == pytest.approx(4.0, rel=0.05)
    assert error < 0.01


def test_a_device_is_measured_for_each_dtype(quick, user_cache):
    said = []
    found = quick("cuda:1", progress=said.append)
    assert list(found) == ["Imagined 1, float32", "Imagined 1, float64"]
    for measured in found.values():
        assert set(measured.figures) == set(measured.errors) == COMPARED
        for figures in measured.figures.values():
            assert len(figures) == 3
            assert all(np.isfinite(x) and x >= 0 for x in figures)
            assert any(figures)
    assert said == sorted(said)
    assert said[-1] == 1
    assert not list(user_cache.iterdir()), "measuring keeps nothing by itself"


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_figures_of_a_device_by_the_command_line(words, quick, user_cache, capsys, monkeypatch):
    monkeypatch.setattr("structmat.cli._calibrate.calibrate_device", quick)
    monkeypatch.setattr("structmat.cli._calibrate._layers", {"cuda": {}}.__getitem__)
    matrix, _ = random_gblr(40, 30, 9, 3)(contents("float32"))
    A = matrix.to(quick.keywords["xp"])
    assert "calibrate --device cuda" in plan(A, 3).note
    assert main(["calibrate", "--device", "cuda", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    path = coefficients_file()
    kept = json.loads(path.read_text())["places"]
    assert set(kept) == {"Imagined 0, float32", "Imagined 0, float64"}
    assert KERNELS.figures("Imagined 0, float32") == kept["Imagined 0, float32"]
    assert plan(A, 3).note == ""
    assert set(plan(A, 3).expected) == COMPARED
    if words:
        report = json.loads(out)
        assert (report["file"], report["figures"]) == (str(path), kept)
        assert set(report["errors"]) == set(kept)
    else:
        assert all(word in out for word in ("Imagined 0, float64", "intervals", str(path)))


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "CUDA", "", "cuda:0:1"])
def test_what_is_no_name_of_a_device_is_refused(device):
    with pytest.raises(InputError, match=r"device = .*expected 'cpu', 'cuda'.*'cuda:1'"):
        calibrate_device(device, xp=FakeLibrary())


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(BackendError, match=r"'cuda:2' is not there; expected.*cuda:0, cuda:1 "):
        calibrate_device("cuda:2", xp=FakeLibrary())
    none = FakeLibrary()
    none.cuda.runtime.getDeviceCount = lambda: 0
    with pytest.raises(BackendError, match=r"'cuda' is not there; .*: none \(leave out --device"):
        calibrate_device("cuda", xp=none)

    def fails():
        raise RuntimeError("cudaErrorInsufficientDriver")

    none.cuda.runtime.getDeviceCount = fails
    with pytest.raises(BackendError, match=r"no CUDA device.*InsufficientDriver.*leave out"):
        calibrate_device("cuda", xp=none)


def test_a_device_needs_cupy(monkeypatch, capsys):
    def missing(name):
        raise MissingDependencyError(name)

    monkeypatch.setattr(on_devices, "namespace_named", missing)
    with pytest.raises(MissingDependencyError, match=r"measured by CuPy.*cupy-cuda12x"):
        calibrate_device("cuda")
    assert main(["calibrate", "--device", "cuda"]) == 1
    assert "structmat: kernels of 'cuda' are measured by CuPy" in capsys.readouterr().err


def test_layers_are_measured_without_cupy(monkeypatch, capsys, user_cache):
    torch = pytest.importorskip("torch")

    def missing(name):
        raise MissingDependencyError(name)

    layers = {"Imagined 0, float32": {"figures": [1.0] * 12, "error": 0.25}}
    monkeypatch.setattr(on_devices, "namespace_named", missing)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("structmat.cli._calibrate._layers", {"cuda": layers}.__getitem__)
    assert main(["calibrate", "--device", "cuda", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["figures"], report["layers"]) == ({}, layers)
