"""Lines in the groups that hold most of them."""

from itertools import permutations

import numpy as np
import pytest

from structmat.project import regroup
from structmat.project.regroup import regrouped


def held(energy, live, size, order):
    groups = live[np.arange(len(order)) // size]
    return float((energy[order] * groups).sum())


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_no_other_order_holds_more(size, rng):
    energy = rng.random((7, 5))
    live = rng.random((-(-7 // size), 5)) < 0.4
    order = regrouped(energy, live, size)
    best = max(held(energy, live, size, np.array(p)) for p in permutations(range(7)))
    assert held(energy, live, size, order) == pytest.approx(best)


@pytest.mark.parametrize("exact", [True, False])
def test_planted_groups_are_found(exact, rng, monkeypatch):
    monkeypatch.setattr(regroup, "EXACT_LINES", 2**10 if exact else 0)
    live = rng.random((7, 40)) < 0.3
    mixed = rng.permutation(50)
    energy = (live[np.arange(50) // 8] + 0.1 * rng.random((50, 40)))[mixed]
    order = regrouped(energy, live, 8)
    np.testing.assert_array_equal(np.sort(order), np.arange(50))
    np.testing.assert_array_equal(mixed[order] // 8, np.arange(50) // 8)


def test_groups_that_are_asked_are_stable(rng):
    held = rng.random((45, 30)) @ (rng.random((6, 30)) < 0.5).T
    group = regroup._asked(held, np.bincount(np.arange(45) // 8))
    own = held[np.arange(45), group]
    least = np.array([own[group == g].min() for g in range(6)])
    assert not ((held > own[:, None]) & (held > least)).any()


def test_no_exchange_of_two_lines_gains(rng):
    held = rng.random((45, 6))
    group = regroup._exchanged(held, np.arange(45) // 8)
    np.testing.assert_array_equal(np.bincount(group), [8, 8, 8, 8, 8, 5])
    gain = held[:, group] - held[np.arange(45), group][:, None]
    assert (gain + gain.T).max() <= 1e-6


@pytest.mark.parametrize("exact", [True, False])
def test_sums_of_the_largest_numbers_do_not_overflow(exact, rng, monkeypatch):
    monkeypatch.setattr(regroup, "EXACT_LINES", 2**10 if exact else 0)
    energy, live = rng.random((30, 20)).astype(np.float32), rng.random((4, 20)) < 0.5
    with np.errstate(over="raise"):
        order = regrouped(np.ldexp(energy, 127), live, 8)
    np.testing.assert_array_equal(order, regrouped(energy, live, 8))


def test_exchanges_come_near_the_best_groups(rng, monkeypatch):
    energy, live = rng.random((96, 40)) ** 4, rng.random((12, 40)) < 0.4

    def held(order):
        return sum(energy[row][live[k // 8]].sum() for k, row in enumerate(order))

    best = held(regrouped(energy, live, 8))
    monkeypatch.setattr(regroup, "EXACT_LINES", 0)
    # Groups that are asked alone hold .982 of it.
    assert held(regrouped(energy, live, 8)) >= 0.985 * best


def test_lines_of_a_group_keep_their_order():
    energy, live = np.ones((6, 2)), np.ones((3, 2), bool)
    np.testing.assert_array_equal(np.sort(regrouped(energy, live, 2)), np.arange(6))
    for exact in (regrouped(np.zeros((4, 2)), np.zeros((1, 2), bool), 4),):
        np.testing.assert_array_equal(exact, np.arange(4))
    assert regrouped(np.zeros((0, 2)), np.zeros((0, 2), bool), 4).shape == (0,)
