"""ALDS with several subspaces a layer: its choice against all choices, and its layers."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmarks.models.alds import (
    Subspaces,
    alds_ranks,
    alds_subspaces,
    convert_to_subspaces_,
)
from structmat import BlockLowRank, LowRank, convert


def drawn(m, n, seed, groups=1):
    """Weight of rank two in each of several groups of inputs, and noise."""
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randn(m, 2, generator=generator) @ torch.randn(2, len(part), generator=generator)
        for part in torch.arange(n).tensor_split(groups)
    ]
    return torch.cat(parts, 1) + 0.1 * torch.randn(m, n, generator=generator)


def bound(W, groups, rank):
    """Bound on the relative error in the operator norm."""
    squares = 0.0
    for part in torch.tensor_split(W.double(), groups, dim=1):
        singular = torch.linalg.svdvals(part)
        squares += float(singular[rank]) ** 2 if rank < len(singular) else 0.0
    return math.sqrt(squares) / float(torch.linalg.matrix_norm(W.double(), 2))


def price(W, groups, rank):
    m, n = W.shape
    return rank * (groups * m + n)


WEIGHTS = {"one": drawn(8, 10, 0), "two": drawn(6, 12, 1, groups=3)}
GROUPS = (1, 2, 3)


@pytest.mark.parametrize("budget", [0.55, 0.7, 0.85, 1.0])
def test_the_choice_against_all_choices(budget):
    cap = math.floor(budget * sum(W.numel() for W in WEIGHTS.values()))
    every = list(itertools.product(GROUPS, range(1, 7)))
    ways = [[way for way in every if price(W, *way) <= W.numel()] for W in WEIGHTS.values()]
    least = min(
        max(bound(W, *way) for W, way in zip(WEIGHTS.values(), pair, strict=True))
        for pair in itertools.product(*ways)
        if sum(price(W, *way) for W, way in zip(WEIGHTS.values(), pair, strict=True)) <= cap
    )
    found = alds_subspaces(WEIGHTS, dict.fromkeys(WEIGHTS, 1), budget, groups=GROUPS)
    assert sum(price(WEIGHTS[name], *way) for name, way in found.items()) <= cap
    assert max(bound(WEIGHTS[name], *way) for name, way in found.items()) == pytest.approx(least)


def test_groups_are_taken_where_they_help():
    found = alds_subspaces(WEIGHTS, dict.fromkeys(WEIGHTS, 1), 0.95, groups=GROUPS)
    assert found["one"].groups == 1
    assert found["two"] == Subspaces(3, 2)
    ranks = alds_ranks(WEIGHTS, dict.fromkeys(WEIGHTS, 1), 0.95)
    assert bound(WEIGHTS["two"], 1, ranks["two"]) > bound(WEIGHTS["two"], 3, 2)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
def test_layers_cost_what_is_said_and_keep_the_bound(m, n, groups, rank):
    groups, rank = min(groups, n), min(rank, m, n)
    network = nn.Sequential(nn.Linear(n, m)).double()
    W = network[0].weight.detach().clone()
    convert_to_subspaces_(network, {"0": Subspaces(groups, rank)})
    layer = network[0]
    assert isinstance(layer.to_matrix(), LowRank if groups == 1 else BlockLowRank)
    assert layer.matrix.cost <= price(W, groups, rank)
    error = float(torch.linalg.matrix_norm(W - layer.weight.detach(), 2))
    assert error <= bound(W, groups, rank) * float(torch.linalg.matrix_norm(W, 2)) + 1e-12
    # A row of tiles is a GBLR matrix of no more cost.
    assert convert(layer.to_matrix(), "gblr").cost <= layer.matrix.cost


def test_more_groups_than_inputs_are_left_out():
    weights = {"a": torch.ones(4, 2), "b": torch.zeros(8, 8)}
    found = alds_subspaces(weights, {"a": 1, "b": 1}, 1.0, groups=(1, 3))
    assert found["a"] == Subspaces(1, 1)
