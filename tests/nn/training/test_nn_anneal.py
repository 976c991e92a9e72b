"""The rule `Anneal`: when it projects, under which caps, and how it resumes and ends."""

import copy
import io
import itertools
import math

import pytest
import torch
from torch import nn, optim

from structmat.errors import BudgetError, InputError, TrainingError
from structmat.nn import Anneal, AnnealWeight, Config, convert_, freeze_

KINDS = ("gblr", "block_sparse", "block_low_rank", "low_rank")
kinds = pytest.mark.parametrize("kind", KINDS)


def network(kind="gblr", budget=0.2, sizes=(24, 40, 20), seed=0):
    torch.manual_seed(seed)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(seed)
    convert_(
        model, Config(budget=budget, kind=kind, learn=True, min_features=1), generator=generator
    )
    return model


def batch(turn, features=24):
    return torch.randn(8, features, generator=torch.Generator().manual_seed(turn))


def step(model, optimizer, turn=0):
    optimizer.zero_grad()
    x = batch(turn, model[0].in_features)
    (model(x) - x.roll(1, 0)[:, :1]).square().mean().backward()
    optimizer.step()


def adam(model, **options):
    return optim.AdamW(model.parameters(), lr=1e-2, **options)


def total(model):
    return sum(m.positions * m.cost for m in model.modules() if isinstance(m, AnnealWeight))


FEW = [*itertools.product(KINDS, [1, 5], [0.2]), ("gblr", 19, 0.2), ("gblr", 2, 0.02)]
FEW += [("gblr", 5, 1.0), ("low_rank", 2, 0.02)]
ALL = itertools.product(KINDS, [1, 2, 5, 19, 40], [0.02, 0.2, 1.0])
REST = [pytest.param(*cell, marks=pytest.mark.slow) for cell in ALL if cell not in FEW]


@pytest.mark.parametrize(("kind", "steps", "budget"), [*FEW, *REST])
def test_caps_hold_at_every_step(kind, steps, budget):
    model = network(kind, budget)
    model[0].matrix.positions = 7
    optimizer = adam(model)
    rule = Anneal(model, optimizer, budget, steps)
    dense = 7 * 24 * 40 + 40 * 20
    assert rule.dense_cost == dense
    assert rule.target_cost == math.floor(budget * dense)
    caps = [rule.cap(t) for t in range(steps + 1)]
    assert caps[0] == dense or steps == 1
    assert caps == sorted(caps, reverse=True)
    for turn in range(1, steps + 1):
        step(model, optimizer, turn)
        assert total(model) <= rule.cap(turn)
        if turn >= 0.6 * steps:
            assert total(model) <= rule.target_cost
    assert rule.relative_cost == total(model) / dense
    report = freeze_(model)
    assert report.total.cost <= budget * report.total.dense_cost


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(s, marks=pytest.mark.slow) for s in range(8, 60))]
)
def test_the_budget_holds_for_any_settings(seed):
    g = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, (), generator=g))

    kind, steps = KINDS[seed % 4], draw(1, 12)
    given, asked = (draw(1, 100) / 100 for _ in "ab")
    sizes = [draw(1, 40) for _ in range(draw(2, 4))]
    model = network(kind, given, sizes, seed)
    for layer in model:
        layer.matrix.positions = draw(1, 9)
    optimizer = adam(model)
    begin = draw(0, 5) / 10
    rule = Anneal(model, optimizer, asked, steps, begin=begin, end=begin + 0.3, every=0.01)
    for turn in range(1, steps + 1):
        step(model, optimizer, turn)
        assert total(model) <= rule.cap(turn)
    assert total(model) <= asked * rule.dense_cost
    assert total(model) <= sum(
        m.positions * w for m, w in zip(rule.weights, caps_of(rule), strict=True)
    )


def caps_of(rule):
    return [weight.cap for weight in rule.weights]


#: Before the first projection, among runs, among blocks, at the end of the last, and later.
CUTS = [("gblr", cut) for cut in (1, 4, 10, 12, 15)] + [("block_sparse", 6), ("low_rank", 12)]
CUTS += [("block_low_rank", 7), ("block_low_rank", 13)]
MORE = [c for c in itertools.product(KINDS, range(1, 19)) if c not in CUTS]


@pytest.mark.parametrize(
    ("kind", "cut"), [*CUTS, *(pytest.param(*c, marks=pytest.mark.slow) for c in MORE)]
)
def test_training_resumes_bit_for_bit(kind, cut):
    """In every stage, whichever is made first: the rule, or the weights of the checkpoint."""
    steps, order = 20, ("rule first", "weights first")[cut % 2]
    model = network(kind)
    optimizer = adam(model)
    rule = Anneal(model, optimizer, 0.2, steps)
    for turn in range(steps):
        if turn == cut:
            saved = io.BytesIO()
            torch.save([x.state_dict() for x in (model, optimizer, rule)], saved)
        step(model, optimizer, turn)
    saved.seek(0)
    states = torch.load(saved, weights_only=True)
    other = network(kind, seed=1)
    optimizer = adam(other)
    if order == "weights first":
        other.load_state_dict(states[0])
    rule = Anneal(other, optimizer, 0.2, steps)
    for part, state in zip((other, optimizer, rule), states, strict=True):
        part.load_state_dict(state)
    for turn in range(cut, steps):
        step(other, optimizer, turn)
        assert total(other) <= rule.cap(turn + 1)
    assert rule.step == steps
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


OPTIMIZERS = {
    "AdamW": lambda p: optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "fused": lambda p: optim.AdamW(p, lr=1e-2, fused=True),
    "NAdam": lambda p: optim.NAdam(p, lr=1e-2),
    "SGD": lambda p: optim.SGD(p, lr=1e-2, momentum=0.9),
    "RMSprop": lambda p: optim.RMSprop(p, lr=1e-2),
    "Adagrad": lambda p: optim.Adagrad(p, lr=1e-2, initial_accumulator_value=0.1),
    "Rprop": lambda p: optim.Rprop(p, lr=1e-2),
    "ASGD": lambda p: optim.ASGD(p, lr=1e-2),
    "Adadelta": lambda p: optim.Adadelta(p, lr=1.0),
    "Adafactor": lambda p: optim.Adafactor(p, lr=1e-2),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_contents_begin_with_a_fresh_optimizer(make):
    """The step after the last projection is that of a new optimizer."""
    model = network(sizes=(24, 40))
    optimizer = make(model.parameters())
    Anneal(model, optimizer, 0.2, 10)
    for turn in range(6):
        step(model, optimizer, turn)
    assert model[0].matrix.is_factored
    other = copy.deepcopy(model)
    step(other, make(other.parameters()), 6)
    step(model, optimizer, 6)
    torch.testing.assert_close(model[0].matrix.weight, other[0].matrix.weight, rtol=1e-6, atol=1e-8)
    assert optimizer.state[model[0].bias]


def test_one_projection_for_each_real_step():
    model = network()
    optimizer = adam(model)
    rule = Anneal(model, optimizer, 0.2, 4)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for seen, factor in ((1, 1.0), (1, math.inf), (2, 1.0)):
        optimizer.zero_grad()
        scaler.scale(factor * model(batch(seen)).square().sum()).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        assert rule.step == seen
        assert total(model) <= rule.cap(seen)
    cost = total(model)
    rule.remove()
    for turn in range(3):
        step(model, optimizer, turn)
    assert rule.step == 2
    assert total(model) == cost


def test_several_optimizers_and_closures():
    model = network()
    halves = [optim.SGD(layer.parameters(), lr=1e-2) for layer in model]
    rule = Anneal(model, halves, 0.2, 2)
    step(model, halves[0])
    assert rule.step == 0
    halves[1].step()
    assert rule.step == 1
    optimizer = optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    rule = Anneal(model, optimizer, 0.1, 3)

    def closure():
        optimizer.zero_grad()
        loss = model(batch(0)).square().mean()
        loss.backward()
        return loss

    for turn in range(1, 4):
        optimizer.step(closure)
        assert rule.step == turn
        assert total(model) <= rule.cap(turn)
    assert total(model) <= rule.target_cost


def test_fixed_weights_meet_the_budget_as_well():
    model = network()
    model[0].matrix.requires_grad_(False)
    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    rule = Anneal(model, optimizer, 0.2, 5)
    for turn in range(5):
        step(model, optimizer, turn)
    assert total(model) <= rule.target_cost
    before = model[0].weight.detach().clone()
    assert before.any()
    step(model, optimizer, 6)
    assert torch.equal(model[0].weight, before)
    freeze_(model)
    assert not any(p.requires_grad for p in model[0].matrix.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_diverged_are_named(value):
    model = network()
    optimizer = adam(model)
    Anneal(model, optimizer, 0.2, 10)
    with torch.no_grad():
        model[1].matrix.weight[3, 2] = value
    optimizer.step()  # without gradients
    with pytest.raises(TrainingError, match=r"layer '1\.matrix' has NaN .* after 2 steps; .*rate"):
        optimizer.step()


def test_values_off_the_support_are_no_news():
    """Momentum moves them; they must not come back by a projection."""
    model = network(sizes=(24, 40))
    optimizer = adam(model)
    Anneal(model, optimizer, 0.2, 20)
    weight = model[0].matrix
    for turn in range(3):
        step(model, optimizer, turn)
    off = torch.tensor(~weight.projected.support)
    assert off.any()
    with torch.no_grad():
        weight.weight[off] = 100.0
    step(model, optimizer, 4)
    assert float(weight.values().abs().max()) < 10


@kinds
def test_a_later_rule_takes_over(kind):
    """Also of weights whose structure was final."""
    model = network(kind)
    optimizer = adam(model)
    first = Anneal(model, optimizer, 0.2, 5)
    for turn in range(5):
        step(model, optimizer, turn)
    y, cost = model(batch(0)), total(model)
    second = Anneal(model, optimizer, 0.2, 8)
    for turn in range(8):
        step(model, optim.SGD(model.parameters(), lr=0.0), turn)  # which no rule follows
    assert torch.equal(model(batch(0)), y)
    third = Anneal(model, optimizer, 0.1, 8)
    assert third.cap(0) == cost
    for turn in range(8):
        step(model, optimizer, turn)
        assert total(model) <= third.cap(turn + 1)
    assert (first.step, second.step, third.step) == (5, 0, 8)
    assert total(model) <= third.target_cost < cost
    assert model[0].matrix.is_factored == (kind != "block_sparse")


def test_a_shared_weight_counts_once_and_is_projected_once():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 24))
    model[2].weight = model[0].weight
    convert_(model, Config(budget=0.2))
    optimizer = adam(model)
    rule = Anneal(model, optimizer, 0.2, 3)
    assert len(rule.weights) == 1
    for turn in range(3):
        step(model, optimizer, turn)
    assert model[0].matrix is model[2].matrix
    assert total(model[0]) <= rule.target_cost == math.floor(0.2 * 24 * 24)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 0.0}, BudgetError, "budget = 0.0; expected a fraction"),
        ({"budget": 1.5}, BudgetError, "budget = 1.5"),
        ({"begin": 0.5, "end": 0.5}, InputError, "begin = 0.5, end = 0.5; expected"),
        ({"end": 1.1}, InputError, "end = 1.1"),
        ({"every": 0.0}, InputError, "every = 0.0"),
        ({"total_steps": 0}, InputError, "total_steps = 0; expected at least 1"),
    ],
)
def test_options_are_checked(options, error, message):
    model = network()
    settings = {"budget": 0.2, "total_steps": 10} | options
    with pytest.raises(error, match=message):
        Anneal(model, adam(model), settings.pop("budget"), settings.pop("total_steps"), **settings)


def test_a_model_that_does_not_learn_is_refused():
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(InputError, match=r"no layers with a AnnealWeight.*Config\(budget="):
        Anneal(model, adam(model), 0.2, 10)


def test_shares_of_the_training_are_exact_in_steps():
    """Rounding of the shares moves no projection to another step."""
    model = network()
    for steps in (10, 20, 100, 1000, 12345):
        rule = Anneal(model, adam(model), 0.2, steps)
        expected = sorted({math.ceil(steps * (15 + 5 * k) / 100) for k in range(10)})
        assert sorted(set(rule._due)) == expected
