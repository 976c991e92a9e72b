"""Choice among the fits of a kind and of those that it contains, with fits made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

import structmat
from structmat.compress import low_rank
from structmat.compress.contained import Bound, Fits, as_contained, is_nearer
from structmat.compress.goal import Goal
from structmat.errors import BudgetError, ConversionError, ToleranceError

#: Norm 1, so that a multiple 1 - e has the relative error e.
D = np.diag([1.0, 0.0])


def fits(**fakes):
    made = Fits(SimpleNamespace(data=fakes.pop("data", D), implicit=False), 1.0)
    for name, fake in fakes.items():
        setattr(made, name, fake)
    return made


def with_error(error):
    return structmat.Dense(D * (1 - error))


def factors(rank, share=1.0):
    """A low-rank matrix of cost 4 · rank, that misses a part of `D`."""
    return structmat.LowRank(np.eye(2, rank) * share, D[:, :rank])


@pytest.mark.parametrize(
    ("new", "old", "is_new"),
    [
        ((0.1, 9), (0.2, 4), True),
        ((0.2, 4), (0.1, 9), False),
        ((0.1, 3), (0.1, 4), True),
        ((0.1, 4), (0.1, 4), False),
        ((0.1 + 5e-8, 3), (0.1, 4), True),
        ((0.1 + 2e-7, 3), (0.1, 4), False),
        ((1e-14, 3), (0.0, 4), True),
        ((0.0, 4), (1e-14, 3), False),
        ((2e-14, 3), (0.0, 4), False),
    ],
)
def test_the_nearer_matrix(new, old, is_new):
    assert is_nearer(new, old, exact=1e-14) is is_new


# One kind.


@pytest.mark.parametrize(("errors", "tol"), [([0.25], 0.25), ([0.5, 0.25], 0.25)])
def test_a_tolerance_is_met_at_a_lower_aim(errors, tol, rng):
    aims, left = [], list(errors)

    def own(kind, goal, *_):
        aims.append(goal.max_error)
        return with_error(left.pop(0))

    found = fits(own=own)._run("dense", "dense", Bound(tol=tol), rng, print)
    assert found.to_dense()[0, 0] == 1 - tol
    assert aims == [tol, 0.99 * tol * tol / 0.5][: len(errors)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tolerance_is_tried_for_three_times(dtype, rng):
    count = []

    def own(*_):
        count.append(1)
        return with_error(0.5)

    with pytest.raises(ToleranceError, match="'dense' reaches only 0") as caught:
        fits(own=own, data=D.astype(dtype))._run("dense", "dense", Bound(tol=0.1), rng, print)
    assert len(count) == 3
    assert ("double precision" in str(caught.value)) == (dtype == "float32")


def test_a_tolerance_of_zero_is_exact(rng):
    with pytest.raises(ToleranceError, match="tol = 0, but"):
        fits(own=lambda *_: with_error(0.5))._run("dense", "dense", Bound(tol=0.0), rng, print)
    found = fits(own=lambda *_: factors(1))._run("low_rank", "gblr", Bound(tol=0.0), rng, print)
    assert found.kind == "gblr"


def test_a_cap_is_passed_on_to_the_own_fit(rng):
    goals = []

    def own(kind, goal, *_):
        goals.append((kind, goal))
        return factors(1)

    made = fits(own=own)
    found = [made._run("low_rank", k, Bound(cap=5), rng, print) for k in ("low_rank", "gblr")]
    assert [matrix.kind for matrix in found] == ["low_rank", "gblr"]
    assert goals == [("low_rank", Goal(max_cost=5))] * 2


# Contained kinds.


def flat_tile():
    """Costs 6, and 9 once it is filled in."""
    U = np.ones((3, 1))
    return structmat.BlockLowRank({(0, 0): (U, U)}, row_sizes=[3], col_sizes=[3])


def full_tile():
    """Costs 4 in both forms."""
    return structmat.BlockLowRank(
        {(0, 0): np.array([[1.0, 2], [3, 4]])}, row_sizes=[2], col_sizes=[2]
    )


@pytest.mark.parametrize(
    ("cap", "second", "goals"),
    [(9, None, [9]), (8, full_tile, [8, 7]), (6, full_tile, [6, 4]), (8, flat_tile, [8, 7])],
)
def test_a_contained_kind_stays_within_the_cap_of_its_container(cap, second, goals, rng):
    seen, drawn = [], []

    def own(kind, goal, rng, *_):
        seen.append(goal.max_cost)
        drawn.append(rng.random())
        return (flat_tile if len(seen) == 1 else second)()

    made = fits(own=own)
    if second is flat_tile:
        with pytest.raises(BudgetError, match=f"costs 9 as 'block_sparse'; expected at most {cap}"):
            made.within("block_low_rank", "block_sparse", cap, rng)
    else:
        made.within("block_low_rank", "block_sparse", cap, rng)
    assert seen == goals
    assert len(set(drawn)) == 1


def chosen(bound, matrices, rng, kind="gblr"):
    """The best of matrices by kind, what each fit drew, and the progress reported."""
    drawn, shares = [], []

    def run(other, _kind, _bound, rng, progress):
        drawn.append(rng.random())
        progress(0.5)
        progress(1.0)
        if isinstance(matrices[other], Exception):
            raise matrices[other]
        return matrices[other]

    return fits(_run=run).best(kind, bound, rng, shares.append), drawn, shares


def test_the_best_of_a_kind_and_of_those_that_it_contains(rng):
    cheap, near, plain = factors(1, 0.5), factors(2), factors(1, 0.25)
    matrices = {"gblr": plain, "low_rank": cheap, "block_sparse": near, "block_low_rank": plain}
    found, drawn, shares = chosen(Bound(cap=9), matrices, rng)
    assert found is near
    assert len(set(drawn)) == 1
    assert shares == pytest.approx([0.4, 0.8, 0.8 + 0.2 / 3, 0.8 + 0.4 / 3, 1.0])
    matrices["gblr"] = near
    assert chosen(Bound(tol=0.9), matrices, rng)[0] is cheap


def test_a_kind_that_contains_no_other(rng):
    matrix = factors(1)
    found, _, shares = chosen(Bound(cap=9), {"low_rank": matrix}, rng, "low_rank")
    assert found is matrix
    assert shares == [0.5, 1.0]


def test_a_fit_that_fails_leaves_the_others(rng):
    error, last = ToleranceError("own"), ToleranceError("other")
    matrices = dict.fromkeys(("low_rank", "block_sparse", "block_low_rank"), last)
    with pytest.raises(ToleranceError, match="own"):
        chosen(Bound(tol=0.1), {"gblr": error, **matrices}, rng)
    matrices["block_sparse"] = factors(2)
    assert chosen(Bound(tol=0.1), {"gblr": error, **matrices}, rng)[0] is matrices["block_sparse"]


def test_a_mistake_of_a_built_in_fit_is_shown(rng):
    matrices = dict.fromkeys(("gblr", "low_rank", "block_low_rank"), factors(1))
    with pytest.raises(RuntimeError, match="a mistake"):
        chosen(Bound(tol=0.1), {**matrices, "block_sparse": RuntimeError("a mistake")}, rng)


def test_a_conversion_to_another_kind_is_refused(monkeypatch):
    monkeypatch.setattr(structmat.LowRank, "to_kind", lambda self, kind: self)
    with pytest.raises(ConversionError, match="expected a 'gblr' matrix"):
        as_contained(factors(1), "gblr")


# Ranks of one fit.


def cut_off(rank, s):
    unit = np.eye(len(s))
    return unit[:, :rank], s[:rank], unit[:rank]


def test_ranks_are_doubled_until_a_tolerance_is_met():
    s, tried, shares = np.arange(12.0, 0, -1), [], []

    def decompose(rank):
        tried.append(rank)
        return cut_off(rank, s)

    goal = Goal(max_error=float(np.sqrt((s[9:] ** 2).sum())))
    A = low_rank._fit(np.diag(s), goal, decompose, 2, shares.append)
    assert A.rank == 9
    assert tried == [2, 4, 8, 12]
    assert shares == pytest.approx([4 / 24, 8 / 24, 12 / 24, 1.0])
    tried.clear()
    exact = Goal(max_error=float(np.sqrt((s[8:] ** 2).sum())))
    assert low_rank._fit(np.diag(s), exact, decompose, 8, shares.append).rank == 8
    assert tried == [8]


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_full_rank_that_misses_a_tolerance(shape):
    tried = []

    def decompose(rank):
        tried.append(rank)
        return np.eye(shape[0])[:, :rank], np.full(rank, 1.5), np.eye(shape[1])[:rank]

    with pytest.raises(ToleranceError, match="error 0 wanted, but full rank 3 reaches only 0"):
        low_rank._fit(np.eye(*shape), Goal(max_error=0.0), decompose, 9, print)
    assert tried == [3]


@pytest.mark.parametrize(
    ("shape", "cap", "rank"), [((3, 4), 20, 2), ((3, 4), 21, 3), ((0, 0), 5, 5)]
)
def test_the_rank_that_a_budget_has(shape, cap, rank):
    tried, shares = [], []

    def decompose(k):
        tried.append(k)
        k = min(k, *shape)
        return np.eye(shape[0])[:, :k], np.ones(k), np.eye(shape[1])[:k]

    A = low_rank._fit(np.eye(*shape), Goal(max_cost=cap), decompose, 1, shares.append)
    assert tried == [rank]
    assert A.rank == min(rank, *shape)
    assert shares == [1.0]


def test_ranks_that_are_rounding_are_left_out():
    s = np.array([1.0, 0.5, 1e-20])
    goal = Goal(max_cost=18)
    assert low_rank._fit(np.diag(s), goal, lambda rank: cut_off(rank, s), 1, print).rank == 2
