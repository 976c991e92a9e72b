"""A cluster of two workers in this process, and local matrices to compare with."""

import numpy as np
import pytest
from clusters import two_workers

from structmat import KernelMatrix, compress


@pytest.fixture(scope="session")
def client():
    with two_workers(processes=False) as client:
        yield client


@pytest.fixture(scope="session")
def processes():
    """Two workers in processes of their own, which may be killed."""
    with two_workers(processes=True) as client:
        yield client


@pytest.fixture(scope="session")
def points():
    return np.random.default_rng(4).random((900, 2))


@pytest.fixture(scope="session")
def symmetric(points):
    """Half of a symmetric matrix, which stores one triangle."""
    source = KernelMatrix(points, "exponential", length=0.2)
    return compress(source, "hierarchical", tol=1e-6, rng=0).matrix


@pytest.fixture(scope="session")
def rectangular(points):
    """A matrix of more rows than columns, in two orders."""
    source = KernelMatrix(points, "exponential", points[:500] + 0.01, length=0.2)
    return compress(source, "hierarchical", tol=1e-6, rng=0).matrix
