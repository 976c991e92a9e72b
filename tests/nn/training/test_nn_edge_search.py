"""The search by ends of runs: what it sees against brute force, and what it never does."""

import copy
import math
import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structmat import BudgetError, InputError
from structmat.nn import EdgeSearch, GaudiConv2d, GaudiLinear, GaudiWeight, parameter_groups
from structmat.nn.training.run_ends import ENDS, block_energies, ends_of, move_
from structmat.nn.training.widths import falling_cap

double = torch.float64
SHAPE = (10, 12)
CASES = [
    {},
    {"granularity": 2},
    {"granularity": 4},  # divides one side alone
    {"granularity": 5},  # divides the other
    {"max_width": 5},
    {"max_width": 4, "granularity": 2},
    {"rank": 2},
    {"rank": 2, "max_width": 6, "granularity": 3},
    {"min_width": 4, "granularity": 2},
]
cases = pytest.mark.parametrize("options", CASES, ids=str)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def scattered(seed=0, num_blocks=16, **options):
    """A weight with runs anywhere, around the circle and off it; one block is dead."""
    torch.manual_seed(seed)
    options = {"width_init": "uniform", "dtype": double} | options
    weight = GaudiWeight(SHAPE, num_blocks=num_blocks, **options)
    with torch.no_grad():
        for location in (weight.structure.row_location, weight.structure.col_location):
            location.uniform_(-1.0, 2.0)
        if not weight.min_width:
            weight.structure.row_width[0] = 0.0
    return weight.requires_grad_(True)


def alone(weight, block, term=None):
    """The dense matrix of one block, or of one of its terms."""
    weight = copy.deepcopy(weight).eval()
    with torch.no_grad():
        for side, (_, width) in zip(("row", "col"), runs(weight), strict=True):
            share = torch.tensor(width) / weight.shape[side == "col"]
            getattr(weight.structure, f"{side}_width").copy_(share)
        weight.min_width = 0  # so that the others can go
        others = torch.arange(weight.num_blocks) != block
        weight.structure.row_width[others] = 0.0
        if term is not None:
            weight.u[:, torch.arange(weight.rank) != term] = 0.0
        return weight.dense().detach()


def runs(weight):
    """Start and width of rows, then of columns, as lists."""
    return [(side.start.tolist(), side.width.tolist()) for side in weight.sides()]


def one(weight, end, block):
    chosen = torch.zeros(4, weight.num_blocks, dtype=torch.bool)
    chosen[end, block] = True
    return chosen, torch.zeros_like(chosen)


def moved(weight, lost, gained):
    other = copy.deepcopy(weight)
    move_([other], lost, gained, {})
    return other


def energy(weight, block):
    terms = [alone(weight, block, r).square().sum() for r in range(weight.rank)]
    return float(sum(terms))


def samples(weight):
    """Widths of the live blocks."""
    (_, rows), (_, cols) = runs(weight)
    return sum(r + c for r, c in zip(rows, cols, strict=True) if r and c)


@cases
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_are_energies_of_grains(options, seed):
    weight = scattered(seed, **options)
    loss = ends_of([weight], [None]).loss
    energies = [energy(weight, k) for k in range(weight.num_blocks)]
    mean = 2 * sum(energies) * weight.granularity / samples(weight)
    ends = loss.isfinite().nonzero().tolist()
    assert len(ends) >= 2
    for end, k in ends:
        less = moved(weight, *one(weight, end, k))
        assert loss[end, k].item() == pytest.approx((energies[k] - energy(less, k)) / mean, 1e-4)
        assert less.cost == weight.cost - weight.rank * weight.granularity
    expected = [e * samples(weight) / 2 / sum(energies) for e in energies]
    assert block_energies([weight]).tolist() == pytest.approx(expected, rel=1e-4)


def contents_gradients(weight, upstream):
    return torch.autograd.grad((weight.dense() * upstream).sum(), [weight.u, weight.v])


@cases
@pytest.mark.parametrize("seed", [0, 1])
def test_gains_are_gradients_of_new_contents(options, seed):
    """By automatic differentiation of a weight that has grown."""
    weight = scattered(seed, **options)
    upstream = torch.randn(SHAPE, dtype=double)
    gain = ends_of([weight], [upstream]).gain
    ends = (gain >= 0).nonzero().tolist()
    assert len(ends) >= 2
    old = contents_gradients(weight, upstream)
    for end, k in ends:
        side = ENDS[end][0]
        more = moved(weight, *reversed(one(weight, end, k)))
        assert more.cost == weight.cost + weight.rank * weight.granularity
        # Samples that had no gradient before are those taken in.
        new = contents_gradients(more, upstream)[side][k] * (old[side][k] == 0)
        start, width = (values[k] for values in runs(weight)[1 - side])
        slots = torch.arange(start, start + width) % weight.max_width[1 - side]
        size = (weight.u, weight.v)[1 - side][k][:, slots].square().sum(-1)
        assert gain[end, k].item() == pytest.approx(
            (new.square().sum(-1) / size).sum().item(), 1e-4
        )


@cases
@pytest.mark.parametrize("seed", range(3))
def test_moves_take_away_what_was_dropped_and_nothing_else(options, seed):
    """Many at once; what is taken in is zero."""
    weight, upstream = scattered(seed, **options), torch.randn(SHAPE)
    loss, gain = ends_of([weight], [upstream])
    lost = loss.isfinite() & (torch.rand_like(loss) < 0.5)
    gained = (gain >= 0) & ~lost & (torch.rand_like(loss) < 0.5)
    assert lost.any()
    assert gained.any()
    grown = moved(weight, torch.zeros_like(lost), gained)
    assert torch.equal(grown.eval().dense(), weight.eval().dense())
    assert grown.cost == weight.cost + weight.rank * weight.granularity * int(gained.sum())
    kept = torch.zeros(SHAPE, dtype=double)
    for k in range(weight.num_blocks):
        block = alone(weight, k)
        for end, (side, far) in enumerate(ENDS):
            start, width = (values[k] for values in runs(weight)[side])
            first = start + width - weight.granularity if far else start
            if lost[end, k]:
                gone = torch.arange(first, first + weight.granularity) % SHAPE[side]
                block.index_fill_(side, gone, 0.0)
        kept += block
    torch.testing.assert_close(moved(weight, lost, gained).eval().dense(), kept)


def test_of_two_ends_that_cannot_both_move_the_better_one_may():
    weight = GaudiWeight((1, 6), num_blocks=2, width_init=0.0, max_width=5, content_init="normal")
    with torch.no_grad():
        weight.structure.row_width.fill_(1.0)
        weight.structure.row_location.zero_()
        weight.structure.col_width.copy_(torch.tensor([2 / 6, 4 / 6]))
        weight.structure.col_location.zero_()
        weight.v.copy_(torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0]).expand(2, 1, 5))
    found = ends_of([weight], [torch.tensor([[0.0, 0.0, 0.0, 0.0, 3.0, 2.0]])])
    assert found.loss[2:].isfinite().tolist() == [[False, True], [True, True]]
    assert (found.gain[2:] >= 0).tolist() == [[True, False], [True, True]]
    fixed = ends_of([weight], [None], [False, False, True, False])
    assert fixed.loss.isfinite().sum(1).tolist() == [0, 0, 2, 0]
    assert (fixed.gain >= 0).sum(1).tolist() == [0, 0, 2, 0]


def test_broken_contents_do_not_stop_a_budget():
    weight = GaudiWeight((6, 8), num_blocks=3, width_init=0.5, min_width=1)
    with torch.no_grad():
        weight.u.fill_(math.nan)
    follow(EdgeSearch(weight, still(weight), 0.2, 4, ramp=0.0), 1)
    assert weight.cost <= 0.2 * 48


# Networks.


def network(*sizes, **options):
    options = {"width_init": "strips", "budget": 0.4} | options
    return nn.Sequential(*(GaudiLinear(a, b, bias=False, **options) for a, b in pairwise(sizes)))


def still(model):
    """An optimizer whose steps change nothing by themselves."""
    return torch.optim.SGD(parameter_groups(model, lr=0.0, structure_lr=0.0))


def weights_of(model):
    return [m for m in model.modules() if isinstance(m, GaudiWeight)]


def cost_of(model):
    return sum(w.cost * w.positions for w in weights_of(model))


def structures(model):
    return [p.clone() for w in weights_of(model) for p in w.structure.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def follow(rule, steps, generator=None):
    """Steps under random gradients of the weights."""
    for _ in range(steps):
        for weight in rule.weights:
            if weight.record_weight_grad:
                weight.weight_grad = torch.randn(weight.shape, generator=generator)
        rule._hook.followed.optimizers[0].step()


def assert_within_limits(weight):
    g = weight.granularity
    for (starts, widths), n, most in zip(runs(weight), weight.shape, weight.max_width, strict=True):
        for start, width in zip(starts, widths, strict=True):
            assert width == 0 or max(weight.min_width, min(g, n)) <= width <= most
            assert width % g == 0 or width == n
            assert start % n % g == 0


budgets = st.sampled_from([0.02, 0.1, 0.3, 0.8])


@given(
    st.data(), budgets, st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(0, 10**6),
    st.sampled_from([{}, {"granularity": 2}, {"granularity": 4}, {"granularity": 5}]),
    st.sampled_from(["strips", "grid", "splr0.4"]), st.booleans(),
)  # fmt: skip
def test_a_budget_holds_whatever_moves(data, budget, over, every, seed, grain, start, across):
    torch.manual_seed(seed)
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=3))
    ramp, until = (data.draw(st.sampled_from([0.0, 0.4, 0.9, 1.0])) for _ in range(2))
    model = network(*sizes, width_init=start, budget=min(1.0, budget * over), **grain)
    optimizer = still(model)
    rule = EdgeSearch(
        model, optimizer, budget, 10, every=every, share=0.3, until=until, ramp=ramp, across=across
    )
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, 11):
        before = structures(model)
        follow(rule, 1, generator)
        cost = cost_of(model)
        assert cost <= max(rule.initial_cost, rule.target_cost)
        assert rule.relative_cost == cost / rule.dense_cost
        if step % every == 0 and step <= max(ramp, until) * 10:
            assert cost <= rule.cap(step)
        if step >= max(1, math.ceil(ramp * 10)):
            assert cost <= rule.target_cost == math.floor(budget * rule.dense_cost * (1 + 1e-12))
        if step > max(ramp * 10, until * 10, 1):
            assert same(before, structures(model))
        for weight in weights_of(model):
            assert_within_limits(weight)


@pytest.mark.parametrize("oversize", [2, 4])
@pytest.mark.parametrize("ramp", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("granularity", [1, 2])
def test_the_ramp_ends_at_the_budget(oversize, ramp, granularity):
    """Also where the last move was before its end, and where nothing moves besides."""
    model = network(24, 16, 32, budget=0.2 * oversize, granularity=granularity)
    rule = EdgeSearch(model, still(model), 0.2, 25, every=10, ramp=ramp, until=0.0)
    assert cost_of(model) > 1.9 * rule.target_cost
    follow(rule, max(1, math.ceil(25 * ramp)))
    assert rule.target_cost - granularity < cost_of(model) <= rule.target_cost


@pytest.mark.parametrize("options", [{}, {"granularity": 6}])
def test_blocks_go_where_ends_cannot(options):
    """Runs of one grain, and runs that take in a broken last grain: the weakest blocks."""
    weight = GaudiWeight((10, 10), num_blocks=8, width_init=0.1, **options)
    with torch.no_grad():
        for side in ("row", "col"):
            getattr(weight.structure, f"{side}_width").fill_(1.0 if options else 0.1)
        weight.u.copy_(torch.tensor([3, 1, 8, 2, 7, 5, 6, 4.0])[:, None, None].expand(8, 1, 10))
        weight.v.fill_(1.0)
    whole = weight.cost // 8
    follow(EdgeSearch(weight, still(weight), 3 * whole / 100, 2, ramp=0.0), 1)
    assert (weight.structure.row_width > 0).tolist() == [0, 0, 1, 0, 1, 0, 1, 0]
    assert weight.cost == 3 * whole


@pytest.mark.parametrize("across", [True, False])
def test_a_swap_keeps_the_cost(across):
    """Within one grain of the network's, or of each layer's own."""
    model = network(24, 16, 32, budget=0.3)
    rule = EdgeSearch(model, still(model), 0.3, 100, every=1, share=0.2, ramp=0.0, across=across)
    first, before = [w.cost for w in rule.weights], structures(model)
    for _ in range(40):
        follow(rule, 1)
        assert rule.target_cost - 2 <= cost_of(model) <= rule.target_cost
        if not across:
            costs = [w.cost for w in rule.weights]
            assert all(abs(a - b) <= 2 for a, b in zip(first, costs, strict=True))
    assert not same(before, structures(model))
    assert ([w.cost for w in rule.weights] == first) <= (not across)


def test_ends_of_least_loss_make_room_for_those_of_most_gain():
    layer = GaudiLinear(12, 1, bias=False, num_blocks=1, width_init=0.0, dtype=double)
    with torch.no_grad():
        layer.matrix.structure.row_width.fill_(1.0)
        layer.matrix.structure.col_width.fill_(4 / 12)
        layer.matrix.structure.col_location.fill_(4 / 12)
        layer.matrix.u.fill_(1.0)
        layer.matrix.v.copy_(torch.tensor([9, 9, 9, 9, 1, 4, 4, 2, 9, 9, 9, 9.0]))
    rule = EdgeSearch(layer, still(layer), 0.5, 4, every=1, share=1.0, ramp=0.0)
    x = torch.ones(1, 12, dtype=double)
    x[0, 3], x[0, 8] = 5.0, 2.0
    layer(x).sum().backward()
    rule._hook.followed.optimizers[0].step()
    # The near end is the weaker one and goes; the far one has the only gradient left to follow,
    # and the cost was one below the cap.
    assert layer.matrix.eval().dense().tolist() == [[0, 0, 0, 0, 0, 4, 4, 2, 0, 0, 0, 0]]
    assert runs(layer.matrix)[1] == ([5], [4])


def test_positions_weigh_the_cost():
    """A layer that multiplies ten times as many vectors gives up its samples first."""
    model = network(16, 16, 16)
    model[1].matrix.positions = 10
    rule = EdgeSearch(model, still(model), 0.3, 10, every=1, ramp=0.0, until=0.0)
    assert rule.dense_cost == 11 * 256
    assert [rule.unit(w) for w in rule.weights] == [1, 10]
    follow(rule, 1)
    assert rule.target_cost - 10 < cost_of(model) <= rule.target_cost
    first, second = (w.cost for w in rule.weights)
    assert second < first
    other = network(16, 16, 16)
    other[1].matrix.positions = 10
    assert EdgeSearch(other, still(other), 0.3, 10, measure="parameters").dense_cost == 512


@pytest.mark.parametrize("fixed", ["width", "location"])
def test_what_is_fixed_stays(fixed):
    model = network(16, 12, 16, num_blocks=9, width_init="uniform", **{f"learn_{fixed}s": False})
    with torch.no_grad():
        for weight in weights_of(model):
            weight.structure.row_width.clamp_(min=0.2)
            weight.structure.col_width.clamp_(min=0.2)
    budget = cost_of(model) / 384 if fixed == "width" else 0.02
    before = structures(model)
    rule = EdgeSearch(model, still(model), budget, 10, every=1, share=0.5, ramp=0.5)
    follow(rule, 10)
    for weight in rule.weights:
        assert_within_limits(weight)
    if fixed == "width":
        assert same(before, structures(model))
    else:
        places = [i for i in range(len(before)) if i % 2]
        assert same([before[i] for i in places], [structures(model)[i] for i in places])
        assert 0 < cost_of(model) <= rule.target_cost
        assert not same(before, structures(model))


def test_a_fixed_side_stays_when_blocks_go():
    model = network(8, 8, budget=0.5)
    structure = model[0].matrix.structure
    structure.row_width.requires_grad_(False)
    before = structure.row_width.clone()
    follow(EdgeSearch(model, still(model), 0.05, 10, ramp=0.0), 1)
    assert cost_of(model) <= 0.05 * 64
    assert torch.equal(structure.row_width, before)


def test_taps_that_share_runs_move_together():
    torch.manual_seed(1)
    layer = GaudiConv2d(
        6, 8, 3, padding=1, form="taps", shared_masks=True, width_init="strips", budget=0.5,
        dtype=double,
    )  # fmt: skip
    rule = EdgeSearch(layer, still(layer), 0.3, 10, every=1, share=0.5, ramp=0.5)
    x = torch.randn(2, 6, 5, 5, dtype=double)
    assert rule.dense_cost == 9 * 48
    before = structures(layer)
    for _ in range(7):
        layer(x).square().sum().backward()
        rule._hook.followed.optimizers[0].step()
        assert cost_of(layer) <= rule.cap(rule.step)
    assert cost_of(layer) > rule.target_cost - 9
    assert not same(before, structures(layer))
    assert len({w.cost for w in layer.taps}) == 1
    grown = copy.deepcopy(list(layer.taps))
    gain = ends_of(grown, [torch.randn(8, 6, dtype=double) for _ in grown]).gain
    move_(grown, torch.zeros_like(gain, dtype=torch.bool), gain >= 0, {})
    for old, new in zip(layer.taps, grown, strict=True):
        assert torch.equal(old.eval().dense(), new.eval().dense())
        assert new.cost > old.cost


def trained(optimizer, *, steps=20, **options):
    """A weight whose optimizer has a state, and that optimizer."""
    weight = scattered(**options)
    made = optimizer([weight.u, weight.v])
    for _ in range(steps):
        made.zero_grad()
        (weight.dense() * torch.randn(SHAPE, dtype=double)).sum().backward()
        made.step()
    return weight, made


OPTIMIZERS = {
    "exp_avg_sq": lambda p: torch.optim.AdamW(p, lr=1e-3),
    "max_exp_avg_sq": lambda p: torch.optim.AdamW(p, lr=1e-3, amsgrad=True),
    "square_avg": lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.9),
    "sum": lambda p: torch.optim.Adagrad(p, lr=1e-3),
    "exp_inf": lambda p: torch.optim.Adamax(p, lr=1e-3),
}


@cases
@pytest.mark.parametrize("key", OPTIMIZERS)
def test_new_samples_begin_with_the_mean_square_of_their_run(options, key):
    weight, optimizer = trained(OPTIMIZERS[key], **options)
    before = copy.deepcopy(weight)
    kept = [optimizer.state[p][key].clone() for p in (weight.u, weight.v)]
    first = [optimizer.state[p].get("exp_avg", p).clone() for p in (weight.u, weight.v)]
    gained = ends_of([weight], [torch.randn(SHAPE, dtype=double)]).gain > 0
    assert gained.any()
    move_([weight], torch.zeros_like(gained), gained, optimizer.state)
    for at, parameter in enumerate((weight.u, weight.v)):
        window, now = parameter.shape[-1], optimizer.state[parameter][key]
        expected = kept[at].clone()
        old, new = runs(before)[at], runs(weight)[at]
        for k in range(weight.num_blocks):
            inside = [i % window for i in range(old[0][k], old[0][k] + old[1][k])]
            after = [i % window for i in range(new[0][k], new[0][k] + new[1][k])]
            fresh = sorted(set(after) - set(inside))
            if fresh:
                expected[k][:, fresh] = kept[at][k][:, inside].mean(-1, keepdim=True)
        torch.testing.assert_close(now, expected)
        assert torch.equal(optimizer.state[parameter].get("exp_avg", first[at]), first[at])


def test_new_samples_take_steps_like_the_others():
    """A new one's step by Adam would be several learning rates otherwise."""
    weight, optimizer = trained(OPTIMIZERS["exp_avg_sq"], steps=200, max_width=10)
    gained = ends_of([weight], [torch.randn(SHAPE, dtype=double)]).gain > 0
    before = [p.detach().clone() for p in (weight.u, weight.v)]
    move_([weight], torch.zeros_like(gained), gained, optimizer.state)
    new = [(p == 0) & (old != 0) for p, old in zip((weight.u, weight.v), before, strict=True)]
    steps = []
    for _ in range(5):
        kept = [p.detach().clone() for p in (weight.u, weight.v)]
        optimizer.zero_grad()
        (weight.dense() * torch.randn(SHAPE, dtype=double)).sum().backward()
        optimizer.step()
        changes = [(p - k)[at] for p, k, at in zip((weight.u, weight.v), kept, new, strict=True)]
        steps.append(torch.cat(changes).abs().mean().item())
    assert 0 < max(steps) < 1.2e-3


def test_centred_sizes_stay_above_their_centres():
    """Else the root of their difference, which divides the step, would be of a negative number."""
    weight, optimizer = trained(lambda p: torch.optim.RMSprop(p, lr=1e-3, centered=True))
    gained = ends_of([weight], [torch.randn(SHAPE, dtype=double)]).gain > 0
    for at, parameter in enumerate((weight.u, weight.v)):
        state, window = optimizer.state[parameter], parameter.shape[-1]
        state["square_avg"].fill_(26.0)  # as if every sample had been in a run before
        state["grad_avg"].fill_(5.0)
        for k, (start, width) in enumerate(zip(*runs(weight)[at], strict=True)):
            inside = [i % window for i in range(start, start + width)]
            state["square_avg"][k][:, inside] = 0.1
            state["grad_avg"][k][:, inside] = 0.3
    move_([weight], torch.zeros_like(gained), gained, optimizer.state)
    for parameter in (weight.u, weight.v):
        state = optimizer.state[parameter]
        assert (state["square_avg"] >= state["grad_avg"].square()).all()
        assert (state["square_avg"] < 26).any()


@pytest.mark.parametrize("shape", [(), (1,), (4, 4), (16, 1, 1)])
def test_states_of_another_shape_are_left_alone(shape):
    weight, _ = trained(OPTIMIZERS["exp_avg_sq"])
    kept = torch.ones(shape)
    gained = ends_of([weight], [torch.randn(SHAPE, dtype=double)]).gain > 0
    move_([weight], torch.zeros_like(gained), gained, {weight.u: {"sum": kept, "exp_avg_sq": 3}})
    assert torch.equal(kept, torch.ones(shape))


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (7, 1), (80, 10), (320, 40), (10_000, 40)])
def test_short_trainings_move_as_well(steps, every):
    model = network(12, 8)
    assert EdgeSearch(model, still(model), 0.2, steps).every == every


def test_optimizers_without_squares_are_left_alone():
    weight, optimizer = trained(lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9))
    kept = optimizer.state[weight.u]["momentum_buffer"].clone()
    gained = ends_of([weight], [torch.randn(SHAPE, dtype=double)]).gain > 0
    move_([weight], torch.zeros_like(gained), gained, optimizer.state)
    assert torch.equal(optimizer.state[weight.u]["momentum_buffer"], kept)


def test_removed_it_leaves_everything_learnable():
    model = network(12, 8)
    model[0].matrix.structure.row_location.requires_grad_(False)
    known = [p.requires_grad for p in model.parameters()]
    optimizer = still(model)
    rule = EdgeSearch(model, optimizer, 0.2, 10, every=1)
    assert model[0].matrix.record_weight_grad
    rule.remove()
    assert [p.requires_grad for p in model.parameters()] == known
    assert not model[0].matrix.record_weight_grad
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    before = structures(model)
    optimizer.step()
    assert rule.step == 0
    assert same(before, structures(model))
    model[0].matrix.sigma = 2.0
    model(torch.randn(1, 12)).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    moved = [not torch.equal(a, b) for a, b in zip(before, structures(model), strict=True)]
    assert moved == [p.requires_grad for p in model[0].matrix.structure.parameters()]


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.AdamW, {"weight_decay": 0.5}),
        (torch.optim.AdamW, {"weight_decay": 0.5, "fused": True}),
        (torch.optim.SGD, {"momentum": 0.9}),
    ],
)
def test_no_optimizer_changes_runs(kind, options, closure):
    """Not by decay, nor by what it remembers from before, nor by gradients made in the step."""
    model = network(12, 8)
    optimizer = kind(model.parameters(), lr=0.1, **options)
    start = structures(model)

    def step():
        optimizer.zero_grad()
        loss = model(torch.randn(3, 12)).square().sum()
        loss.backward()
        return loss

    def train():
        if not closure:
            step()
        optimizer.step(step if closure else None)

    train()
    before = structures(model)
    assert not same(start, before)
    EdgeSearch(model, optimizer, 0.5, 10, share=0.0, ramp=0.0, every=11)
    model[0].matrix.sigma = 2.0  # so that gradients of runs would be large
    contents = model[0].matrix.u.clone()
    for _ in range(3):
        train()
    assert same(before, structures(model))
    assert not torch.equal(contents, model[0].matrix.u)


def test_clipping_counts_no_gradients_of_runs():
    model = network(12, 8)
    EdgeSearch(model, still(model), 0.5, 10)
    model(torch.randn(3, 12)).square().sum().backward()
    assert all(not p.grad.any() for p in model[0].matrix.structure.parameters())
    contents = [model[0].matrix.u.grad, model[0].matrix.v.grad]
    expected = torch.nn.utils.get_total_norm(contents)
    assert torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) == expected > 1


def test_the_optimizer_need_not_have_the_runs():
    model = network(12, 8)
    contents = [model[0].matrix.u, model[0].matrix.v]
    rule = EdgeSearch(model, torch.optim.SGD(contents, lr=0.1), 0.2, 10, every=1, ramp=0.5)
    follow(rule, 10)
    assert 0 < cost_of(model) <= rule.target_cost


@pytest.mark.parametrize("own", [False, True], ids=["one optimizer", "an optimizer each"])
def test_a_second_rule_takes_over(own):
    models = [network(12, 8) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizer = still(models[0])
    first = EdgeSearch(models[0], optimizer, 0.1, 10, every=1, ramp=0.0)
    rules = [
        EdgeSearch(model, optimizer, 0.3, 10, every=1, ramp=0.5)
        for model, optimizer in zip(
            models, [still(models[0]) if own else optimizer, still(models[1])], strict=True
        )
    ]
    first.remove()  # it is not running: what the other needs stays
    for rule in rules:
        assert rule.weights[0].record_weight_grad
        follow(rule, 10, torch.Generator().manual_seed(0))
    optimizer.step()
    assert first.step == 0
    assert 0.2 * 96 < cost_of(models[0]) <= 0.3 * 96
    assert same(structures(models[0]), structures(models[1]))
    rules[0].remove()
    models[0](torch.randn(1, 12)).square().sum().backward()
    assert models[0][0].matrix.structure.row_width.grad.any()


class Training:
    """A small regression with AdamW."""

    def __init__(self, dtype=torch.float32):
        torch.manual_seed(3)
        self.net = network(12, 10, 6, budget=0.5, dtype=dtype)
        self.x, self.y = torch.randn(20, 12, dtype=dtype), torch.randn(20, 6, dtype=dtype)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.net, lr=0.02, structure_lr=0.1))
        self.rule = EdgeSearch(self.net, self.optimizer, 0.25, 12, every=2, share=0.4, ramp=0.5)

    def run(self, steps, parts=1):
        for _ in range(steps):
            self.optimizer.zero_grad()
            for x, y in zip(self.x.chunk(parts), self.y.chunk(parts), strict=True):
                (nn.functional.mse_loss(self.net(x), y) / parts).backward()
            self.optimizer.step()
        return self


@pytest.mark.parametrize("saved", [1, 5, 9])
def test_training_goes_on_from_a_checkpoint(saved):
    whole, first = Training().run(12), Training().run(saved)
    assert whole.net[0].matrix.cost + whole.net[1].matrix.cost <= whole.rule.target_cost
    parts = first.net, first.optimizer, first.rule
    states = [copy.deepcopy(part.state_dict()) for part in parts]
    again = Training()
    for part, state in zip((again.net, again.optimizer, again.rule), states, strict=True):
        part.load_state_dict(state)
    again.run(12 - saved)
    expected = whole.net.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in again.net.state_dict().items())
    assert again.rule.state_dict() == whole.rule.state_dict()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"]
)
def test_a_copy_of_a_network_in_training_has_its_runs_free(copied):
    first = Training(double).run(1)
    other, fresh = copied(first.net), network(12, 10, 6, budget=0.5, dtype=double)
    fresh.load_state_dict(first.net.state_dict())
    for net in (other, fresh):
        net.zero_grad()
        net(first.x).square().sum().backward()
    for p, q in zip(other.parameters(), fresh.parameters(), strict=True):
        assert p.grad.any()
        torch.testing.assert_close(p.grad, q.grad)
    first.net.zero_grad()
    first.net(first.x).square().sum().backward()
    assert not first.net[0].matrix.structure.row_width.grad.any()


def test_a_checkpoint_keeps_the_ramp():
    """A rule begun on a network that has shrunk goes on from the first one's start."""
    first = Training().run(4)
    first.rule.remove()
    rule = EdgeSearch(first.net, first.optimizer, 0.25, 12, every=2, ramp=0.5)
    assert rule.cap(0) < first.rule.cap(0)
    rule.load_state_dict(first.rule.state_dict())
    assert [rule.cap(s) for s in range(12)] == [first.rule.cap(s) for s in range(12)]
    assert rule.weights[0].record_weight_grad == rule._is_time(5) is False


def test_gradients_add_up_over_parts_of_a_batch():
    whole, parts = Training(double).run(8), Training(double).run(8, parts=4)
    assert same(structures(whole.net), structures(parts.net))
    torch.testing.assert_close(whole.net(whole.x), parts.net(parts.x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, double])
def test_contents_of_any_precision(dtype):
    training = Training(dtype).run(12)
    assert cost_of(training.net) <= training.rule.target_cost
    precision = dtype if dtype == double else torch.float32
    assert all(p.dtype == precision for p in structures(training.net))
    assert training.net[0].matrix.u.dtype == dtype
    assert training.net(training.x).isfinite().all()


def test_gradients_that_are_not_finite_move_nothing():
    model = network(12, 8)
    rule = EdgeSearch(model, still(model), 0.4, 10, every=1, share=0.5)
    before = structures(model)
    model[0].matrix.weight_grad = torch.full((8, 12), math.nan)
    rule._hook.followed.optimizers[0].step()
    assert same(before, structures(model))
    follow(rule, 1)
    assert not same(before, structures(model))


def test_gradients_are_kept_only_where_they_are_used():
    model = network(12, 8)
    rule = EdgeSearch(model, still(model), 0.4, 10, every=3, until=0.7, ramp=0.9)
    watched = []
    for _ in range(10):
        watched.append(rule.weights[0].record_weight_grad)
        follow(rule, 1)
        assert rule.weights[0].weight_grad is None
    assert [step + 1 for step in range(10) if watched[step]] == [3, 6]


def test_without_blocks_there_is_nothing_to_move():
    model = network(12, 8, num_blocks=0, width_init="splr")
    follow(EdgeSearch(model, still(model), 0.4, 10, every=1), 3)
    assert cost_of(model) == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"budget": 0.0}, BudgetError, "budget = 0.0; expected a fraction"),
        ({"budget": 1.5}, BudgetError, "budget = 1.5"),
        ({"total_steps": 0}, InputError, "of 0 steps"),
        ({"ramp": 1.5}, InputError, "ramp = 1.5"),
        ({"every": 0}, InputError, "every = 0; expected"),
        ({"every": 2.5}, InputError, "every = 2.5; expected"),
        ({"share": -0.1}, InputError, r"share = -0.1; expected a share in \[0, 1\]"),
        ({"until": math.nan}, InputError, "until = nan; expected"),
        ({"measure": "time"}, InputError, "measure = 'time'; expected"),
    ],
)
def test_refuses(options, error, words):
    model = network(12, 8)
    arguments = {"budget": 0.4, "total_steps": 10} | options
    with pytest.raises(error, match=words):
        EdgeSearch(model, still(model), **arguments)
    assert all(p.requires_grad for p in model.parameters())  # nothing is left behind


def test_the_budget_is_the_fraction_that_was_asked_for():
    model = network(12, 8)
    assert EdgeSearch(model, still(model), 0.4, 10).budget == 0.4


def test_refuses_a_model_without_runs():
    with pytest.raises(InputError, match="Linear has no Gaudi layers; expected"):
        EdgeSearch(nn.Linear(3, 2), torch.optim.SGD([torch.ones(1)]), 0.5, 10)


@pytest.mark.parametrize(
    ("options", "least"),
    [({"learn_widths": False}, 8 * 16), ({"min_width": 3}, 8 * 6)],
)
def test_refuses_a_budget_below_what_has_to_stay(options, least):
    """Where it could shrink for ever."""
    model = network(16, 16, num_blocks=8, width_init=0.5, **options)
    known = [p.requires_grad for p in model.parameters()]
    optimizer = still(model)
    short = (least - 1) / 256
    with pytest.raises(BudgetError, match=f"least widths cost {least}; allow at least"):
        EdgeSearch(model, optimizer, short, 10)
    assert [p.requires_grad for p in model.parameters()] == known
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    follow(EdgeSearch(model, optimizer, least / 256, 10, ramp=0.0), 1)
    assert cost_of(model) == least


@given(st.integers(1, 1000), st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1))
def test_the_cap_falls_to_the_target(steps, a, b, share):
    low, high = sorted((a, b))
    caps = [falling_cap(s, high, low, share * steps) for s in range(0, steps + 1, 7)]
    assert caps == sorted(caps, reverse=True)
    assert falling_cap(steps, high, low, share * steps) == low <= caps[0] <= high


def test_it_finds_a_planted_run():
    """Windows that lie elsewhere than those of the start; their own contents could never."""
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(16, 24)
    for i in range(16):
        place = (torch.arange(7) + 5 * i) % 24
        target[i, place] = 1.0 + torch.rand(7, generator=generator)
    x = torch.randn(64, 24, generator=generator)
    y = x @ target.T

    def trained(share):
        layer = GaudiLinear(
            24, 16, bias=False, width_init="strips", budget=0.4,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        optimizer = torch.optim.Adam(parameter_groups(layer, lr=0.1, structure_lr=0.0))
        rule = EdgeSearch(layer, optimizer, 0.4, 200, every=2, share=share, ramp=0.0)
        for _ in range(200):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(layer(x), y)
            loss.backward()
            optimizer.step()
        assert layer.matrix.cost <= rule.target_cost
        return loss.item()

    assert trained(0.4) < 0.3 * trained(0.0)
