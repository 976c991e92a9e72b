"""Where Gaudi weights begin, within what bounds they stay, and what they refuse."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_nn_gaudi import close, double, make, products

import structmat.nn.gaudi.initial_weight as initial_weight
from structmat import GBLR, InputError
from structmat.nn import GaudiLinear, GaudiWeight
from structmat.nn.gaudi.initial_runs import strip_runs


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("granularity", [2, 4, 5, 7])
@pytest.mark.parametrize("shape", [(20, 28), (10, 11), (9, 23)])
def test_granularity(shape, granularity):
    """Everything at multiples, but for runs that end with the axis."""
    weight = make(shape, 60, granularity=granularity)
    A = weight.to_matrix()
    sides = zip((A.row_start, A.col_start), (A.row_width, A.col_width), shape, strict=True)
    for start, width, n in sides:
        assert (start % granularity == 0).all()
        assert ((width % granularity == 0) | (width == n) | (start + width == n)).all()
        assert width.max() == n  # a full width stays one
    assert weight.cost == A.cost
    close(weight.eval().dense(), A.to_dense())


@pytest.mark.parametrize("shape", [(12, 16), (10, 11)])
def test_grains_return_from_their_matrix(shape):
    """Also where a full width is no multiple."""
    weight = make(shape, 20, granularity=4).eval()
    again = GaudiWeight.from_matrix(weight.to_matrix(), granularity=4, dtype=double).eval()
    close(again.dense(), weight.dense())


@pytest.mark.parametrize("rule", ["zero", "lr"])
def test_a_seed_is_a_grain(rule):
    """Narrower ones would be rounded away, and the block could never learn."""
    weight = GaudiWeight((16, 24), num_blocks=12, width_init=rule, granularity=4)
    weight(torch.ones(24)).sum().backward()
    assert (sum(p.grad.abs() for p in weight.structure.parameters()) > 0).all()


def test_bounds_on_widths():
    weight = GaudiWeight((30, 40), num_blocks=50, width_init="uniform", min_width=3, max_width=6)
    A = weight.to_matrix()
    for width in (A.row_width, A.col_width):
        assert set(width) == {3, 4, 5, 6}
    assert weight.u.shape == (50, 1, 6)


@pytest.mark.parametrize("name", ["width", "location"])
@products
def test_what_is_fixed_gets_no_gradient(name, product):
    weight = make(product=product, **{f"learn_{name}s": False})
    weight(torch.randn(2, 17, dtype=double)).sum().backward()
    for key, p in weight.structure.named_parameters():
        assert p.requires_grad == (p.grad is not None) == (not key.endswith(name))


@pytest.mark.parametrize(
    ("rule", "full", "rest"),  # of the others: a share of both sides, or one sample of each in turn
    [("splr", 3, 1 / 3), ("splr0.2", 1, 1 / 9), ("lr", 6, None), ("lr0.25", 3, None),
     ("zero", 0, None), (0.25, 0, 0.25), (1, 12, None)],
)  # fmt: skip
def test_width_rules(rule, full, rest):
    runs = GaudiWeight((10, 20), num_blocks=12, width_init=rule, location_init=0.0).structure()
    for width, turns in ((runs.row_width, [0.1, 0.0]), (runs.col_width, [0.0, 0.05])):
        others = [rest] * 12 if rest else turns * 6
        assert width.tolist() == pytest.approx([1.0] * full + others[full:])


def test_random_rules_and_locations():
    options = {"num_blocks": 4000, "max_width": 1, "learn_widths": False, "learn_locations": False}
    uniform = GaudiWeight((8, 8), width_init="uniform", **options).structure()
    beta = GaudiWeight((8, 8), width_init="beta", location_init="linspace", **options).structure()
    for width, moments in ((uniform.row_width, (1 / 2, 1 / 12)), (beta.col_width, (1 / 4, 3 / 80))):
        assert width.mean() == pytest.approx(moments[0], abs=0.02)
        assert width.var() == pytest.approx(moments[1], abs=0.01)
        assert 0 <= width.min() <= width.max() <= 1
    assert uniform.row_location.mean() == pytest.approx(0.5, abs=0.02)
    assert beta.row_location.tolist() == pytest.approx([k / 4000 for k in range(4000)])
    fixed = GaudiWeight((8, 8), width_init="zero", location_init=0.3).structure()
    assert fixed.col_location.tolist() == pytest.approx([0.3] * 8)


def test_a_generator_decides_everything():
    def state(**options):
        generator = torch.Generator().manual_seed(3)
        layer = GaudiLinear(9, 6, width_init="uniform", generator=generator, **options)
        return [p.tolist() for p in layer.parameters()]

    assert state() == state()
    assert state(content_init="svd") == state(content_init="svd")


sizes, shares = st.integers(1, 40), st.floats(0.01, 1)


@given(sizes, sizes, shares, st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 5]))
def test_the_grid_covers_every_entry_once(m, n, budget, rank, granularity):
    m, n = m * granularity, n * granularity
    options = {"width_init": "grid", "budget": budget, "rank": rank}
    weight = GaudiWeight((m, n), granularity=granularity, **options)
    assert (weight.to_matrix().coverage() == rank).all()
    cost, least = budget * m * n, rank * (m + n)
    assert weight.cost <= max(cost, least)
    assert granularity > 1 or weight.cost > cost - rank * m


@given(sizes, sizes, shares, st.sampled_from([2, 4, 5]))
def test_the_grid_leaves_no_entry_out(m, n, budget, granularity):
    """Nor where the granularity divides neither side."""
    weight = GaudiWeight((m, n), budget=budget, granularity=granularity, width_init="grid")
    assert (weight.to_matrix().coverage() >= weight.rank).all()


def test_strips_are_the_default():
    for shape in ((24, 60), (60, 24)):
        one, two = (GaudiWeight(shape, budget=0.2, **o) for o in ({}, {"width_init": "strips"}))
        assert one.num_blocks == 24
        assert one.cost == math.floor(0.2 * 24 * 60)
        for name, runs in one.structure.named_parameters():
            assert torch.equal(runs, two.structure.get_parameter(name))
    with pytest.raises(InputError, match=r'rank = 2 with strips; .*width_init="grid"'):
        GaudiWeight((24, 60), rank=2)


def test_contents_vary_as_those_of_a_dense_layer():
    grid = {"budget": 0.5, "rank": 2, "width_init": "grid"}
    for options in ({"budget": 0.25}, grid, {"width_init": "splr"}):
        dense = GaudiWeight((128, 192), **options).dense()
        assert dense.square().mean().item() == pytest.approx(1 / (3 * 192), rel=0.25)


def test_contents_from_singular_pairs():
    wanted = torch.randn(6, 9)
    options = {"num_blocks": 6, "width_init": 1.0, "sigma": math.inf}
    weight = GaudiWeight((6, 9), content_init=lambda t: t.copy_(wanted), **options)
    close(weight.dense(), wanted, 1e-5)
    assert GaudiWeight((6, 9), content_init="svd", **options).dense().abs().max() <= 1 / 3 + 1e-6


def test_large_layers_hold_their_contents_on_windows(monkeypatch):
    monkeypatch.setattr(initial_weight, "WHOLE_CIRCLE_SCALARS", 100)
    weight = GaudiWeight((64, 48), budget=0.25)
    A = weight.to_matrix()
    assert weight.max_width == (8, 3 * A.col_width.max())  # room for eight grains at least
    assert (weight.u.shape[-1], weight.v.shape[-1]) == weight.max_width
    close(weight.eval().dense(), A.to_dense())
    for rule in (0.0, "zero", "lr0"):  # there must be room to grow
        narrow = GaudiWeight((64, 48), num_blocks=8, width_init=rule)
        assert min(narrow.max_width) >= 1
        narrow(torch.randn(2, 48)).sum().backward()


BAD = {
    "shape": [(0, 4), (4, 2.0)], "rank": [0], "granularity": [0], "sigma": [0.0, math.nan],
    "product": ["fast"], "budget": [0.0, math.nan], "num_blocks": [4], "content_init": ["ones"],
    "width_init": ["rand", "splr2", "splr.", "lr1e-1", 1.5, -0.1, math.nan],
    "min_width": [-1], "max_width": [0],
}  # fmt: skip
BAD_TOGETHER = [
    {"num_blocks": -1, "width_init": "splr"},
    {"num_blocks": True, "width_init": "splr"},
    {"location_init": "here", "width_init": "splr"},
    {"location_init": 1.5, "width_init": "splr"},
    {"content_init": "svd", "max_width": 2},
    {"straight_through": False, "max_width": 2},
    {"min_width": 3, "max_width": 2},
    {"min_width": 3, "granularity": 4},
    {"max_width": 6, "granularity": 4},
]


@pytest.mark.parametrize("options", [{k: v} for k, bad in BAD.items() for v in bad] + BAD_TOGETHER)
def test_refuses(options):
    with pytest.raises(InputError, match="expected"):
        GaudiWeight(**({"shape": (8, 8)} | options))


def sides_of_strips(m, n, cost, granularity=1):
    """Starts and widths in samples, first of the side that has a strip for each sample."""
    runs = strip_runs((m, n), cost, granularity=granularity)
    sides = [
        (torch.round(location * size).long(), torch.round(width * size).long())
        for size, width, location in (
            (m, runs.row_width, runs.row_location),
            (n, runs.col_width, runs.col_location),
        )
    ]
    return sides if for_outputs(m, n, cost) else sides[::-1]


def for_outputs(m, n, cost):
    """Whether each output has a strip of the inputs: if strips of four grains are not too many."""
    return m <= n or cost >= 5 * m


grains = st.sampled_from([1, 2, 4, 5])


@given(sizes, sizes, st.floats(0.0, 1.5), grains)
def test_strips_keep_to_their_cost(m, n, budget, granularity):
    cost, g = budget * m * n, granularity
    short, long = (m, n) if for_outputs(m, n, cost) else (n, m)
    (place, narrow), (start, length) = sides_of_strips(m, n, cost, g)
    assert (narrow == min(g, short)).all()
    assert len(set(place.tolist())) == len(place)
    assert ((length % g == 0) | (length == long)).all()
    assert length.max() <= long
    assert length.max() - length.min() <= g
    for at, size in ((place, short), (start, long)):
        assert (at % g == 0).all()
        assert (at < size).all()
    total = int((narrow + length).sum())
    assert total <= max(cost, min(g, short) + min(g, long))  # one strip is the least
    # Of what they cost less, there is no grain for each, but in a last grain that goes beyond
    # the axis; unless all is covered.
    everywhere = len(place) == math.ceil(short / g)
    beyond = int((length == long).sum()) * (-long % g)
    assert (everywhere and (length == long).all()) or total + beyond > cost - g - min(g, short)
    weight = GaudiWeight((m, n), budget=max(budget, 1e-3), width_init="strips", granularity=g)
    cost = max(budget, 1e-3) * m * n
    own = sides_of_strips(m, n, cost, g)
    assert weight.cost == sum(int(width.sum()) for _, width in own)


@given(sizes, sizes, st.floats(0.0, 1.0), grains)
def test_every_output_has_a_strip(m, n, more, granularity):
    """Once there is one grain for each; also where the granularity does not divide it."""
    g = granularity
    enough = math.ceil(m / min(g, m)) * (min(g, m) + g)
    cost = enough + more * m * n
    (place, narrow), _ = sides_of_strips(m, n, cost, g)
    size = m if for_outputs(m, n, cost) else n
    covered = (place[:, None] + torch.arange(narrow[0])).flatten() % size
    assert set(covered.tolist()) == set(range(size))
    assert m % g or enough <= 2 * m


@pytest.mark.parametrize("granularity", [1, 4])
@pytest.mark.parametrize(("budget", "inwards"), [(0.04, False), (0.05, True)])
def test_small_budgets_lay_strips_along_many_outputs(budget, inwards, granularity):
    g = granularity
    runs = strip_runs((400, 100), budget * 400 * 100, granularity=g)
    assert len(runs.row_width) == (400 if inwards else 100) // g
    assert ((runs.row_width * 400).round() == g).all() == inwards
    assert ((runs.col_width * 100).round() == g).all() == (not inwards)


def test_windows_of_large_layers_have_room_for_strips_to_grow():
    weight = GaudiWeight((2048, 512), budget=0.05, width_init="strips")
    assert weight.num_blocks == 2048
    assert weight.max_width[0] == 8
    assert weight.max_width[1] < 512


def test_few_strips_are_spread_evenly():
    (place, _), (start, length) = sides_of_strips(30, 40, 24.0)
    assert len(place) == 12
    assert sorted((place[1:] - place[:-1]).tolist()) == [2] * 6 + [3] * 5
    assert (length == 1).all()
    assert max(b - a for a, b in zip(sorted(start), sorted(start)[1:], strict=False)) <= 7


@pytest.mark.parametrize("shape", [(128, 192), (192, 128), (1, 4000), (4000, 1)])
@pytest.mark.parametrize("budget", [0.03, 0.3, 1.0])
@pytest.mark.parametrize("granularity", [1, 4])
def test_strips_vary_as_a_dense_layer(shape, budget, granularity):
    weights = [
        GaudiWeight(shape, budget=budget, width_init="strips", granularity=granularity)
        for _ in range(8 if min(shape) > 1 else 40)
    ]
    found = torch.stack([weight.dense().square().mean() for weight in weights]).mean()
    assert found.item() == pytest.approx(1 / (3 * shape[1]), rel=0.1)


def test_strips_of_single_samples_hold_normal_numbers():
    """Not products of two, of which many would be near nothing."""
    weight = GaudiWeight((40, 400), budget=0.5, width_init="strips")
    entries = weight.dense().detach()
    entries = entries[entries != 0]
    assert (entries.pow(4).mean() / entries.square().mean() ** 2).item() == pytest.approx(
        3, abs=0.3
    )


@pytest.mark.parametrize("shape", [(8, 8), (1, 8), (8, 1)])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_blocks_that_are_yet_to_grow_have_contents(shape, count):
    weight = GaudiWeight(shape, num_blocks=count, width_init="zero")
    assert weight.u.isfinite().all()
    assert weight.v.isfinite().all()
    one = GBLR([0], [1], [2.0], [0], [1], [3.0], shape=shape)
    assert GaudiWeight.from_matrix(one).dense().sum().item() == 6.0


def test_strips_have_rank_one_and_their_own_number():
    for options in ({"rank": 2}, {"num_blocks": 3}):
        with pytest.raises(InputError, match="with strips; expected"):
            GaudiWeight((8, 8), width_init="strips", **options)
