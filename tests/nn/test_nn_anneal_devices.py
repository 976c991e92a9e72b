"""Projections of weights on a device: found there where they can be, and the same as in NumPy."""

import copy

import numpy as np
import pytest
import torch
from device_steps import Launches, apart
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

from structmat.errors import TrainingError
from structmat.nn import Anneal, Config, convert_
from structmat.nn.anneal import gblr, projectors
from structmat.nn.anneal.projected import Projected, missed
from structmat.nn.anneal.projectors import Options, project
from structmat.project import runs, small_tiles

#: Few values, so that sums have no rounding.
weights = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-4, 4)
)
KINDS = ("gblr", "block_sparse", "block_low_rank", "low_rank")


@pytest.fixture(autouse=True)
def away(monkeypatch):
    """Let tensors on the CPU be scanned as those of a device are."""
    monkeypatch.setattr(runs, "HOST", "nowhere")


def both(kind, W, cap, budget, last=None, **options):
    """Projections of an array and of the same tensor."""
    last = Projected.whole(W.shape) if last is None else last
    given = (cap, budget, last, Options(**options))
    return project(kind, W, *given), project(kind, torch.from_numpy(W), *given)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=30)
@given(weights, st.integers(6, 80))
def test_runs_of_a_tensor_hold_as_much_as_those_of_an_array(W, cap):
    wanted, found = both("gblr", W, cap, cap // 6, orders=False)
    assert found.cost <= cap
    assert found.price == pytest.approx(wanted.price, rel=1e-5)
    # Up to ties of the last run, of which a part fits.
    lost = wanted.price * (W.shape[1] + 2)
    assert abs(missed(W, found) - missed(W, wanted)) <= lost * (1 + 1e-5)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 9), (9, 1), (13, 7), (40, 50), (64, 37)])
def test_runs_in_the_best_order_are_the_same(shape):
    W = normal(shape)
    wanted, found = both("gblr", W, W.size // 2, W.size // 8)
    assert isinstance(found.support, np.ndarray)
    np.testing.assert_array_equal(found.support, wanted.support)
    for order, expected in zip(found.order, wanted.order, strict=True):
        np.testing.assert_array_equal(order, expected)


@settings(max_examples=30)
@given(weights, st.integers(0, 100))
def test_tiles_of_a_tensor_are_those_of_an_array(W, cap):
    wanted, found = both("block_sparse", W, cap, cap)
    assert (found.cost, found.side) == (wanted.cost, wanted.side)
    np.testing.assert_array_equal(found.support, wanted.support)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_training_ends_alike(kind, monkeypatch):
    apart(monkeypatch)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 20))
    convert_(model, Config(kind=kind, budget=0.2, learn=True))
    host = copy.deepcopy(model)
    for one, here in ((model, False), (host, True)):
        if here:
            monkeypatch.setattr(projectors, "searched", lambda W: W.numpy())
        optimizer = torch.optim.SGD(one.parameters(), 1e-3)
        rule = Anneal(one, optimizer, 0.2, total_steps=20)
        for _ in range(20):
            one(torch.ones(3, 24)).square().sum().backward()
            optimizer.step()
        assert rule.relative_cost <= 0.2
    ends = [m[0].matrix.values() for m in (model, host)]
    torch.testing.assert_close(*ends, atol=1e-5, rtol=1e-4)


def test_the_weight_is_not_copied_for_runs_and_tiles(monkeypatch):
    """A mask of one byte an entry and the numbers of the tour go to the host, no weight."""
    apart(monkeypatch)
    W = torch.from_numpy(normal((48, 64)))
    taken, own = [], projectors.to_numpy
    for module in (projectors, gblr):
        monkeypatch.setattr(module, "to_numpy", lambda x: (taken.append(x.dtype), own(x))[1])
    for kind, cap in (("gblr", 2000), ("block_sparse", 400), ("low_rank", 400)):
        project(kind, projectors.searched(W), cap, 300, Projected.whole(W.shape), Options())
    assert set(taken) == {torch.bool}


@pytest.mark.parametrize("kind", ["gblr", "block_sparse"])
def test_launches_grow_with_the_logarithm_of_the_size(kind):
    counts = []
    for n in (64, 256):
        W, cap = torch.from_numpy(normal((n, n))), n * n // 3
        # From a price that is right, so that both search as long.
        price = project(kind, W, cap, 20, Projected.whole(W.shape), Options()).price
        last = Projected(cost=n * n, support=np.ones((n, n), bool), price=price)
        with Launches() as mode:
            project(kind, W, cap, 20, last, Options(orders=False))
        counts.append(len(mode.names))
    # Two more levels of pairs, each twenty operations for each of two scans a price.
    assert counts[1] <= counts[0] + (0 if kind == "block_sparse" else 400)
    assert counts[1] <= 2000


def test_a_weight_that_is_not_finite_is_refused_on_its_device(monkeypatch):
    apart(monkeypatch)
    model = nn.Sequential(nn.Linear(16, 16))
    convert_(model, Config(budget=0.5, learn=True))
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    Anneal(model, optimizer, 0.5, total_steps=1)
    with torch.no_grad():
        model[0].matrix.weight[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="NaN or infinite weights"):
        optimizer.step()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 9), (9, 1), (30, 20), (20, 30)])
@pytest.mark.parametrize("rank", [0, 3, 40])
def test_low_ranks_of_a_tensor_are_the_nearest(shape, rank):
    W = normal(shape)
    W[:, -4:] = 0  # of lower rank
    cap = rank * sum(shape)
    wanted, found = both("low_rank", W, cap, cap)
    assert isinstance(found.matrix.U, np.ndarray)
    assert (found.cost, found.matrix.U.shape) == (wanted.cost, wanted.matrix.U.shape)
    dense = [one.matrix.to_dense() for one in (found, wanted)]
    np.testing.assert_allclose(*dense, atol=1e-5)
    norms = [np.linalg.norm(part, axis=0) for part in (found.matrix.U, found.matrix.V)]
    np.testing.assert_allclose(*norms, rtol=1e-4)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 9), (9, 1), (40, 50), (33, 16)])
@pytest.mark.parametrize("share", [0, 0.1, 0.6, 1])
@pytest.mark.parametrize("tile", [None, 7])
def test_ranks_of_small_tiles_of_a_tensor_are_those_of_an_array(shape, share, tile):
    W = normal(shape)
    cap = int(share * W.size)
    wanted, found = both("block_low_rank", W, cap, cap, tile=tile)
    assert found.cost <= cap
    assert isinstance(found.matrix.u, np.ndarray)
    assert found.matrix.dtype == wanted.matrix.dtype == np.float32
    np.testing.assert_array_equal(found.matrix.ranks, wanted.matrix.ranks)
    np.testing.assert_array_equal(found.support, wanted.support)
    # Of two equal singular values either may be kept.
    assert missed(W, found) == pytest.approx(missed(W, wanted), rel=1e-5, abs=1e-6)


def test_small_tiles_are_decomposed_in_one_launch_whatever_their_number(monkeypatch):
    """Singular values and kept contents alone go to the host."""
    taken, counts, own = [], [], small_tiles.to_numpy
    monkeypatch.setattr(small_tiles, "to_numpy", lambda x: (taken.append(x.numel()), own(x))[1])
    for n in (64, 160):
        W = torch.from_numpy(normal((n, n)))
        with Launches() as mode:
            project("block_low_rank", W, n * n // 4, 20, Projected.whole(W.shape), Options())
        counts.append(mode.names)
    assert counts[0] == counts[1]
    assert len(counts[0]) <= 30
    assert sum(name.startswith("linalg") or "svd" in name for name in counts[0]) == 1
    # n^2 / 16 singular values, and at most n^2 / 4 numbers of ranks.
    assert sum(taken[4:]) <= 160**2 // 16 + 160**2 // 4


def test_what_is_missed_is_counted_on_the_device():
    W = normal((9, 7))
    _, found = both("gblr", W, 40, 10)
    wanted = (W[~found.support] ** 2).sum()
    assert missed(torch.from_numpy(W), found) == pytest.approx(wanted, rel=1e-6)
