"""One price of a multiplication for all layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structmat.nn import Anneal, Config, convert_, cost
from structmat.nn.anneal.weight import LEARNED_KINDS
from structmat.nn.training.one_price import caps_at_one_price


@given(
    seed=st.integers(0, 2**32 - 1),
    layers=st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 5), st.integers(0, 40)), min_size=1, max_size=4
    ),
    total=st.integers(0, 300),
    decay=st.integers(0, 9),
)
def test_caps_keep_the_total_and_the_limits(seed, layers, total, decay):
    generator = torch.Generator().manual_seed(seed)
    energies = [10 ** (-decay * torch.rand(n, generator=generator)) for n, _, _ in layers]
    counts, limits = [c for _, c, _ in layers], [limit for _, _, limit in layers]
    caps = caps_at_one_price(energies, counts, limits, total)
    assert all(0 <= cap <= limit for cap, limit in zip(caps, limits, strict=True))
    spent = sum(count * cap for count, cap in zip(counts, caps, strict=True))
    assert spent <= total
    # Nothing that could be spent is left, up to one multiplication of each layer.
    room = sum(c * (limit - cap) for c, limit, cap in zip(counts, limits, caps, strict=True))
    assert spent + sum(counts) >= min(total, spent + room)


def test_multiplications_that_count_more_hold_more_energy():
    energy = torch.linspace(1, 2, 101)
    caps = caps_at_one_price([energy, energy], [1, 2], [101, 101], 60)
    assert caps == [60, 0]


def test_layers_without_energy_share_what_there_is():
    assert caps_at_one_price([torch.zeros(9), torch.zeros(9)], [1, 1], [8, 4], 6) == [4, 2]
    assert caps_at_one_price([torch.zeros(0)], [1], [0], 5) == [0]


def trained(kind, *, across, steps=40):
    """A network of which only the second layer has something to learn."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    convert_(model, Config(kind=kind, budget=0.4, learn=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rule = Anneal(model, optimizer, 0.2, steps, across=across)
    for _ in range(steps):
        x = torch.randn(64, 32)
        wanted = x.roll(1, -1) + x.flip(-1)
        first, second = model[0](x)[:, :4], model[1](x)
        loss = (second - wanted).square().mean() + 1e-4 * (first - x[:, :4]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert rule.relative_cost * rule.dense_cost <= max(rule.cap(rule.step), rule.target_cost)
    assert cost(model).structured.cost <= 0.2 * 2 * 32**2
    return [layer.matrix.cost for layer in model]


@pytest.mark.parametrize("kind", [kind for kind in LEARNED_KINDS if kind != "low_rank"])
def test_cost_goes_to_the_layer_that_needs_it(kind):
    first, second = trained(kind, across=True)
    assert second > 1.5 * first
    assert second > 0.2 * 32**2
    assert max(trained(kind, across=False)) <= 0.2 * 32**2


def test_low_rank_layers_keep_their_shares():
    first, second = trained("low_rank", across=True)
    assert first == second


@pytest.mark.parametrize("kind", ["low_rank", "block_low_rank"])
def test_factors_come_down_to_a_lower_budget(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    convert_(model, Config(kind=kind, budget=0.6, learn=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for budget in (0.4, 0.2):
        rule = Anneal(model, optimizer, budget, 20, across=True)
        for _ in range(20):
            x = torch.randn(64, 32)
            optimizer.zero_grad()
            (model(x) - x.flip(-1)).square().mean().backward()
            optimizer.step()
        assert all(layer.matrix.is_factored for layer in model)
        assert 0.5 * budget <= rule.relative_cost <= budget
