"""Condition numbers estimated by products and solves, of factorizations of all kinds."""

import numpy as np
import pytest

import structmat
from structmat import Dense, KernelMatrix, LowRank, factorize
from structmat.solvers.iterative import solver as iterative


def some(name, n=120):
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((2, n, 3))
    return {
        "dense": lambda: factorize(Dense(rng.standard_normal((n, n)))),
        "complex": lambda: factorize(Dense(U @ V.T + 1j * rng.standard_normal((n, n)))),
        "woodbury": lambda: factorize(LowRank(U, V), shift=1e-3),
        "iterative": lambda: iterative.factorize(
            KernelMatrix(rng.random((n, 2)), "exponential"), 1e-2, 1e-8
        ),
        "gmres": lambda: iterative.factorize(Dense(rng.standard_normal((n, n))), 15.0, 1e-8),
        "one": lambda: factorize(Dense([[-3.0]])),
    }[name]()


@pytest.mark.parametrize("name", ["dense", "complex", "woodbury", "iterative", "gmres", "one"])
def test_estimates_are_near_condition_numbers_and_not_above(name):
    F = some(name)
    wanted = np.linalg.cond(F.matrix.toarray(), 1)
    found = F.condition()
    assert wanted / 4 <= found <= wanted * (1 + 1e-5)
    assert F.condition() == found


def test_estimates_on_every_library(backend):
    A = LowRank(*np.random.default_rng(0).standard_normal((2, 50, 3)))
    F = factorize(A.to(backend), shift=0.01)
    assert F.condition() == pytest.approx(factorize(A, shift=0.01).condition(), rel=1e-6)


def test_an_empty_matrix_is_perfect():
    assert factorize(structmat.Diagonal(np.zeros(0))).condition() == 1.0


@pytest.mark.parametrize("largest", [1e3, 1e12])
def test_spectral_norms_take_no_dense_matrix(largest, monkeypatch):
    n = 600
    rng = np.random.default_rng(0)
    points = rng.random((n, 2))
    kernel = KernelMatrix(points, "matern32")
    matrices = [
        kernel,
        structmat.compress(kernel, "hierarchical", tol=1e-6, rng=0).matrix,
        LowRank(*rng.standard_normal((2, n, 4))) + structmat.Diagonal(rng.random(n)),
        structmat.Permutation(rng.permutation(n)) @ LowRank(*rng.standard_normal((2, n, 2))),
        LowRank(*(rng.standard_normal((2, n, 2)) + 1j)) @ LowRank(*rng.standard_normal((2, n, 2))),
    ]
    wanted = [np.linalg.norm(A.toarray(), 2) for A in matrices]

    def refuse(self):
        raise AssertionError("formed")

    for A in matrices:
        monkeypatch.setattr(type(A), "_dense", refuse)
    for A, value in zip(matrices, wanted, strict=True):
        assert (largest * A).norm(2) == pytest.approx(largest * value, rel=1e-6)
