"""Coefficients of layers: found from times, and measured."""

from functools import partial

import numpy as np
import pytest
import torch

from structmat.errors import BackendError, InputError
from structmat.kernels.choice import calibrate as calibration
from structmat.kernels.cost_model.layers import LayerCoefficients, keep_layers, layer_coefficients
from structmat.nn.structured import calibrate as measuring
from structmat.nn.structured.calibrate import Sample, calibrate_layers


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(calibration, "_REPEATS", 1)
    monkeypatch.setattr(calibration, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(measuring, "_COUNTS", (1, 300))
    return partial(calibrate_layers, sizes=(64, 96))


def test_coefficients_are_found_from_times(rng):
    ns = LayerCoefficients(5000, 4e4, 4e3, 0.1, 0.3, 0.02, 0.015, 0.025, 0.3, 3e4, 0.1, 0.02)

    def samples(names, count=40):
        counts = 10 ** rng.uniform(0, 5, (count, len(names)))
        figures = [getattr(ns, name) for name in names]
        return [Sample(list(row), 1e-9 * float(row @ figures)) for row in counts]

    structured = samples((*measuring._STRUCTURED, *measuring._COMPILED))
    found, error = measuring._coefficients(
        samples(measuring._DENSE), structured, samples(("convolve",))
    )
    np.testing.assert_allclose(found[:-1], ns[:-1], rtol=0.02)
    assert error < 0.01
    plain = [Sample([*s.counts[:5], 0.0, 0.0, 0.0], s.taken) for s in structured]
    found, _ = measuring._coefficients(samples(measuring._DENSE), plain, samples(("convolve",)))
    assert found.compiled_multiply == found.compiled_read == 1e6, "what was not measured is dear"


def test_counts_are_those_of_the_model(user_cache):
    """A sample's counts times coefficients are the time that a layer expects."""
    from structmat.kernels.cost_model.layers import LayerWork, Times

    for work in (LayerWork(4, 9e3, 50.0), LayerWork(1, 200.0, 30.0, 7e3)):
        times = Times.of(work, (100, 80), "cpu")
        ns = layer_coefficients("cpu")
        count, threads = 1000, 2
        counts = measuring._counts(work, 100, count, times.chunk, threads)
        names = (*measuring._STRUCTURED, *measuring._COMPILED)
        found = sum(c * getattr(ns, name) for c, name in zip(counts, names, strict=True))
        rounds = -(-count // (times.chunk * threads))
        assert found == pytest.approx(times.once * rounds + times.each * count / threads)


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
