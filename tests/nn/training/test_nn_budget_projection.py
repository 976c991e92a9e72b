"""Rules that shrink widths, and the exact budget against brute force."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structmat import BudgetError, InputError
from structmat.nn import (
    BudgetProjection,
    GaudiLinear,
    GaudiWeight,
    MeanShrink,
    SoftThreshold,
)
from structmat.nn.training.projection import projected
from structmat.nn.training.widths import Widths


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def network(*sizes, **options):
    options = {"width_init": "uniform", "num_blocks": 8} | options
    return nn.Sequential(*(GaudiLinear(a, b, **options) for a, b in pairwise(sizes)))


def still(model):
    """An optimizer whose steps change nothing by themselves."""
    trained = [p for p in model.parameters() if p.requires_grad]
    # Layers without blocks have no parameters, and torch wants one.
    return torch.optim.SGD(trained or [nn.Parameter(torch.zeros(1))], lr=0.0)


def widths(model):
    return [p for n, p in model.named_parameters() if n.endswith("width")]


def costs(model, measure="multiplications"):
    """Of each weight, by its own account."""
    weights = [w for w in model.modules() if isinstance(w, GaudiWeight)]
    return [w.cost * w.positions if measure == "multiplications" else w.storage for w in weights]


def fill(model, value):
    with torch.no_grad():
        for p in widths(model):
            p.fill_(value)


class Flat:
    """All widths in one row with what they cost, in NumPy, for brute force."""

    def __init__(self, model, measure="multiplications"):
        rows, partner = [], []
        for w in (w for w in model.modules() if isinstance(w, GaudiWeight)):
            unit = w.rank * (w.positions if measure == "multiplications" else 1)
            k, begin = w.num_blocks, len(rows)
            partner += [*range(begin + k, begin + 2 * k), *range(begin, begin + k)]
            for n, runs in zip(
                w.shape, (w.structure.row_width, w.structure.col_width), strict=True
            ):
                rows += [(value, n, w.granularity, unit, w.min_width) for value in runs.tolist()]
        table = np.array(rows, float).reshape(-1, 5)
        self.value, self.n, self.grain, self.unit, self.least = table.T
        self.partner = np.array(partner, int)

    def samples(self, value):
        return np.clip(np.rint(value * self.n / self.grain) * self.grain, self.least, self.n)

    def cost(self, value):
        s = self.samples(value)
        return (self.unit * s * (s[self.partner] > 0)).sum()

    def just_around_the_threshold(self, budget):
        """Widths before and after the first τ, of all at which a sample is lost, that suffices."""
        lost = {0.0}
        for w, n, g in zip(self.value, self.n, self.grain, strict=True):
            lost |= {w - (s + 0.5) * g / n for s in range(int(n // g) + 1)}
        for tau in sorted(t for t in lost if t >= 0):
            after = np.maximum(self.value - tau - 1e-5, 0)
            if self.cost(after) <= budget:
                return np.maximum(self.value - max(tau - 1e-5, 0), 0), after
        raise AssertionError("no threshold is enough")


@st.composite
def models(draw):
    """Several weights with dyadic widths and sizes, so that thresholds are exact, and ties."""
    parts = []
    coarse = draw(st.sampled_from([4, 64, 512]))  # few different widths mean many ties
    for _ in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.sampled_from([1, 2, 8, 32, 64])) for _ in "mn")
        grain = draw(st.sampled_from([1, 2]))
        weight = GaudiWeight(
            shape, num_blocks=draw(st.integers(0, 6)), rank=draw(st.integers(1, 3)),
            granularity=grain if min(shape) > 1 else 1, width_init=0.0,
        )  # fmt: skip
        weight.positions = draw(st.sampled_from([1, 1, 5]))
        with torch.no_grad():
            for p in (weight.structure.row_width, weight.structure.col_width):
                ints = draw(st.lists(st.integers(0, coarse), min_size=len(p), max_size=len(p)))
                p.copy_(torch.tensor(ints) / coarse)
        parts.append(weight)
    return nn.ModuleList(parts)


@given(models(), st.floats(0.01, 1), st.sampled_from(["multiplications", "parameters"]))
def test_the_budget_against_brute_force(model, budget, measure):
    flat = Flat(model, measure)
    rule = BudgetProjection(model, optimizer := still(model), budget, 1, ramp=0.0, measure=measure)
    assert flat.cost(flat.value) == sum(costs(model, measure))
    optimizer.step()
    result = Flat(model, measure)
    assert result.cost(result.value) == sum(costs(model, measure)) <= rule.target_cost
    assert rule.relative_cost == pytest.approx(sum(costs(model, measure)) / rule.dense_cost)
    if flat.cost(flat.value) <= rule.target_cost:
        assert (result.value == flat.value).all()
        return
    before, after = flat.just_around_the_threshold(rule.target_cost)
    samples = result.samples(result.value)
    assert (flat.samples(after) <= samples).all()
    assert (samples <= flat.samples(before)).all()
    # Among those that tie at the threshold, one that was left out would not have fitted.
    left_out = np.flatnonzero(samples < flat.samples(before))
    assert left_out.size
    trials = []
    for i in left_out:
        wider = result.value.copy()
        wider[i] = before[i]
        trials.append(result.cost(wider))
    assert max(trials) > rule.target_cost


@given(st.integers(0, 999), st.sampled_from(["width", "euclidean"]), st.floats(0.05, 0.9))
def test_the_cap_holds_whatever_the_sizes(seed, metric, budget):
    torch.manual_seed(seed)
    sizes = torch.randint(1, 200, (4,)).tolist()
    model = network(*sizes, granularity=seed % 3 + 1, num_blocks=40)
    rule = BudgetProjection(model, optimizer := still(model), budget, 1, ramp=0.0, metric=metric)
    optimizer.step()
    assert sum(costs(model)) <= rule.target_cost


@pytest.mark.parametrize("value", [0.5, 0.30001, 1.0])
@pytest.mark.parametrize("metric", ["width", "euclidean"])
def test_equal_widths_share_the_budget_to_the_last_sample(value, metric):
    """All tie: without filling up, a whole sample of every width would be lost at once."""
    model = network(64, 64, 64, num_blocks=64, width_init=value)
    for budget in (0.01, 0.1001, 0.2, 0.333):
        fill(model, value)
        rule = BudgetProjection(
            model, optimizer := still(model), budget, 1, ramp=0.0, metric=metric
        )
        optimizer.step()
        rule.remove()
        assert rule.target_cost - 2 < sum(costs(model)) <= rule.target_cost


@pytest.mark.parametrize("metric", ["width", "euclidean"])
def test_equal_widths_spend_the_budget_where_every_block_keeps_both_sides(metric):
    model = network(64, 64, num_blocks=64, width_init=0.5)
    rule = BudgetProjection(model, optimizer := still(model), 0.333, 1, ramp=0.0, metric=metric)
    optimizer.step()
    assert sum(costs(model)) == rule.target_cost


@pytest.mark.parametrize("metric", ["width", "euclidean"])
@pytest.mark.parametrize(
    ("budget", "off"), [(16, 0.0), (15, 0.0), (14, 0.01), (13, 0.09), (12, 0.11)]
)
def test_the_threshold_is_the_least_that_meets_the_budget(budget, off, metric):
    """The second of 8.4 and 6.6 samples loses one first."""
    every = Widths(network(10, 10, num_blocks=1), "multiplications")
    values = torch.tensor([0.84, 0.66], dtype=torch.float64)
    found = projected(every, values, budget, metric)
    assert (values - found).tolist() == pytest.approx([off, off], abs=1e-7 if off else 0.0)


@pytest.mark.parametrize("metric", ["width", "euclidean"])
def test_widths_that_are_all_fixed_stay(metric):
    model = network(10, 10, num_blocks=2, width_init=0.4)
    model.requires_grad_(False)
    every = Widths(model, "multiplications")
    assert torch.equal(projected(every, every.values(), 100, metric), every.values())


@pytest.mark.parametrize("share", [0.7, 0.9, 1.0])
def test_euclidean_metric_is_the_nearest_point_of_the_ball(share):
    """Against bisection of the quadratic program, and by the inequality that marks a projection."""
    model = network(3000, 700, 5000, num_blocks=20)
    model[0].matrix.positions = 3
    with torch.no_grad():
        for p in widths(model):  # wide enough that no block loses a side: those cost nothing
            p.mul_(0.5).add_(0.5)
    flat = Flat(model)
    dense = 700 * (3 * 3000 + 5000)
    rule = BudgetProjection(
        model, optimizer := still(model), share * flat.cost(flat.value) / dense, 1, ramp=0.0,
        metric="euclidean",
    )  # fmt: skip
    optimizer.step()
    c, v, p = flat.unit * flat.n, flat.value, Flat(model).value
    low, high = 0.0, (v / c).max()
    for _ in range(100):
        middle = (low + high) / 2
        over = c @ np.maximum(v - middle * c, 0) > rule.target_cost
        low, high = (middle, high) if over else (low, middle)
    assert abs(p - np.maximum(v - high * c, 0)).max() < 2 / 700
    ball = c @ p
    assert ball == pytest.approx(rule.target_cost, rel=0.01)
    corners = np.vstack([np.zeros_like(p), np.diag(ball / c)])
    assert ((corners - p) @ (v - p)).max() <= 1e-4


def test_layers_without_blocks_have_no_part():
    for model in (network(8, 8, num_blocks=0), network(8, 8, 8, num_blocks=4)):
        model.insert(0, network(8, 8, num_blocks=0)[0])
        BudgetProjection(model, optimizer := still(model), 0.5, 1, ramp=0.0, floors=0.0, caps=1.0)
        optimizer.step()
        assert costs(model)[0] == 0


def test_no_layer_starves_where_all_widths_tie():
    """Filling up in the order of the layers would leave the last ones without any width."""
    model = network(64, 64, 64, num_blocks=64, width_init=0.5)
    BudgetProjection(model, optimizer := still(model), 0.02, 1, ramp=0.0)
    optimizer.step()
    assert min(costs(model)) > 0.25 * sum(costs(model))


def test_width_metric_takes_the_same_off_every_width():
    model = network(300, 200, 300, num_blocks=30)
    before = torch.cat(widths(model)).detach().clone()
    BudgetProjection(model, optimizer := still(model), 0.05, 1, ramp=0.0)
    optimizer.step()
    after = torch.cat(widths(model)).detach()
    tau = (before - after)[after > 0]
    assert tau.max() - tau.min() < 1e-6
    assert (before[after == 0] <= tau.max() + 1e-6).all()


def test_the_cap_falls_along_a_cubic_ramp():
    model = network(64, 64, num_blocks=64, width_init=0.45)
    start = sum(costs(model))
    rule = BudgetProjection(model, optimizer := still(model), 0.1, 20, ramp=0.5)
    target = math.floor(0.1 * 64**2)
    expected = [target + math.floor((start - target) * (1 - s / 10) ** 3) for s in range(10)]
    assert [rule.cap(s) for s in range(25)] == expected + [target] * 15
    for step in range(1, 25):
        optimizer.step()
        assert rule.cap(step) - 1 <= sum(costs(model)) <= rule.cap(step)
    assert BudgetProjection(model, optimizer, 0.5, 20).cap(0) == math.floor(0.5 * 64**2)


def test_positions_weigh_multiplications_but_not_parameters():
    model = network(32, 32, 32, width_init=0.5, num_blocks=16)
    model[0].matrix.positions = 9
    multiplications = BudgetProjection(model, still(model), 0.2, 1)
    parameters = BudgetProjection(model, still(model), 0.2, 1, measure="parameters")
    assert multiplications.dense_cost == 10 * 32**2
    assert parameters.dense_cost == 2 * 32**2
    assert multiplications.cap(0) == 10 * 16 * 32
    assert parameters.cap(0) == 2 * 16 * 32


def test_floors_and_caps_of_layers():
    model = network(*[64] * 5, num_blocks=64, width_init=0.4)
    with torch.no_grad():
        for p in widths(model):
            p.add_(0.1 * torch.rand_like(p))
    rule = BudgetProjection(
        model, optimizer := still(model), 0.2, 1, ramp=0.0,
        floors={"0.matrix": 0.5, "1.matrix": 0.2}, caps={"2.matrix": 0.02, "1.matrix": 0.3},
    )  # fmt: skip
    optimizer.step()
    share = [c / 64**2 for c in costs(model)]
    assert share[0] >= 0.5
    assert 0.2 <= share[1] <= 0.3
    assert 0.01 < share[2] <= 0.02
    assert 0 < sum(share) / 4 <= rule.target_cost / rule.dense_cost


def test_caps_hold_while_the_budget_is_far():
    model = network(64, 64, 64, num_blocks=64, width_init=0.4)
    BudgetProjection(model, optimizer := still(model), 1.0, 1, caps=0.9, floors=0.1)
    optimizer.step()
    assert all((p == 0.4).all() for p in widths(model))  # to the last bit
    BudgetProjection(model, optimizer, 1.0, 1, caps=0.25)
    optimizer.step()
    assert all(c <= 0.25 * 64**2 for c in costs(model))


def test_the_cap_holds_where_widths_tie_at_their_floors():
    model = network(64, 64, 64, num_blocks=64, width_init=0.5)
    rule = BudgetProjection(model, optimizer := still(model), 0.311, 1, ramp=0.0, floors=0.31)
    optimizer.step()
    assert sum(costs(model)) <= rule.target_cost
    assert min(costs(model)) >= math.floor(0.31 * 64**2)


def test_the_cap_holds_where_floors_with_a_block_more_would_break_it():
    model = network(64, 64, 64, num_blocks=64, width_init=0.5, granularity=8)
    rule = BudgetProjection(model, optimizer := still(model), 0.201, 1, ramp=0.0, floors=0.2)
    optimizer.step()
    assert sum(costs(model)) <= rule.target_cost
    assert min(costs(model)) >= math.floor(0.2 * 64**2) - 8  # one step of a width


@pytest.mark.parametrize("layers", [{"min_width": 4}, {}])
def test_floors_never_break_the_cap(layers):
    """A floor is refused where widths that grow later could not meet both."""
    model = network(64, 64, num_blocks=64, width_init=0.1, **layers)
    with pytest.raises(BudgetError, match="floors"):
        BudgetProjection(model, still(model), 0.3, 1, ramp=0.0, floors=0.5)


BAD = {
    "budget": [0.0, 1.5, math.nan, 0.1],  # the least widths below cost 0.5
    "floors": [0.95, math.nan, True, "0.1", {"1.matrix": 0.1}],
    "caps": [0.1, math.nan, True, {"weight": 0.1}],
    "metric": ["manhattan"], "measure": ["flops"], "total_steps": [0],
    "ramp": [1.5, math.nan], "revive_every": [0],
}  # fmt: skip


@pytest.mark.parametrize("options", [{k: v} for k, bad in BAD.items() for v in bad])
def test_refusals_change_nothing(options):
    model = network(16, 16, min_width=4, width_init=1.0, num_blocks=16)
    optimizer = still(model)
    kind = (
        BudgetError if options in ({"budget": 0.1}, {"floors": 0.95}, {"caps": 0.1}) else InputError
    )
    options = {"budget": 0.9, "total_steps": 1, "ramp": 0.0} | options
    with pytest.raises(kind, match=r"expected|allow|lower"):
        BudgetProjection(model, optimizer, **options)
    optimizer.step()
    assert all((p == 1).all() for p in widths(model))


RULES = {
    "budget": lambda m, o: BudgetProjection(m, o, 0.15, 1, ramp=0.0),
    "soft": lambda m, o: SoftThreshold(m, o, 1.0),
    "mean": lambda m, o: MeanShrink(m, o, 0.1),
}
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@rules
def test_refuses_models_without_gaudi_layers(rule):
    model = nn.Linear(3, 3)
    with pytest.raises(InputError, match="no Gaudi layers"):
        rule(model, still(model))


@rules
def test_widths_stay_fractions_and_locations_on_the_circle(rule):
    model = network(16, 16, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rule(model, optimizer)
    runs = {n: p for n, p in model.named_parameters() if "structure" in n}
    with torch.no_grad():
        for p in runs.values():
            p.uniform_(-3, 4)
    expected = {n: p.detach() % 1 for n, p in runs.items()}
    optimizer.step()
    for name, p in runs.items():
        assert p.min() >= 0
        assert p.max() <= 1
        assert name.endswith("width") or torch.equal(p, expected[name])


def test_locations_of_windows_are_left_unwrapped():
    model = network(16, 16, width_init=0.2, max_width=5)
    BudgetProjection(model, optimizer := still(model), 1.0, 1)
    with torch.no_grad():
        model[0].matrix.structure.row_location.fill_(1.25)
    before = model[0].weight
    optimizer.step()
    assert torch.equal(model[0].weight, before)
    assert (model[0].matrix.structure.row_location == 1.25).all()


@rules
def test_fixed_widths_stay(rule):
    """They count, but nothing may be taken off them; learned ones make room."""
    model = network(64, 64, 64, num_blocks=16, width_init=0.4)
    for p in widths(model[1]):
        p.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    rule(model, optimizer)
    optimizer.step()
    assert all((p == 0.4).all() for p in widths(model[1]))
    assert all((p < 0.4).any() for p in widths(model[0]))
    assert rule is not RULES["budget"] or sum(costs(model)) <= 0.15 * 2 * 64**2


@rules
def test_weights_may_share_one_structure(rule):
    """As the taps of a convolution do: their widths shrink once and cost twice."""
    once, twice = (network(64, 64, 64, num_blocks=16, width_init=0.4) for _ in "ab")
    twice[1].matrix.structure = twice[0].matrix.structure
    once[1] = once[0]
    for model in (once, twice):
        rule(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.1))
        optimizer.step()
    assert twice[0].matrix.cost == once[0].matrix.cost
    assert all(torch.equal(p, q) for p, q in zip(widths(once), widths(twice), strict=True))


def test_weights_that_share_a_structure_cost_what_each_multiplies():
    model = network(64, 64, 64, width_init=0.4)
    model[1].matrix.structure = model[0].matrix.structure
    model[0].matrix.positions = 3
    rule = BudgetProjection(model, still(model), 1.0, 1)
    assert rule.relative_cost * rule.dense_cost == pytest.approx(sum(costs(model)))
    assert rule.dense_cost == 4 * 64**2


@pytest.mark.parametrize("granularity", [1, 8, 16])
def test_a_floor_does_not_empty_other_layers(granularity):
    """All widths of a layer may tie at its floor; the others still share what is left."""
    model = network(
        128, 128, 128, num_blocks=None, width_init="grid", granularity=granularity, budget=0.25
    )
    rule = BudgetProjection(
        model, optimizer := still(model), 0.1, 1, ramp=0.0, floors={"1.matrix": 0.15}
    )
    optimizer.step()
    first, second = (c / 128**2 for c in costs(model))
    assert 0.15 <= second < 0.16 + 0.01 * granularity
    assert first > 0.02
    assert rule.relative_cost <= 0.1


def test_widths_that_tie_stand_in_the_middle_of_a_sample():
    """At its edge, half of them would fall a whole grain with the next step."""
    model = network(64, 64, num_blocks=None, width_init="grid", granularity=8, budget=0.5)
    BudgetProjection(model, optimizer := still(model), 0.2, 1, ramp=0.0)
    optimizer.step()
    before = costs(model)
    with torch.no_grad():
        for p in widths(model):
            p.mul_(0.99)
    assert costs(model) == before


@rules
def test_an_optimizer_made_before_the_conversion_is_refused(rule):
    model = network(16, 16)
    optimizer = torch.optim.SGD(nn.Linear(3, 3).parameters())
    with pytest.raises(InputError, match="after the conversion"):
        rule(model, optimizer)
    optimizer.step()


def test_the_budget_is_the_fraction_and_no_count():
    rule = BudgetProjection(model := network(16, 16), still(model), 0.3, 1)
    assert (rule.budget, rule.target_cost) == (0.3, 76)
    with pytest.raises(AttributeError):
        rule.budget = 0.1
