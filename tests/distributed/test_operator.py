"""A distributed matrix as an operator: in SciPy's solvers, in sums and products, and as text."""

import numpy as np
import pytest
from on_workers import distribute
from scipy.sparse.linalg import LinearOperator, cg, gmres

import structmat
from structmat import InputError, ShapeError
from structmat.distributed import DistributedMatrix
from structmat.distributed.part import Part
from structmat.distributed.traffic import rows_moved


@pytest.fixture(scope="module")
def D(symmetric, client):
    return distribute(symmetric, client, 3)


def test_solvers_of_scipy_take_it(D, symmetric, rng):
    b = rng.standard_normal(900)
    S = D + 20 * structmat.Identity(900)
    for solver in (cg, gmres):
        x, info = solver(S, b, rtol=1e-8)
        assert info == 0
        np.testing.assert_allclose(symmetric @ x + 20 * x, b, atol=1e-6)


def test_structured_matrices_take_it_in(D, symmetric, rng):
    L = structmat.LowRank(rng.standard_normal((900, 2)), rng.standard_normal((900, 2)))
    x = rng.standard_normal(900)
    for A, B in ((L + D, L + symmetric), (L @ D, L @ symmetric), (D @ L, symmetric @ L)):
        np.testing.assert_allclose(A @ x, B @ x, atol=1e-9)
    total = structmat.Identity(900) + D
    assert isinstance(total, structmat.StructuredMatrix)
    assert total.hermitian


def test_operators_of_scipy_take_it(D, symmetric, rng):
    x = rng.standard_normal(900)
    for A, B in ((2 * D, 2 * symmetric), (D + D, 2 * symmetric), (D.T, symmetric)):
        assert isinstance(A, LinearOperator)
        np.testing.assert_allclose(A @ x, B @ x, atol=1e-9)
    assert D.H is D


def test_operands_are_checked(D):
    with pytest.raises(ShapeError, match="expected"):
        D @ np.ones(899)
    with pytest.raises(InputError, match="at least one Part"):
        DistributedMatrix(D.client, [], shape=(3, 3))


def test_batches_and_columns(D, symmetric, rng):
    X = rng.standard_normal((2, 900, 2))
    np.testing.assert_allclose(D @ X, symmetric @ X, atol=1e-12)
    np.testing.assert_allclose(D.matvec(X[:, :, 0]), symmetric.matvec(X[:, :, 0]), atol=1e-12)


def test_text_and_page(D):
    assert repr(D).startswith("<900x900 DistributedMatrix, hierarchical, float64, 3 parts: cost ")
    assert "3 on 2 workers" in D._repr_html_()
    assert f"{D.bytes_per_product:,}" in D._repr_html_()


def test_bytes_of_a_product_are_those_that_workers_count(D, rng):
    """The bytes between workers, by their own counters, are those that the ranges say."""
    x = rng.standard_normal(900)

    def incoming():
        log = D.client.run(lambda dask_worker: list(dask_worker.transfer_incoming_log))
        return sum(transfer["total"] for some in log.values() for transfer in some)

    before = incoming()
    D @ x
    # From the client comes x and to it goes the result: one vector each.
    between = D.bytes_per_product - 2 * 900 * 8
    # Dask counts some bytes for each object besides.
    assert between <= incoming() - before <= between + 2000


def test_rows_that_move_are_those_of_other_places():
    def outline(rows, cols):
        return Part(rows, cols, structmat.Permutation(np.arange(4))).outline

    parts = [outline((0, 4), (0, 4)), outline((2, 4), (0, 4))]
    assert rows_moved(parts, ["one", "one"], 4) == 4 + 4
    assert rows_moved(parts, ["one", "two"], 4) == 2 * 4 + 2 + 4
