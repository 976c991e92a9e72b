"""Block low rank matrices on workers are those of one machine, tile by tile."""

import numpy as np
import pytest

from structmat import BudgetError, Entries, InputError, KernelMatrix, compress
from structmat.compress.entries import cross
from structmat.distributed import load
from structmat.matrices.orders import split_orders


def assert_same(A, B):
    """Compare orders, places and contents, bit by bit."""
    (left, A, right), (other_left, B, other_right) = split_orders(A), split_orders(B)
    for one, two in ((left, other_left), (right, other_right)):
        assert (one is None) == (two is None)
        assert one is None or np.array_equal(one.p, two.p)
    for name in ("places", "ranks", "row_sizes", "col_sizes", "u", "v", "dense"):
        np.testing.assert_array_equal(getattr(A, name), getattr(B, name))


@pytest.mark.parametrize("symmetric", [True, False])
def test_points(points, client, rng, symmetric, monkeypatch):
    # Of small tiles no lines are chosen at random.
    monkeypatch.setattr(cross, "FULL_ENTRIES", 256)
    monkeypatch.setattr(cross, "DENSE_ENTRIES", 256)
    other = None if symmetric else points[:500] + 0.01
    source = KernelMatrix(points, "matern32", other, length=0.3)
    local = compress(source, "block_low_rank", tol=1e-3, rng=3)
    result = compress(source, "block_low_rank", tol=1e-3, rng=3, client=client)
    D = result.matrix
    assert_same(D.gather(), local.matrix)
    assert (result.cost, result.error) == (local.cost, pytest.approx(local.error, rel=1e-9))
    x = rng.standard_normal(source.shape[1])
    np.testing.assert_allclose(D @ x, local.matrix @ x, rtol=0, atol=1e-11)
    assert D.source is source
    y = rng.standard_normal(900)
    np.testing.assert_allclose(D.H @ y, local.matrix.H @ y, rtol=0, atol=1e-11)


def test_a_matrix_with_tiles_of_zeros(client):
    def entries(i, j):
        return np.where((i[:, None] < 250) & (j < 250), 1.0 + i[:, None] + 3.0 * j, 0.0)

    source = Entries(entries, (900, 900))
    local = compress(source, "block_low_rank", tol=1e-3, rng=3)
    D = compress(source, "block_low_rank", tol=1e-3, rng=3, client=client).matrix
    np.testing.assert_allclose(D.gather().to_dense(), local.matrix.to_dense(), atol=1e-9)
    assert D.cost == local.cost


def test_a_folder(points, client, tmp_path):
    source = KernelMatrix(points, "matern32", length=0.3)
    given = {"kind": "block_low_rank", "tol": 1e-3, "client": client, "folder": tmp_path / "f"}
    first = compress(source, rng=3, **given)
    entries = source.entries
    path = sorted(tmp_path.glob("f/fit-*/part-*"))[1]
    path.unlink()
    again = compress(source, **given)
    assert source.entries < 1.5 * entries
    assert_same(again.matrix.gather(), first.matrix.gather())
    assert_same(load(tmp_path / "f"), first.matrix.gather())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 0.3}, BudgetError, "expected tol, or 'hierarchical'"),
        ({"tol": 0.1, "symmetric": True}, InputError, "expected 'hierarchical', which stores one"),
    ],
)
def test_refusals(points, client, options, error, message):
    source = KernelMatrix(points, "matern32")
    with pytest.raises(error, match=message):
        compress(source, "block_low_rank", client=client, **options)
