"""Forecasts of compressions, next to what comes."""

import numpy as np
import pytest

from structmat import KernelMatrix, compress
from structmat.compress.entries.forecast import forecast
from structmat.compress.hierarchical import fit


@pytest.mark.parametrize("kind", ["hierarchical", "gblr"])
def test_trials_take_the_admissibility_of_the_whole(kind, monkeypatch):
    """A few of the points would take weak admissibility, and half of the storage."""
    monkeypatch.setattr(fit, "WEAK_ROWS", 4096)
    points = np.random.default_rng(0).random((5000, 2))
    K = KernelMatrix(points, "gaussian", length=0.15)
    said = forecast(K, kind, compress, tol=1e-6)
    come = compress(K, kind, tol=1e-6, rng=0)
    assert said is not None
    assert 0.8 < said.stored / (8 * come.storage) < 1.25
    assert 0.7 < said.entries / come.entries < 1.4


def test_smooth_kernels_of_many_points_are_halved():
    """Weak admissibility where ranks stay small; others keep their rectangles far apart."""
    points = np.random.default_rng(0).random((17000, 2))
    for kernel, halved in (("gaussian", True), ("exponential", False)):
        A = compress(KernelMatrix(points, kernel, length=0.1), "hierarchical", tol=1e-3).matrix
        dense = A.blocks[A.blocks[:, 4] < 0]
        assert (dense[:, 0] == dense[:, 2]).all() == halved
