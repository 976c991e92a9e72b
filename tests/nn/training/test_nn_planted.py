"""Planted structure is found: a teacher's matrix, learned at exactly the teacher's cost."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from structmat import GBLR
from structmat.nn import Anneal, Config, convert_, freeze_
from structmat.nn.anneal.projected import in_order

SIDE, STEPS, BATCH, RATE = 128, 1500, 128, 3e-3
#: Steps that contents need where the structure is right from the beginning.
FEWER_STEPS = 600
#: Heights and widths of the blocks of each teacher, one after another, and their number.
SHAPES = {
    "windows": ([(1, 12)], SIDE),
    "blocks": ([(20, 20)], 40),
    "four shapes": ([(4, 40), (40, 4), (12, 12), (24, 6)], 60),
}
#: Share of the squared weight that learning may miss.
MOST = {"windows": 0.02, "blocks": 0.05, "four shapes": 0.05}
LEAST_FROZEN = 0.8
#: Turnover of a support over that of one drawn at random, at least.
LEAST_TURNOVER = 0.8


def teacher(name, *, permuted=False, seed=0):
    """Weight (n, n) of mean square 1/n, as a tensor, and its cost over the dense one."""
    rng = np.random.default_rng(seed)
    shapes, count = SHAPES[name]
    down, across = np.array([shapes[i % len(shapes)] for i in range(count)]).T
    rows = np.arange(SIDE) if name == "windows" else rng.integers(0, SIDE, count)
    u = np.ones(down.sum()) if name == "windows" else rng.standard_normal(down.sum())
    v = rng.standard_normal(across.sum())
    matrix = GBLR(rows, down, u, rng.integers(0, SIDE, count), across, v, shape=(SIDE, SIDE))
    W = matrix.to_dense()
    if permuted:
        W = W[rng.permutation(SIDE)][:, rng.permutation(SIDE)]
    W = torch.tensor(W, dtype=torch.float32)
    return W * (SIDE**0.5 / W.norm()), matrix.cost / SIDE**2


def missed_by(net, W):
    """Share of the squared weight that a student misses."""
    return float((net[0].weight.detach() - W).square().sum() / W.square().sum())


def train(net, W, rule=None, steps=STEPS, rate=RATE):
    """Plain least squares on white inputs; the rule comes back."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    made = rule(net, optimizer) if rule else None
    for _ in range(steps):
        x = torch.randn(BATCH, SIDE, generator=generator)
        loss = (net(x) - x @ W.T).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return made


def student(budget, **config):
    net = nn.Sequential(nn.Linear(SIDE, SIDE, bias=False))
    generator = torch.Generator().manual_seed(0)
    convert_(net, Config(kind="gblr", budget=budget, **config), generator=generator)
    return net


@cache
def learned(name, permuted=False):
    """The student after learning, and the weight of the teacher."""
    W, budget = teacher(name, permuted=permuted)
    net = student(budget)
    rule = train(net, W, lambda net, optimizer: Anneal(net, optimizer, budget, STEPS))
    assert rule.relative_cost <= budget
    return net, W


@pytest.mark.parametrize("name", SHAPES)
def test_planted_structure_is_found_at_its_own_cost(name):
    assert missed_by(*learned(name)) <= MOST[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blocks", "four shapes"])
def test_planted_structure_is_found_in_another_order(name):
    assert missed_by(*learned(name, permuted=True)) <= MOST[name]


@pytest.mark.parametrize("name", SHAPES)
def test_a_frozen_start_of_the_same_cost_cannot_hold_it(name):
    W, budget = teacher(name)
    held = student(budget, learn=False)[0].weight.detach() != 0
    # Whatever is trained on it, no entry outside of the support is met.
    assert float(W[~held].square().sum() / W.square().sum()) >= LEAST_FROZEN


def test_the_learned_places_alone_find_it_with_fresh_contents():
    net, W = learned("four shapes")
    net = deepcopy(net)
    before = missed_by(net, W)
    freeze_(net)
    assert missed_by(net, W) == pytest.approx(before, abs=1e-5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for contents in net.parameters():
            contents.copy_(torch.randn(contents.shape, generator=generator) * SIDE**-0.25)
    assert missed_by(net, W) > 1
    train(net, W, steps=FEWER_STEPS, rate=4 * RATE)
    assert missed_by(net, W) <= MOST["four shapes"]


@pytest.mark.parametrize("name", SHAPES)
def test_the_support_is_that_of_the_teacher_and_not_of_the_start(name):
    net, W = learned(name)
    kept = net[0].weight.detach() != 0
    start = student(teacher(name)[1])[0].weight.detach().abs().flatten()
    old = torch.zeros(W.numel(), dtype=torch.bool)
    old[start.topk(int(kept.sum())).indices] = True
    turnover = float((kept.flatten() & ~old).sum() / kept.sum())
    at_random = 1 - float(kept.float().mean())
    assert turnover > LEAST_TURNOVER * at_random
    assert float((W * kept).square().sum() / W.square().sum()) > 1 - MOST[name]


def test_a_matrix_of_torch_is_reordered_on_torch():
    rng = np.random.default_rng(0)
    matrix = GBLR([0, 2], [2, 1], rng.random(3), [1, 4], [3, 2], rng.random(5), shape=(3, 5))
    rows, cols = rng.permutation(3), rng.permutation(5)
    found = in_order(matrix.to("torch"), rows, cols)
    assert found.dtype == torch.float64
    ordered = found.to_dense()[torch.from_numpy(rows)][:, torch.from_numpy(cols)]
    assert np.array_equal(ordered.numpy(), matrix.to_dense())
