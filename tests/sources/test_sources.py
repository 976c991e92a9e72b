"""Sources: entries and products against formed matrices, and refusals."""

import numpy as np
import pytest

import structmat
from structmat import KernelMatrix

POINTS = np.random.default_rng(0).random((23, 2))
OTHERS = np.random.default_rng(1).random((17, 2))


def distance(X, Y):
    return np.linalg.norm(X[:, None] - Y[None], axis=-1)


def inverse(s):
    return np.where(s > 0, 1 / np.where(s > 0, s, 1), 0)


VALUES = {
    "exponential": lambda s, k: np.exp(-s),
    "matern32": lambda s, k: (1 + 3**0.5 * s) * np.exp(-(3**0.5) * s),
    "matern52": lambda s, k: (1 + 5**0.5 * s + 5 * s**2 / 3) * np.exp(-(5**0.5) * s),
    "gaussian": lambda s, k: np.exp(-(s**2) / 2),
    "inverse": lambda s, k: inverse(s),
    "helmholtz": lambda s, k: inverse(s) * np.exp(1j * k * s),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("others", [None, OTHERS])
def test_named_kernels_are_matrices(name, others):
    K = KernelMatrix(POINTS, name, others, length=0.3, wavenumber=0.7)
    s = distance(POINTS, POINTS if others is None else others) / 0.3
    structmat.testing.check_matrix(K, VALUES[name](s, 0.7))
    assert K.symmetric == (others is None)
    assert K.hermitian == (others is None and name != "helmholtz")
