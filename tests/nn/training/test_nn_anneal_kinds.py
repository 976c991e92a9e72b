"""Structures of every kind that teachers have and students find."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from structmat import BlockLowRank, BlockSparse, LowRank
from structmat.nn import Anneal, Config, convert_, cost, freeze_
from structmat.nn.anneal import gblr
from structmat.nn.anneal.projected import Projected, balanced, missed, packed
from structmat.nn.anneal.projectors import Options, project
from structmat.nn.anneal.weight import LEARNED_KINDS, AnnealWeight
from structmat.nn.training import anneal as rule_module
from structmat.project.ranks import project_tile_ranks

N, STEPS = 96, 400


def block_sparse(rng):
    """Six tiles 16x16 at random places."""
    at = np.sort(rng.choice(36, 6, replace=False))
    return BlockSparse(rng.standard_normal((6, 16, 16)), at // 6, at % 6, shape=(N, N))


def block_low_rank(rng):
    """Tiles 16x16 of uneven ranks, most zero."""
    ranks = rng.permutation([4, 3, 2, 2, 1, 1, 1, 1] + [0] * 28)
    factors = {
        (k // 6, k % 6): tuple(rng.standard_normal((2, 16, r))) for k, r in enumerate(ranks) if r
    }
    return BlockLowRank(factors, row_sizes=[16] * 6, col_sizes=[16] * 6)


def low_rank(rng):
    return LowRank(*rng.standard_normal((2, N, 3)))


TEACHERS = {
    "block_sparse": block_sparse,
    "block_low_rank": block_low_rank,
    "low_rank": low_rank,
}


def taught(kind, *, learn, seed=0):
    """Squared relative error of a student of the teacher's kind and cost, and its layer."""
    matrix = TEACHERS[kind](np.random.default_rng(seed))
    W = torch.tensor(matrix.to_dense(), dtype=torch.float32)
    W *= N**0.5 / W.norm()
    budget, generator = (matrix.cost + 0.5) / N**2, torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(N, N, bias=False))
    convert_(model, Config(kind=kind, budget=budget, learn=learn), generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if learn:
        Anneal(model, optimizer, budget, STEPS)
    for _ in range(STEPS):
        x = torch.randn(N, N, generator=generator)
        (model(x) - x @ W.T).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    assert cost(model).structured.cost <= matrix.cost
    with torch.no_grad():
        return float((model[0].weight - W).square().sum() / W.square().sum()), model


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_teacher_of_each_kind_is_recovered(kind):
    error, model = taught(kind, learn=True)
    assert error <= 0.05
    weight, x = model[0].weight.detach().clone(), torch.randn(3, N)
    expected = model(x).detach()
    freeze_(model)
    matrix = model[0].to_matrix()
    assert torch.allclose(matrix.to_dense(), weight, atol=1e-5)
    assert torch.allclose(model(x), expected, atol=1e-5)
    assert matrix.kind == kind


@pytest.mark.parametrize(("kind", "error"), [("block_sparse", 0.6), ("block_low_rank", 0.4)])
def test_places_that_are_not_learned_miss_the_teacher(kind, error):
    assert taught(kind, learn=False)[0] > error


@pytest.mark.parametrize("kind", LEARNED_KINDS)
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 9), (9, 1), (13, 7), (40, 3)])
def test_projections_keep_the_cap_at_the_borders(kind, shape):
    W = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for budget in (0, 1, 7, W.size):
        last = Projected.whole(shape)
        for cap in (W.size, (W.size + budget) // 2, budget):
            last = project(kind, W, cap, budget, last, Options())
            assert last.cost <= max(cap, budget)
            matrix = packed(W, last) if last.matrix is None else last.matrix
            assert matrix.shape == shape
            assert matrix.cost <= max(cap, last.cost)
            outside = matrix.to_dense() if last.matrix is None else None
            if outside is not None:
                assert not outside[~last.support].any()
        weight = AnnealWeight(torch.from_numpy(W), cap=budget, kind=kind)
        weight.take_(last, factored=True)
        assert weight.cost <= budget
        assert torch.allclose(weight.to_matrix().to_dense(), weight.dense(), atol=1e-5)


def test_live_tiles_are_the_support():
    W = np.zeros((32, 48), np.float32)
    W[:16, 16:32] = np.outer(np.arange(16), np.ones(16))
    W[3, 17] = 0
    found = project("block_low_rank", W, 40, 40, Projected.whole(W.shape), Options())
    expected = np.zeros(W.shape, bool)
    expected[:16, 16:32] = True
    assert np.array_equal(found.support, expected)


def test_factors_of_a_projection_have_equal_norms():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((40, 52))
    found = project_tile_ranks(W, 1500, [10, 0, 17, 13], [20, 32])
    assert -1 in found.ranks
    np.testing.assert_allclose(balanced(found).to_dense(), found.to_dense(), atol=1e-12)
    for kind, cap in [("low_rank", 300), ("block_low_rank", 900)]:
        matrix = project(kind, W, cap, cap, Projected.whole(W.shape), Options()).matrix
        pairs = [(matrix.U, matrix.V)] if kind == "low_rank" else matrix.tiles.values()
        for U, V in (pair for pair in pairs if isinstance(pair, tuple)):
            assert np.allclose(np.linalg.norm(U, axis=0), np.linalg.norm(V, axis=0))
    zero = balanced(LowRank(np.zeros((3, 1)), np.ones((2, 1))))
    assert np.isfinite(zero.U).all()
    assert not zero.to_dense().any()


def test_low_rank_is_trained_as_factors_from_its_first_projection():
    model = nn.Sequential(nn.Linear(32, 32))
    convert_(model, Config(kind="low_rank", budget=0.25, learn=True))
    optimizer = torch.optim.AdamW(model.parameters())
    rule = Anneal(model, optimizer, 0.25, total_steps=100)
    factored = []
    for _ in range(20):
        model(torch.randn(4, 32)).square().sum().backward()
        optimizer.step()
        factored.append(model[0].matrix.is_factored)
    assert not any(factored[:14])
    assert all(factored[16:])
    assert rule.relative_cost <= 0.25


def test_without_orders_no_blocks_are_searched_on_subsets(monkeypatch):
    """Subsets only give orders: a caller who wants none is spared the time."""
    monkeypatch.setattr("structmat.nn.anneal.gblr.pursue_subsets", None)
    W = np.random.default_rng(0).standard_normal((32, 32))
    for cap in (900, 100):
        found = project("gblr", W, cap, 100, Projected.whole((32, 32)), Options(orders=False))
        assert 0 < found.cost <= cap
        assert found.row_order is None
        assert found.col_order is None


@pytest.mark.parametrize("clear", ["blocks", "runs"])
def test_blocks_are_searched_in_full_in_the_likely_orders_alone(clear, monkeypatch):
    """As good as a search in each order, in a part of the time."""
    rng = np.random.default_rng(0)
    W = 0.1 * rng.standard_normal((64, 64))
    for top, left in rng.integers(0, 48, (12, 2)):
        block = np.outer(rng.standard_normal(16), rng.standard_normal(16))
        W[top : top + 16, left : left + 16] += block
    W = W[rng.permutation(64)][:, rng.permutation(64)]
    last, caps = Projected.whole(W.shape), []
    options = (600, 600, last, Options())
    wanted = missed(W, project("gblr", W, *options))
    own = gblr._blocks

    def searched(W, cap, order, *given, **named):
        # A scout that sees nothing of the better order leaves the choice to the runs.
        blind = clear == "runs" and cap < 600 and (order[0] != np.arange(64)).any()
        caps.append(cap)
        return own(0 * W if blind else W, cap, order, *given, **named)

    monkeypatch.setattr(gblr, "_blocks", searched)
    monkeypatch.setattr(gblr, "SMALL_ENTRIES", 0)
    monkeypatch.setattr(gblr, "FIRST_BLOCKS", 2)
    if clear == "blocks":  # whatever the runs would say
        monkeypatch.setattr(gblr, "CLEARLY", 1)
    assert missed(W, project("gblr", W, *options)) <= 1.01 * wanted
    assert caps == [300, 300] + [600] * (1 if clear == "blocks" else 2)


def test_dense_tiles_that_were_learned_are_frozen():
    """Contents named as a method of the layer's weight."""
    model = nn.Sequential(nn.Linear(32, 32))
    with torch.no_grad():
        model[0].weight.mul_(0.01)[:16, :16] += torch.randn(16, 16)
    convert_(model, Config(kind="block_low_rank", budget=0.3, learn=True, start="weights"))
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    Anneal(model, optimizer, 0.3, total_steps=1)
    optimizer.step()
    x = torch.randn(3, 32)
    expected = model(x)
    freeze_(model)
    assert -1 in model[0].to_matrix().ranks
    torch.testing.assert_close(model(x), expected)


def test_groups_in_other_orders_are_found():
    rng = np.random.default_rng(0)
    W = 0.01 * rng.standard_normal((96, 128))
    planted = np.zeros(W.shape, bool)
    for top in range(0, 96, 8):
        left = 8 * rng.integers(0, 12)
        planted[top : top + 8, left : left + 32] = True
    W[planted] += rng.choice([-1, 1], planted.sum())
    W = W[rng.permutation(96)][:, rng.permutation(128)]
    cap = int(planted.sum())
    found = project("gblr", W, cap, cap, Projected.whole(W.shape), Options(group=8))
    assert found.cost <= cap
    assert (W[found.support] ** 2).sum() > 0.98 * (W**2).sum()
    given = project("gblr", W, cap, cap, Projected.whole(W.shape), Options(group=8, orders=False))
    assert given.row_order is None
    assert given.col_order is None


def test_layers_are_projected_side_by_side_and_alike(monkeypatch):
    ends, threads = [], []
    own = rule_module.project
    together = threading.Barrier(3)

    def seen(*given):
        if len(ends) == 1:  # as many at once as there are threads
            together.wait(10)
        threads.append(threading.get_ident())
        return own(*given)

    monkeypatch.setattr(rule_module, "project", seen)
    for count in ("1", "3"):
        monkeypatch.setenv("STRUCTMAT_NUM_THREADS", count)
        threads.clear()
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(24, 24) for _ in range(3)))
        convert_(model, Config(budget=0.3, learn=True))
        optimizer = torch.optim.SGD(model.parameters(), 1e-2)
        Anneal(model, optimizer, 0.3, total_steps=8)
        for _ in range(8):
            model(torch.ones(2, 24)).square().sum().backward()
            optimizer.step()
        ends.append([p.detach().clone() for p in model.parameters()])
        assert (set(threads) == {threading.get_ident()}) is (count == "1")
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)
