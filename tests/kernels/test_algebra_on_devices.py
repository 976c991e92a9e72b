"""Kronecker products, grids and batches on a device: as many launches for any size."""

import numpy as np
import pytest

import structmat
from structmat import Dense, LowRank

torch = pytest.importorskip("torch")
from device_rules import READS, Launches, by_kernel  # noqa: E402


def low_ranks(count, m, n):
    rng = np.random.default_rng(0)
    return [LowRank(rng.random((m, 2)), rng.random((n, 2))).to("torch") for _ in range(count)]


def seen(A, x):
    """Names of the operations of a product, once what it keeps is there."""
    with torch.no_grad():
        A @ x
        with Launches() as launches:
            y = A @ x
    np.testing.assert_allclose(y.numpy(), A.to_dense().numpy() @ x.numpy(), rtol=1e-10)
    return launches.names


def ones(*shape):
    return torch.ones(*shape, dtype=torch.float64)


def test_a_kronecker_product_is_two_products_and_their_turns():
    counts = []
    for n in (3, 30):
        A, B = (Dense(np.random.default_rng(0).random((n, n))).to("torch") for _ in range(2))
        names = seen(structmat.kron(A, B), ones(n * n, 4))
        assert not set(names) & set(READS)
        counts.append(len(names))
    assert counts[0] == counts[1] <= 8


def test_a_batch_has_few_launches_for_any_number_of_matrices(monkeypatch):
    by_kernel(monkeypatch, "batches")
    counts = []
    for b in (10, 40, 160):
        names = seen(structmat.stack(low_ranks(b, 12, 8)), ones(2, b, 8, 3))
        assert not set(names) & set(READS)
        counts.append(len(names))
    assert max(counts) <= 8  # a clone, and two products for each of the sizes of a layout


def test_a_grid_is_one_product_a_block():
    counts = []
    for n in (4, 40):
        A, B = low_ranks(1, n, n)[0], structmat.Identity(n, like=ones(0))
        names = seen(structmat.block([[A, B], [B, None]]), ones(2 * n, 3))
        assert not set(names) & set(READS)
        counts.append(len(names))
    assert counts[0] == counts[1] <= 8
