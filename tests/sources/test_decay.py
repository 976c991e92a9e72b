"""The exponential function of compiled kernels, which has no call in its loop."""

import numpy as np
import pytest

from structmat.sources.compiled_kernels import CODES, decay, kernel_value, kernel_values


def test_decay_is_exp_to_two_units():
    t = np.concatenate([np.linspace(0, 708, 4001), np.geomspace(1e-300, 1, 500)])
    found = np.array([decay(float(x)) for x in t])
    np.testing.assert_allclose(found, np.exp(-t), rtol=2 * np.finfo(float).eps, atol=0)
    assert decay(0.0) == 1.0
    assert decay(708.5) == decay(800.0) == 0.0


@pytest.mark.parametrize("name", CODES)
def test_values_of_a_loop_are_those_of_single_ones(name):
    r2 = np.concatenate([[0.0, 1e-300, 1e4, 1e9, np.inf], np.random.default_rng(0).random(123)])
    alone = np.array([kernel_value(CODES[name], float(x), 3.0) for x in r2])
    found = r2.copy()
    kernel_values(CODES[name], found, 3.0)
    # A distance of 700 that is rounded otherwise changes exp by 700 units of rounding.
    np.testing.assert_allclose(found, alone, rtol=1e-12, atol=0)
    assert found[4] == 0.0
