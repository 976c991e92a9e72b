"""When rules act and how they resume; published shrink rules, σ, groups and revival."""

import copy
import math

import pytest
import torch
from test_nn_budget_projection import costs, fill, network, still, widths
from torch import nn

from structmat import InputError
from structmat.nn import (
    BudgetProjection,
    GaudiWeight,
    MeanShrink,
    SigmaSchedule,
    SoftThreshold,
    parameter_groups,
)
from structmat.nn.training.revive import revive_


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_one_update_per_real_step():
    model = network(16, 16, width_init=0.5)
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-3, structure_lr=1e-3))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    rule = BudgetProjection(model, optimizer, 0.2, 10, ramp=1.0)
    sigma = SigmaSchedule(model, optimizer, 10)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for seen, factor in ((1, 1.0), (1, math.inf), (2, 1.0)):
        optimizer.zero_grad()
        before = [p.detach().clone() for p in model.parameters()]
        scaler.scale(factor * model(torch.randn(3, 16)).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        assert rule.step == sigma.step == seen
        same = all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
        assert same == math.isinf(factor)
    rule.remove()
    optimizer.step()
    assert (rule.step, sigma.step) == (2, 3)


def step(model, optimizer, scheduler, turn):
    x = torch.sin(torch.arange(48.0) * (turn + 1)).view(3, 16)
    optimizer.zero_grad()
    (model(x) - x.roll(3, 1)).square().sum().backward()
    optimizer.step()
    scheduler.step()


def training(model, **options):
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, structure_lr=2e-2))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    rule = BudgetProjection(model, optimizer, 0.2, 12, **options)
    return optimizer, scheduler, rule, SigmaSchedule(model, optimizer, 12)


@pytest.mark.parametrize("options", [{}, {"revive_every": 3}, {"metric": "euclidean", "ramp": 1.0}])
@pytest.mark.parametrize("cut", [3, 5, 8])
@pytest.mark.parametrize("order", ["rules first", "weights first"])
def test_training_resumes_bit_for_bit(options, cut, order):
    model, other = (network(16, 16, 16, num_blocks=12) for _ in "ab")
    parts = training(model, **options)
    for turn in range(12):
        if turn == cut:
            saved = copy.deepcopy([model.state_dict(), *(p.state_dict() for p in parts)])
        step(model, *parts[:2], turn)
    if order == "weights first":
        other.load_state_dict(saved[0])
    parts = training(other, **options)
    for part, state in zip([other, *parts], saved, strict=True):
        part.load_state_dict(state)
    for turn in range(cut, 12):
        step(other, *parts[:2], turn)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_soft_threshold_follows_the_learning_rate_of_the_widths():
    model = network(16, 16, 16)
    optimizer = torch.optim.SGD(parameter_groups(model, lr=7.0, structure_lr=0.1))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    SoftThreshold(model, optimizer, 0.5)
    for rate in (0.1, 0.05, 0.025):
        expected = [(p - rate * 0.5).clamp(0, 1) for p in widths(model)]
        optimizer.step()
        scheduler.step()
        assert all(torch.equal(p, q) for p, q in zip(widths(model), expected, strict=True))


@pytest.mark.parametrize(
    ("options", "strengths"),
    [
        ({}, [4, 4, 4, 4, 4, 4, 4]),
        ({"warmup": (2, 6), "initial_strength": 0.0}, [0, 0, 1, 2, 3, 4, 4]),
        ({"warmup": (0, 4), "initial_strength": 8.0}, [7, 6, 5, 4, 4, 4, 4]),
        ({"warmup": (5, 5), "initial_strength": 1.0}, [1, 1, 1, 1, 4, 4, 4]),
    ],
)
def test_soft_threshold_warms_up(options, strengths):
    model = network(16, 16, width_init=1.0)
    SoftThreshold(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.01), 4.0, **options)
    for strength in strengths:
        before = [p.detach().clone() for p in widths(model)]
        optimizer.step()
        for p, q in zip(widths(model), before, strict=True):
            torch.testing.assert_close(p.detach(), q - 0.01 * strength)


def mean_of_live(model):
    means = []
    for layer in model:
        row, col = widths(layer)
        alive = (row > 0) & (col > 0)
        means.append((row + col)[alive].mean().item() / 2)
    return sum(means) / len(means)


@pytest.mark.parametrize("power", [None, 1, 2.0])
def test_soft_threshold_stops_at_a_target(power):
    model = network(16, 16, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    SoftThreshold(model, optimizer, 0.5, target=0.4, power=power)
    for _ in range(20):
        mean = mean_of_live(model)
        scale = max(mean - 0.4, 0.0) / 0.6
        scale = float(mean > 0.4) if power is None else scale**power
        expected = [(p - 0.05 * scale).clamp(0, 1) for p in widths(model)]
        optimizer.step()
        for p, q in zip(widths(model), expected, strict=True):
            torch.testing.assert_close(p, q)
    assert power is not None or mean <= 0.4


@pytest.mark.parametrize("freeze", [True, False])
def test_structure_may_freeze_at_the_target(freeze):
    """For good: neither gradients nor momentum, nor a new start from a checkpoint, move it."""
    model = network(16, 16, 16)
    runs = [p for n, p in model.named_parameters() if "structure" in n]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    rule = SoftThreshold(model, optimizer, 5.0, target=0.4, freeze=freeze)

    def moved():
        before = [p.detach().clone() for p in runs]
        for p in runs:
            p.grad = torch.randn_like(p)
        optimizer.step()
        return any(not torch.equal(p, q) for p, q in zip(runs, before, strict=True))

    while mean_of_live(model) > 0.4:
        assert moved()
    assert [moved() for _ in range(5)] == [not freeze] * 5
    rule.remove()
    state, rule = rule.state_dict(), SoftThreshold(model, optimizer, 5.0, target=0.4, freeze=freeze)
    with torch.no_grad():
        runs[0].fill_(1.0)  # far above the target again
    rule.load_state_dict(state)
    assert moved() != freeze


@pytest.mark.parametrize("why", ["warm-up", "learning rate"])
def test_nothing_freezes_before_the_target_is_met(why):
    """A threshold of zero may also come from λ or the learning rate."""
    model = network(16, 16, width_init=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0 if why == "learning rate" else 0.1)
    SoftThreshold(
        model, optimizer, 0.5, target=0.1, freeze=True, initial_strength=0.0, warmup=(2, 4)
    )
    optimizer.step()
    with torch.no_grad():
        widths(model)[0].fill_(0.25)
    optimizer.step()
    assert all(p.requires_grad for p in widths(model))
    assert (widths(model)[0] == 0.25).all()


@pytest.mark.parametrize("rate", [1.0, 0.25])
@pytest.mark.parametrize("every", [1, 3])
def test_mean_shrink(rate, every):
    model = network(16, 16, 16)
    with torch.no_grad():
        widths(model)[0][:2] = 0.0  # these blocks do not count in the mean
    MeanShrink(model, optimizer := still(model), 0.3, rate=rate, every=every)
    for turn in range(1, 7):
        excess = mean_of_live(model) - 0.3
        drop = rate * excess if turn % every == 0 and excess > 0 else 0.0
        expected = [(p - drop).clamp(0, 1) for p in widths(model)]
        optimizer.step()
        for p, q in zip(widths(model), expected, strict=True):
            torch.testing.assert_close(p, q)


def test_mean_shrink_goes_on_from_a_checkpoint_and_leaves():
    model = network(16, 16)
    rule = MeanShrink(model, optimizer := still(model), 0.3, rate=0.25, every=2)
    optimizer.step()
    state = rule.state_dict()
    rule.remove()
    before = [p.clone() for p in widths(model)]
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(widths(model), before, strict=True))
    again = MeanShrink(model, optimizer, 0.3, rate=0.25, every=2)
    again.load_state_dict(state)
    optimizer.step()
    assert again.step == 2
    assert not any(torch.equal(p, q) for p, q in zip(widths(model), before, strict=True))


def test_thresholds_take_nothing_from_fixed_widths():
    model = network(16, 16, width_init=0.5)
    for p in widths(model):
        p.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    rule = SoftThreshold(model, optimizer, 1.0)
    optimizer.step()
    assert rule.threshold() == 0
    assert all((p == 0.5).all() for p in widths(model))


@pytest.mark.parametrize(
    "make",
    [
        lambda m, o: SoftThreshold(m, o, -1.0),
        lambda m, o: SoftThreshold(m, o, math.nan),
        lambda m, o: SoftThreshold(m, o, 1.0, power=2),
        lambda m, o: SoftThreshold(m, o, 1.0, freeze=True),
        lambda m, o: SoftThreshold(m, o, 1.0, warmup=(6, 5)),
        lambda m, o: SoftThreshold(m, o, 1.0, target=1.0, power=1.0),
        lambda m, o: MeanShrink(m, o, 0.3, every=0),
        lambda m, o: SigmaSchedule(m, o, 10, start=0.0),
        lambda m, o: SigmaSchedule(m, o, 10, stop=math.nan),
        lambda m, o: SigmaSchedule(m, o, 10, stop=math.inf),
        lambda m, o: SigmaSchedule(m, o, 10, warmup=0.6, cooldown=0.6),
        lambda m, o: SigmaSchedule(m, o, 10, warmup=-0.1),
        lambda m, o: SigmaSchedule(m, o, 10, cooldown=math.nan),
        lambda m, o: SigmaSchedule(m, o, 0),
    ],
)
def test_rules_and_schedules_refuse(make):
    model = network(8, 8, width_init=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match="expected"):
        make(model, optimizer)
    optimizer.step()
    assert all((p == 0.5).all() for p in widths(model))


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({}, {0: 1, 2: 1, 3: 1 + 99 / 16, 10: 50.5, 17: 1 + 99 * 15 / 16, 18: 100, 50: 100}),
        ({"start": 10, "stop": 30, "warmup": 0.0, "cooldown": 0.0}, {0: 10, 5: 15, 20: 30}),
        ({"start": 30, "stop": 10, "warmup": 0.5, "cooldown": 0.25}, {10: 30, 12: 22, 15: 10}),
        ({"start": math.inf, "stop": math.inf}, {0: math.inf, 7: math.inf, 20: math.inf}),
        ({"warmup": 0.5, "cooldown": 0.5}, {0: 1, 9: 1, 10: 100, 20: 100}),
        ({"warmup": 1.0, "cooldown": 0.0}, {0: 1, 19: 1, 20: 100}),
    ],
)
def test_sigma_schedule(options, values):
    model = network(8, 8, 8)
    schedule = SigmaSchedule(model, optimizer := still(model), 20, **options)
    assert {s: schedule.at(s) for s in values} == pytest.approx(values)
    for turn in range(1, 21):
        assert [layer.matrix.sigma for layer in model] == [schedule.at(turn - 1)] * 2
        optimizer.step()
    schedule.load_state_dict({"step": 0})
    assert model[0].matrix.sigma == schedule.sigma == schedule.at(0)


def test_parameter_groups_are_complete_and_disjoint():
    model = nn.Sequential(*network(8, 8, 8), nn.Linear(8, 3), nn.LayerNorm(3))
    model[1].matrix.structure.row_location.requires_grad_(False)
    rest, own = parameter_groups(
        model, lr=1.0, structure_lr=2.0, weight_decay=0.1, structure_betas=(0, 0.9)
    )
    assert (rest["lr"], rest["weight_decay"]) == (1.0, 0.1)
    assert (own["lr"], own["weight_decay"], own["betas"]) == (2.0, 0.0, (0, 0.9))
    names = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    found = [id(p) for p in rest["params"] + own["params"]]
    assert sorted(found) == sorted(names)
    assert all(
        ("structure" in names[id(p)]) == (group is own)
        for group in (rest, own)
        for p in group["params"]
    )
    assert len(parameter_groups(nn.Linear(2, 2), lr=1.0, structure_lr=1.0)) == 1


@pytest.mark.parametrize(
    "options", [{}, {"max_width": 6}, {"rank": 2}, {"granularity": 2}, {"straight_through": False}]
)
def test_a_revival_leaves_the_function_alone(options):
    """Two blocks with one side, one with none; they go to where the gradient is largest."""
    weight = GaudiWeight((16, 24), num_blocks=6, width_init=0.25, sigma=3.0, **options)
    with torch.no_grad():
        weight.structure.row_width[:2] = 0.0
        weight.structure.col_width[1:3] = 0.0
    weight.record_weight_grad = True
    upstream = torch.zeros(24, 16)
    upstream[6:12, 8:12] = 1.0
    (weight(torch.eye(24)) * upstream).sum().backward()
    assert weight.weight_grad is not None
    before = [weight.train(mode).dense() for mode in (True, False)]
    dead = weight.cost
    assert revive_(weight) == 3
    for mode, dense in zip((True, False), before, strict=True):
        torch.testing.assert_close(weight.train(mode).dense(), dense, rtol=0, atol=1e-7)
    assert weight.weight_grad is None
    assert weight.cost == 2 * dead
    rows, cols = weight.structure.row_location[:3] * 16, weight.structure.col_location[:3] * 24
    assert (8, 6) in [
        (round(r), round(c)) for r, c in zip(rows.tolist(), cols.tolist(), strict=True)
    ]
    # Along the gradient's leading direction there, which is a constant.
    contents = weight.v[:3, 0].gather(1, (6 + torch.arange(6)).expand(3, -1) % weight.v.shape[-1])
    assert contents.std(1).min() < 1e-6 < contents.abs().mean(1).min()
    weight.zero_grad()
    (weight(torch.eye(24)) * upstream).sum().backward()
    assert weight.u.grad[:3].abs().amax((1, 2)).max() > 0
    assert revive_(weight) == 0


def test_weights_that_share_a_structure_are_revived_together():
    a, b = (GaudiWeight((16, 24), num_blocks=6, width_init=0.25) for _ in "ab")
    b.structure = a.structure
    with torch.no_grad():
        a.structure.row_width[:2] = 0.0
    model = nn.ModuleList([a, b])
    BudgetProjection(model, optimizer := still(model), 1.0, 10, revive_every=1)
    before = [w.dense() for w in model]
    sum((w(torch.eye(24)) * torch.randn(24, 16)).sum() for w in model).backward()
    optimizer.step()
    assert (a.structure.row_width > 0).all()
    for w, dense in zip(model, before, strict=True):
        torch.testing.assert_close(w.dense(), dense)


@pytest.mark.parametrize("options", [{"learn_widths": False}, {"learn_locations": False}])
def test_a_revival_leaves_fixed_runs_where_they_are(options):
    weight = GaudiWeight((16, 24), num_blocks=6, width_init=0.25, **options)
    with torch.no_grad():
        weight.structure.row_width[:2] = 0.0
    fixed = {
        n: p.detach().clone() for n, p in weight.structure.named_parameters() if not p.requires_grad
    }
    weight.record_weight_grad = True
    weight(torch.eye(24)).square().sum().backward()
    revive_(weight)
    assert len(fixed) == 2
    assert all(torch.equal(getattr(weight.structure, n), p) for n, p in fixed.items())


def test_a_gradient_that_is_not_finite_revives_nothing():
    weight = GaudiWeight((4, 4), num_blocks=2, width_init=0.0)
    weight.weight_grad = torch.full((4, 4), math.nan)
    assert revive_(weight) == weight.cost == 0


def test_what_the_published_rule_kills_for_ever_is_revived():
    teacher = torch.zeros(12, 12)
    teacher[2:7, 5:9] = torch.randn(5, 1) * torch.randn(1, 4)
    x = torch.randn(64, 12)

    def loss(model):
        return (model(x) - x @ teacher.T).square().mean()

    def train(model, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()

    model = network(12, 12, bias=False, num_blocks=3, width_init=0.5, sigma=2.0)
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, structure_lr=1e-2))
    rule = SoftThreshold(model, optimizer, 20.0)
    train(model, optimizer, 10)
    assert costs(model) == [0]
    rule.remove()
    stuck = loss(model).item()
    train(model, optimizer, 20)
    assert all((p.grad == 0).all() for p in model.parameters())
    assert loss(model).item() == stuck
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=3e-2, structure_lr=1e-3))
    BudgetProjection(model, optimizer, 0.3, 150, revive_every=10)
    train(model, optimizer, 150)
    assert 0 < costs(model)[0] <= 0.3 * 144
    assert loss(model).item() < 0.2 * stuck


def test_a_skipped_step_does_not_poison_a_revival():
    model = network(16, 16, width_init=0.5)
    fill(model, torch.tensor(0.5))
    with torch.no_grad():
        for p in widths(model):
            p[:3] = 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    BudgetProjection(model, optimizer, 0.9, 10, ramp=1.0, revive_every=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for factor in (math.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale(factor * model(torch.randn(3, 16)).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert all(p.isfinite().all() for p in model.parameters())
    assert all((p > 0).all() for p in widths(model))


def test_a_fused_step_that_scaling_skipped_does_not_count():
    model = network(8, 8, width_init=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    schedule = SigmaSchedule(model, optimizer, 10)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for factor, steps in ((math.inf, 0), (1.0, 1)):
        optimizer.zero_grad()
        scaler.scale(factor * model(torch.ones(3, 8)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert schedule.step == steps
