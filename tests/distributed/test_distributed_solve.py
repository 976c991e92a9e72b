"""Solves with a distributed matrix: conjugate gradients on workers, with bits of their own."""

import numpy as np
import pytest
from on_workers import distribute

import structmat
from structmat import KernelMatrix
from structmat.distributed import conjugate_gradients as cg
from structmat.distributed import product
from structmat.errors import OperationError, SolveError

SHIFT = 0.1


@pytest.fixture(scope="module")
def source(points):
    return KernelMatrix(points, "exponential", length=0.2)


@pytest.fixture(scope="module")
def D(symmetric, client, source):
    return distribute(symmetric, client, 3, source)


@pytest.fixture(scope="module")
def S(symmetric):
    return symmetric.to_dense() + SHIFT * np.eye(900)


@pytest.fixture(scope="module")
def F(D):
    return D.factorize(shift=SHIFT, tol=1e-9)


@pytest.mark.parametrize("chunk", [2000, 400])
def test_a_solution_is_that_of_dense_factors(F, S, rng, chunk, monkeypatch):
    monkeypatch.setattr(product, "CHUNK", chunk)
    B = rng.standard_normal((900, 3)) * [1.0, 1e-9, 0.0]
    found = F.solution(B)
    np.testing.assert_allclose(found.x, np.linalg.solve(S, B), rtol=0, atol=1e-7)
    assert found.residual <= 1e-9
    assert found.method == "conjugate gradients, sparse inverse"
    assert found.iterations < 15


def test_without_points_no_preconditioner_helps(symmetric, client, S, rng):
    D, b = distribute(symmetric, client, 3), rng.standard_normal(900)
    x = D.solve(b, shift=10.0, tol=1e-5)
    assert np.linalg.norm(S @ x + (10.0 - SHIFT) * x - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize("chunk", [2000, 400])
def test_bits_are_those_of_any_graphs(F, rng, chunk, monkeypatch):
    monkeypatch.setattr(product, "CHUNK", chunk)
    b = rng.standard_normal(900)
    x = F.solve(b)
    monkeypatch.setattr(cg, "STEPS", 3)
    monkeypatch.setattr(cg, "GRAPHS", 1)
    np.testing.assert_array_equal(F.solve(b), x)


def test_functions_of_the_package_take_a_distributed_matrix(D, F, rng):
    G = structmat.factorize(D, shift=SHIFT, tol=1e-9)
    assert G.method == F.method
    B = rng.standard_normal((900, 2))
    np.testing.assert_array_equal(G.solve(B), F.solve(B))


def test_the_log_determinant_is_near_that_of_dense_factors(F, S):
    found = F.logdet(rng=0)
    assert 0 < found.error <= 1e-3 * abs(found.logabsdet)
    assert found.sign == 1
    assert abs(found.logabsdet - np.linalg.slogdet(S)[1]) <= 4 * found.error


@pytest.mark.parametrize("with_source", [True, False])
def test_an_indefinite_matrix_is_refused(symmetric, client, source, with_source):
    D = distribute(symmetric, client, 3, source if with_source else None)
    with pytest.raises(SolveError, match=r"not positive definite.*larger shift"):
        D.solve(np.ones(900), shift=-1.0)


def test_other_matrices_are_refused(rectangular, D, client):
    with pytest.raises(OperationError, match="not known to be Hermitian"):
        distribute(rectangular, client).solve(np.ones(900))
    with pytest.raises(OperationError, match="not known to be Hermitian"):
        D.solve(np.ones(900), shift=1j)


def test_a_solve_that_does_not_end_is_refused(D, rng, monkeypatch):
    monkeypatch.setattr("structmat.distributed.solve.MOST_STEPS", 3)
    with pytest.raises(SolveError, match=r"residual .* after 4 steps; expected at most"):
        D.solve(rng.standard_normal(900), shift=1e-6, tol=1e-12)


def test_a_compression_on_workers_keeps_its_source(source, client, rng):
    result = structmat.compress(source, "hierarchical", tol=1e-5, client=client)
    F = result.matrix.factorize(shift=SHIFT, tol=1e-6)
    assert F.method == "conjugate gradients, sparse inverse"
    assert F.solution(rng.standard_normal(900)).iterations < 15
