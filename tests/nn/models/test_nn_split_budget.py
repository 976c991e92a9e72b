"""One budget over several matrices: against every other way of sharing it."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from structmat.errors import BudgetError
from structmat.nn.models.builder import Builder
from structmat.nn.models.config import Config
from structmat.nn.models.split_budget import CostCurve, split_budget
from structmat.nn.models.targets import find_targets
from structmat.nn.starts.fits import trial_curve


def convex_curve(rng, name, cost, positions=1):
    """Ranks of one cost each, with falling gains."""
    gains = np.sort(rng.random(5))[::-1]
    errors = gains.sum() - np.cumsum(gains)
    return CostCurve(name, cost * np.arange(1, 6), errors, positions, steps=True)


def spent(curves, given):
    return sum(curve.vectors_per_example * cost for curve, cost in zip(curves, given, strict=True))


def missed(curves, given):
    return sum(
        curve.errors[curve.costs.tolist().index(cost)]
        for curve, cost in zip(curves, given, strict=True)
    )


def test_no_sharing_of_ranks_of_one_price_is_better(rng):
    for _ in range(20):
        curves = [convex_curve(rng, name, 10) for name in "abc"]
        for total in (30, 47, 80, 200):
            given = split_budget(curves, total)
            assert spent(curves, given) <= total
            others = itertools.product(*(curve.costs.tolist() for curve in curves))
            best = min(missed(curves, o) for o in others if spent(curves, o) <= total)
            assert missed(curves, given) == pytest.approx(best, abs=1e-12)


def test_ranks_of_several_prices_are_near_the_best(rng):
    for _ in range(20):
        prices = rng.integers(5, 40, 3).tolist()
        positions = rng.integers(1, 4, 3).tolist()
        curves = [convex_curve(rng, *each) for each in zip("abc", prices, positions, strict=True)]
        least = spent(curves, [curve.costs[0] for curve in curves])
        total = 2 * least
        given = split_budget(curves, total)
        assert spent(curves, given) <= total
        others = list(itertools.product(*(curve.costs.tolist() for curve in curves)))
        # Greedy is off by one rank at most.
        dearest = max(p * q for p, q in zip(prices, positions, strict=True))
        bound = min(missed(curves, o) for o in others if spent(curves, o) <= total - dearest)
        assert missed(curves, given) <= bound + 1e-12


def test_costs_between_the_points_are_used_to_the_last():
    steep = CostCurve("steep", np.array([10, 110]), np.array([10.0, 0.0]), vectors_per_example=3)
    flat = CostCurve("flat", np.array([10, 110]), np.array([1.0, 0.0]))
    # 40 are taken; of the other 100 a third goes thrice to the steep one, the last to the flat.
    assert split_budget([steep, flat], 140) == [43, 11]


def test_the_matrix_that_costs_most_at_the_least_is_named():
    long = CostCurve("long", np.array([10, 50]), np.array([1.0, 0.0]))
    often = CostCurve("often", np.array([4, 5]), np.array([1.0, 0.0]), vectors_per_example=3)
    with pytest.raises(BudgetError, match=r"at least 22, .* 'often' being"):
        split_budget([long, often], 21)


def test_points_above_the_hull_are_passed():
    # Nothing is gained at 20, so the step to 30 has to be taken whole.
    stair = CostCurve("stair", np.array([10, 20, 30]), np.array([4.0, 4.0, 0.0]), steps=True)
    slope = CostCurve("slope", np.array([10, 20, 30]), np.array([3.0, 2.0, 1.0]), steps=True)
    assert stair.hull() == [0, 2]
    assert split_budget([stair, slope], 40) == [30, 10]
    assert split_budget([stair, slope], 30) == [10, 20]


def test_what_counts_is_the_gain_per_multiplication():
    large = CostCurve("large", np.array([10, 60]), np.array([9.0, 4.0]), steps=True)
    small = CostCurve("small", np.array([10, 20]), np.array([3.0, 0.0]), steps=True)
    often = CostCurve(
        "often", np.array([10, 20]), np.array([4.0, 0.0]), vectors_per_example=4, steps=True
    )
    assert split_budget([large, small], 70) == [10, 20]
    assert split_budget([small, often], 89) == [20, 10]
    assert split_budget([small, often], 100) == [20, 20]


def test_more_error_for_more_cost_is_not_bought():
    curve = CostCurve("odd", np.array([10, 20]), np.array([1.0, 2.0]))
    assert split_budget([curve], 100) == [10]


def test_what_the_least_costs_exceed_is_refused():
    curves = [
        CostCurve("small", np.array([10]), np.zeros(1)),
        CostCurve("large", np.array([50]), np.zeros(1)),
    ]
    with pytest.raises(BudgetError, match=r"59 multiplications.*at least 60.*'large'"):
        split_budget(curves, 59)


def test_ranks_over_a_network_follow_its_singular_values():
    """The k largest relative singular values per multiplication, over all layers together."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False))
    spectra = [0.5 ** torch.arange(32.0), 0.9 ** torch.arange(32.0)]
    with torch.no_grad():
        for layer, spectrum in zip(model, spectra, strict=True):
            U, _ = torch.linalg.qr(torch.randn(32, 32))
            V, _ = torch.linalg.qr(torch.randn(32, 32))
            layer.weight.copy_(U * spectrum @ V.T)
    config = Config(kind="low_rank", start="weights", shares="error", budget=0.5)
    targets = find_targets(model, config, None).targets
    caps = Builder(config, targets, [None, None], [0, 0], None).caps()
    ranks = [cap // 64 for [cap] in caps]
    energies = torch.cat([s.square() / s.square().sum() for s in spectra])
    chosen = energies.topk(16).indices
    assert ranks == [(chosen < 32).sum().item(), (chosen >= 32).sum().item()]
    assert sum(ranks) == 16
    assert ranks[1] > ranks[0]


def test_a_kind_that_no_cap_suffices_for_says_so():
    def make(_W, cap, _progress):
        raise BudgetError(f"{cap} is too little")

    with pytest.raises(BudgetError, match="64 is too little"):
        trial_curve(torch.ones(8, 8), None, 0.5, make)
