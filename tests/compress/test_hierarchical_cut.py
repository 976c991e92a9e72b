"""Singular values are cut alike, however the rectangles were divided."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.compress.goal import Goal
from structmat.compress.hierarchical.assemble import Spectra, cut_of

#: Few different values, so that many are equal.
spectrum = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), max_size=4)


def spectra(lists):
    """Squares beside each other in one row of them, with these values."""
    at = 4 * np.arange(len(lists))
    pairs = np.stack([at, at + 4, 0 * at, 0 * at + 4], axis=1)
    values = np.array([x for some in lists for x in sorted(some, reverse=True)])
    return Spectra(pairs, values, np.array([len(some) for some in lists], np.int64))


def chosen(of, at):
    begin = np.cumsum(of.ranks) - of.ranks
    parts = [of.values[begin[k] : begin[k] + of.ranks[k]] for k in at]
    return Spectra(of.pairs[at], np.concatenate([np.zeros(0), *parts]), of.ranks[at])


goals = st.one_of(
    st.floats(0, 5).map(lambda x: Goal(max_error=x)), st.integers(0, 200).map(lambda x: Goal(x))
)


@given(st.lists(spectrum, min_size=1, max_size=8), goals, st.randoms())
def test_a_cut_is_one_for_all_divisions(lists, goal, random):
    of = spectra(lists)
    at = list(range(len(lists)))
    random.shuffle(at)
    middle = random.randint(0, len(at))
    parts = [chosen(of, at[:middle]), chosen(of, at[middle:])]
    cut, again = cut_of([of], goal, 1, 0), cut_of(parts, goal, 1, 0)
    assert cut == again
    ranks = np.concatenate([cut.ranks(part) for part in parts])
    np.testing.assert_array_equal(ranks, cut.ranks(of)[at])


@given(st.lists(spectrum, min_size=1, max_size=8), goals)
def test_a_cut_keeps_to_its_goal_and_drops_no_more(lists, goal):
    of = spectra(lists)
    ranks = cut_of([of], goal, 1, 0).ranks(of)
    begin = np.cumsum(of.ranks) - of.ranks
    dropped = [of.values[b + r : b + n] for b, r, n in zip(begin, ranks, of.ranks, strict=True)]
    lost = np.sort(np.concatenate(dropped))
    if goal.max_cost is None:
        assert (lost**2).sum() <= goal.max_error**2 * (1 + 1e-12)
        kept = np.sort(of.values)[lost.size :]
        if kept.size:
            assert (lost**2).sum() + kept[0] ** 2 > goal.max_error**2 * (1 - 1e-12)
    else:
        assert ranks.sum() * 8 <= goal.max_cost
        assert not lost.size or (ranks.sum() + 1) * 8 > goal.max_cost


@pytest.mark.parametrize("goal", [Goal(0), Goal(max_error=10.0)])
def test_everything_may_be_dropped(goal):
    of = spectra([[1.0, 0.5], []])
    np.testing.assert_array_equal(cut_of([of], goal, 1, 0).ranks(of), [0, 0])
