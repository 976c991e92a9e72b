"""Gains of weights that anneal: steps grow as the support shrinks, and the weight stays."""

import copy

import pytest
import torch
from torch import nn, optim

from structmat.nn import Anneal, Config, convert_, freeze_
from structmat.nn.training.contents_rates import MOST

BUDGET, STEPS = 0.05, 40


def network(seed=0, **config):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(48, 32))
    convert_(model, Config(budget=BUDGET, **config), generator=torch.Generator().manual_seed(seed))
    return model


def train(model, optimizer, steps, rule=None, look=lambda: None):
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(48, 32, generator=generator)
    for _ in range(steps):
        x = torch.randn(16, 48, generator=generator)
        optimizer.zero_grad()
        (model(x) - x @ target).square().mean().backward()
        optimizer.step()
        look()


@pytest.mark.parametrize("kind", ["gblr", "block_sparse", "block_low_rank"])
def test_gains_rise_with_the_support_to_the_inverse_share(kind):
    model = network(kind=kind, learn=True)
    weight, seen = model[0].matrix, []
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    Anneal(model, optimizer, BUDGET, STEPS)
    train(model, optimizer, STEPS, look=lambda: seen.append(weight.gain))
    assert seen == sorted(seen)
    assert seen[0] == 1
    assert seen[-1] == MOST  # the budget is below an eighth


def test_a_gain_leaves_the_weight_and_adams_next_step_moves_it_by_as_much_more():
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    rule = Anneal(model, optimizer, BUDGET, STEPS)
    train(model, optimizer, STEPS // 4)
    weight, plain = model[0].matrix, copy.deepcopy(model)
    other = optim.Adam(plain.parameters(), lr=1e-3)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before, gain = weight.dense().detach().clone(), weight.gain
    with torch.no_grad():
        weight.take_(weight.projected, gain=4 * gain)
    rule._hook.followed.rescale(weight.weight, 4.0)
    assert torch.equal(weight.dense(), before)
    rule.remove()
    for network_, its in ((model, optimizer), (plain, other)):
        train(network_, its, 1)
    moved = weight.dense() - before
    least = plain[0].matrix.dense() - before
    torch.testing.assert_close(moved, 4 * least, rtol=1e-4, atol=1e-7)


def test_steps_that_grow_with_gradients_need_no_gain():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    Anneal(model, optimizer, BUDGET, STEPS)
    train(model, optimizer, STEPS)
    assert model[0].matrix.gain == 1


@pytest.mark.parametrize("steps", [STEPS // 2, STEPS])
def test_gains_are_in_state_dicts_and_gone_when_frozen(steps):
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    Anneal(model, optimizer, BUDGET, STEPS)
    train(model, optimizer, steps)
    assert model[0].matrix.gain > 1
    again = network(seed=5)
    again.load_state_dict(model.state_dict())
    x = torch.randn(4, 48)
    expected = model(x)
    assert torch.equal(again(x), expected)
    assert again[0].matrix.gain == model[0].matrix.gain
    freeze_(model)
    torch.testing.assert_close(model(x), expected)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's own imports
def test_forward_derivatives_of_contents_need_no_recording():
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    Anneal(model, optimizer, BUDGET, STEPS)
    train(model, optimizer, STEPS)
    weight, x = model[0].matrix, torch.randn(4, 48)
    assert weight.is_factored
    point = {"weight": weight.weight.detach()}
    along = {"weight": torch.ones_like(weight.weight)}

    def product(parameters):
        return torch.func.functional_call(weight, parameters, (x,))

    expected = torch.func.jvp(product, (point,), (along,))
    assert expected[1].any()
    with torch.no_grad():
        found = torch.func.jvp(product, (point,), (along,))
    torch.testing.assert_close(found, expected)
