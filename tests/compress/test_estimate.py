"""Estimates of norms from products with random vectors: how often their bounds fail."""

import numpy as np
import pytest

from structmat.compress.estimate import Estimate, lower_norm, upper_norm


@pytest.mark.parametrize("rank", [1, 2, 40])
@pytest.mark.parametrize("dtype", ["d", "D"])
def test_bounds_fail_no_more_often_than_they_say(rank, dtype):
    # ‖R g‖² of a diagonal matrix with `rank` equal values, many times.
    rng, count, trials = np.random.default_rng(0), 4, 20000
    g = rng.standard_normal((trials, count, rank))
    if dtype == "D":
        g = (g + 1j * rng.standard_normal(g.shape)) / np.sqrt(2)
    squares = (np.abs(g) ** 2).sum(axis=(1, 2)) / rank
    for bound, fails in ((upper_norm, np.less), (lower_norm, np.greater)):
        unit = bound(1.0, count, chance=0.01, complex_=dtype == "D")
        share = fails(np.sqrt(squares) * unit, 1.0).mean()
        assert share <= 0.013
        if rank == 1:
            assert share >= 0.007  # the bound is no wider than it has to be


def test_an_estimate_says_what_was_sampled():
    assert str(Estimate(0.1, 0.2, 0.999, products=16)) == (
        "estimated from 16 products: at most 0.2 with probability 0.999"
    )
    assert "20 rows, 10 columns" in str(Estimate(0.1, 0.2, 0.9, rows=20, cols=10))
    assert str(Estimate(0.1, 0.1, 1.0)) == "measured"
