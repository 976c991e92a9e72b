"""Blocks on scattered rows and columns, and the orders that follow from them."""

import numpy as np
import pytest

from structmat.project import subsets
from structmat.project.pursuit import pursue
from structmat.project.subsets import pursue_subsets, sample_left, subset_orders


def planted(seed, blocks=12, side=8, n=48):
    """A sum of blocks on cyclic intervals, and the same with both sides permuted."""
    rng = np.random.default_rng(seed)
    W = np.zeros((n, n))
    for _ in range(blocks):
        rows, cols = ((rng.integers(n) + np.arange(side)) % n for _ in "rc")
        W[np.ix_(rows, cols)] += np.outer(rng.standard_normal(side), rng.standard_normal(side))
    return W, W[rng.permutation(n)][:, rng.permutation(n)], 2 * side * blocks


def assembled(blocks, shape):
    W = np.zeros(shape)
    for block in blocks:
        W[np.ix_(block.rows, block.cols)] += np.outer(block.u, block.v)
    return W


def missed(W, near):
    return float(((W - near) ** 2).sum() / (W**2).sum())


@pytest.mark.parametrize("seed", range(3))
def test_blocks_are_found_wherever_their_rows_and_columns_are(seed):
    _, scattered, cost = planted(seed)
    blocks = pursue_subsets(scattered, cost, charge=2.0)
    assert missed(scattered, assembled(blocks, scattered.shape)) < 0.02
    assert sum(block.cost for block in blocks) <= 1.6 * cost


@pytest.mark.parametrize("seed", range(3))
def test_orders_bring_scattered_blocks_together(seed):
    _, scattered, cost = planted(seed)
    rows, cols = subset_orders(pursue_subsets(scattered, cost, charge=2.0), scattered.shape)
    assert sorted(rows) == sorted(cols) == list(range(48))
    ordered = scattered[rows][:, cols]
    together, _ = pursue(ordered, cost, charge=2.0)
    apart, _ = pursue(scattered, cost, charge=2.0)
    left = missed(ordered, together.to_dense())
    assert left < 0.1
    assert missed(scattered, apart.to_dense()) > 2 * left


def test_a_sample_tells_whether_blocks_may_hold_the_matrix(monkeypatch):
    noise = np.random.default_rng(0).standard_normal((48, 48))
    _, scattered, cost = planted(0)
    for most in (48, 24):
        monkeypatch.setattr(subsets, "_SAMPLE", most)
        assert sample_left(noise, 200, charge=2.0) > 0.3
        assert sample_left(scattered, cost, charge=2.0) < 0.05


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1), (5, 7)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_and_empty_matrices_have_no_blocks(shape, dtype):
    blocks = pursue_subsets(np.zeros(shape, dtype), 10)
    assert blocks == []
    assert sample_left(np.zeros(shape, dtype), 10) == 0
    rows, cols = subset_orders(blocks, shape)
    assert (rows.tolist(), cols.tolist()) == (list(range(shape[0])), list(range(shape[1])))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_blocks_give_orders_too(count):
    rng = np.random.default_rng(count)
    W = np.zeros((10, 12))
    for _ in range(count):
        rows, cols = rng.permutation(10)[:4], rng.permutation(12)[:3]
        W[np.ix_(rows, cols)] = rng.standard_normal()
    blocks = pursue_subsets(W, 7 * count, charge=0.0)
    for order, n in zip(subset_orders(blocks, W.shape), W.shape, strict=True):
        assert sorted(order) == list(range(n))


def test_the_input_stays_and_the_result_is_the_same_each_time():
    _, W, cost = planted(3)
    kept = W.copy()
    first, second = (pursue_subsets(W, cost) for _ in range(2))
    assert np.array_equal(W, kept)
    assert all(np.array_equal(a.v, b.v) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("charge", [0.0, 2.0, 8.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1)])
def test_the_smallest_matrices_have_somewhere_to_begin(shape, charge):
    W = np.full(shape, 3.0)
    cost = max(shape)
    found, _ = pursue(W, cost, charge=charge)
    assert found.cost <= cost
    assert sum(block.cost for block in pursue_subsets(W, cost, charge=charge)) <= 2 * cost
    assert 0 <= sample_left(W, cost, charge=charge) <= 1
