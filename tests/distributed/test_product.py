"""Products with a distributed matrix are those of the local one, by any number of parts."""

import numpy as np
import pytest
from on_workers import distribute

from structmat.distributed import product
from structmat.distributed.part import joined, parts_of


@pytest.fixture(params=["symmetric", "rectangular"])
def local(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_products_and_adjoint(local, client, rng, count, monkeypatch):
    monkeypatch.setattr(product, "CHUNK", 200)
    m, n = local.shape
    D = distribute(local, client, count)
    x, Y = rng.standard_normal(n), rng.standard_normal((m, 3)) + 1j
    np.testing.assert_allclose(D @ x, local @ x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(D.rmatmat(Y), local.rmatmat(Y), rtol=0, atol=1e-12)
    np.testing.assert_allclose(D.H @ Y, local.H @ Y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_parts_are_joined_to_the_same_matrix(local, count):
    parts = parts_of(local, count)
    again = joined(parts, local.shape, local.row_order, local.col_order)
    assert len(parts) == count
    np.testing.assert_array_equal(again.to_dense(), local.to_dense())
    assert (again.cost, again.storage) == (local.cost, local.storage)


def test_facts_are_those_of_the_local_matrix(local, client):
    D = distribute(local, client)
    for name in ("shape", "dtype", "cost", "storage", "relative_cost", "hermitian"):
        assert getattr(D, name) == getattr(local, name)
    np.testing.assert_array_equal(D.gather().to_dense(), local.to_dense())
