"""Coefficients of layers: found from times, and measured."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from structmat.errors import BackendError, InputError
from structmat.kernels.choice import calibrate as calibration
from structmat.kernels.cost_model import prices
from structmat.kernels.cost_model.kernel_time import KernelTime
from structmat.kernels.cost_model.layers import (
    LayerCoefficients,
    LayerWork,
    Times,
    keep_layers,
    layer_coefficients,
)
from structmat.nn.structured import calibrate as measuring
from structmat.nn.structured.calibrate import Sample, calibrate_layers


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(calibration, "_REPEATS", 1)
    monkeypatch.setattr(calibration, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(measuring, "_COUNTS", (1, 300))
    return partial(calibrate_layers, sizes=(64, 96))


def test_coefficients_are_found_from_times(rng):
    ns = LayerCoefficients(5000, 4e4, 4e3, 0.1, 0.3, 0.02, 0.015, 0.025, 0.3, 1e4)

    def samples(names, kernels=0.0, count=40):
        counts = 10 ** rng.uniform(0, 5, (count, len(names)))
        figures = [getattr(ns, name) for name in names]
        return [Sample(list(row), 1e-9 * float(row @ figures) + kernels, kernels) for row in counts]

    structured = samples(measuring._STRUCTURED, kernels=2e-3)
    found, error = measuring._coefficients(
        samples(measuring._DENSE), structured, samples(("convolve",))
    )
    np.testing.assert_allclose(found[:-1], ns[:-1], rtol=0.02)
    assert error < 0.01
    at = measuring._STRUCTURED.index("compiled")
    plain = [Sample([*s.counts[:at], 0.0, *s.counts[at + 1 :]], s.taken) for s in structured]
    found, _ = measuring._coefficients(samples(measuring._DENSE), plain, samples(("convolve",)))
    assert found.compiled == 1e6, "what was not measured is dear"


def test_counts_are_those_of_the_model(user_cache):
    """A sample's counts times coefficients are the time that a layer expects."""
    kernel = KernelTime(prices.ROWS, SimpleNamespace(scalars=7e3, itemsize=4, planes=1), (4.0,) * 4)
    for work in (LayerWork(4, 9e3, 50.0), LayerWork(1, 0.0, 30.0, kernels=(kernel, kernel))):
        times = Times.of(work, (100, 80), "cpu")
        ns = layer_coefficients("cpu")
        count, threads = 1000, 2
        counts = measuring._counts(work, 100, count, times.chunk, threads)
        found = sum(c * getattr(ns, n) for c, n in zip(counts, measuring._STRUCTURED, strict=True))
        kernels = 2 * 1e9 * kernel.seconds(500) if work.kernels else 0.0
        assert times.of_kernels(count, threads) == pytest.approx(kernels)
        assert found == pytest.approx(times.structured(count, threads) - kernels)
        split = times.chunk + 1  # on one thread: one chunk and one vector
        if work.kernels:
            both = kernel.seconds(times.chunk) + kernel.seconds(1)
            assert times.of_kernels(split) == pytest.approx(2e9 * both)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers_are_measured(quick, user_cache, dtype):
    said = []
    place, found, error = quick(dtype=dtype, progress=said.append)
    assert place == "cpu"
    assert all(np.isfinite(x) and x >= 0 for x in found)
    assert found.dense_multiply > 0
    assert error >= 0
    assert said[-1] == 1
    assert not list(user_cache.iterdir()), "measuring keeps nothing by itself"
    keep_layers(found, place)
    assert layer_coefficients("cpu") == found


def test_devices_that_torch_does_not_have_are_refused():
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match=r"'cuda'.*not one that torch has.*expected cpu"):
            calibrate_layers("cuda")
    with pytest.raises(InputError, match=r"device = 'abacus'.*expected cpu"):
        calibrate_layers("abacus")
