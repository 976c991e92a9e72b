"""Compression of sources to hierarchical matrices, by few of their entries."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress, no_progress, part
from structmat.compress.goal import Goal
from structmat.compress.hierarchical.assemble import assembled
from structmat.compress.hierarchical.blocks import BlockEvaluator
from structmat.compress.hierarchical.clusters import Pairs, sides_of, strong_pairs, weak_pairs
from structmat.compress.hierarchical.evaluate import CompiledEvaluator, Evaluator, Factors
from structmat.compress.hierarchical.look import costs_less, price_within, sampled
from structmat.intervals import IntArray
from structmat.matrices.hierarchical import Hierarchical
from structmat.project.compiled import HAS_NUMBA

#: Share of a squared error for singular values that are dropped; the rest is for crosses.
DROPPED = 0.5
#: Entries of a rectangle that is not halved any more but stored dense.
LEAST_HALVED = 2**10
#: Errors of the norm to which some rectangles are fitted, to see what a budget pays for.
LOOKS = (1e-4, 1e-8, 1e-13)
#: Share of the energy for each multiplication that a fit under a budget may miss.
FINER = 0.25
#: Leaves on which neighbours are looked at, and the share of the diagonal that theirs should be.
RESOLVED_LEAVES, RESOLVED = 8, 0.5
#: Most rows of weak admissibility, whose largest rectangles are not looked at.
WEAK_ROWS = 2**17
#: Cost of weak admissibility, as a share of strong admissibility's, at which it is chosen.
WEAK_SHARE = 0.75
#: Share of a budget that dense rectangles may take.
NEAR_SHARE = 0.6


def fit_entries(
    source: Any,
    goal: Goal,
    *,
    rng: np.random.Generator,
    progress: Progress,
    weak: bool | None = None,
) -> Hierarchical:
    """Hierarchical matrix near a source, to an absolute error or under a cap on the cost.

    Far rectangles are approximated by few of their rows and columns, near ones are evaluated.
    The error is shared out by what rectangles cost; it is checked on entries or lines at random
    in each, which a rectangle with few nonzero entries may still deceive. For an error, `weak`
    asks for weak or for strong admissibility; by default the cheaper one is taken.
    """
    plan = planned(source, goal, int(rng.integers(2**62)), weak=weak)
    found, near = factored(plan, plan.pairs, part(progress, 0.0, 0.9))
    matrix = assembled(
        found, near, plan.pairs, plan.evaluator, plan.goal, source.shape, np.dtype(source.dtype)
    )
    progress(1.0)
    return matrix


@dataclass(frozen=True)
class FitPlan:
    """Which rectangles a fit approximates, by what means, and to which error."""

    evaluator: Evaluator
    pairs: Pairs
    #: Squared error for each row and column of a far rectangle.
    each: float
    seed: int
    #: Goal of the singular values that are kept.
    goal: Goal
    #: Means for small rectangles without an approximation; None to make them near.
    whole: Evaluator | None = None

    def apart(self) -> "FitPlan":
        """The same plan, for a source whose entries are counted apart from those of others."""
        source = self.evaluator.source.apart()
        whole = None if self.whole is None else self.whole.on(source)
        return replace(self, evaluator=self.evaluator.on(source), whole=whole)


def planned(source: Any, goal: Goal, seed: int, *, weak: bool | None = None) -> FitPlan:
    """The plan of a fit to an error or under a cap; see `fit_entries`."""
    if goal.max_cost is not None:
        return _under_cap(source, goal, goal.max_cost, seed)
    return _within_error(source, goal.max_error or 0.0, seed, weak)


def weak_is_cheaper(source: Any, error: float, rng: np.random.Generator) -> bool:
    """Tell whether `fit_entries` takes weak admissibility to miss no more than `error`."""
    return _cheaper(source, error, int(rng.integers(2**62)))[1].weak


def _within_error(source: Any, error: float, seed: int, weak: bool | None) -> FitPlan:
    """A matrix of low cost that misses no more than `error`."""
    if weak is None:
        evaluator, pairs = _cheaper(source, error, seed)
    else:
        pairs = clusters_of(source)
        if weak:
            pairs = weak_pairs(points_of(source)[0], symmetric=pairs.symmetric)
        evaluator = evaluator_of(source, pairs)
    goal = Goal(max_error=error * math.sqrt(DROPPED))
    return FitPlan(evaluator, pairs, _each(pairs, error), seed, goal)


def _under_cap(source: Any, goal: Goal, cap: int, seed: int) -> FitPlan:
    """The best matrix that costs at most `cap`: singular values by energy per multiplication."""
    pairs = _within(source, cap)
    evaluator = evaluator_of(source, pairs)
    room = cap - pairs.near_cost
    each, whole = 0.0, BlockEvaluator(source, pairs)
    for look in LOOKS:
        sample = sampled(evaluator, pairs, _each(pairs, look * (goal.size or 1.0)), seed, whole)
        if each := FINER * price_within(sample, room):
            break
    each = max(each, _each(pairs, LOOKS[-1] * (goal.size or 1.0)))
    return FitPlan(evaluator, pairs, each, seed, goal, whole)


def _each(pairs: Pairs, error: float) -> float:
    """Squared error for each row and column of a far rectangle."""
    return error**2 / max(float(pairs.weight * pairs.sides.sum()), 1.0)


def _cheaper(source: Any, error: float, seed: int) -> tuple[Evaluator, Pairs]:
    """Rectangles by strong or by weak admissibility, whichever promise to cost less."""
    pairs = clusters_of(source)
    evaluator = evaluator_of(source, pairs)
    points, points2 = points_of(source)
    # Rectangles that touch are checked where they touch, by compiled loops alone.
    small = points2 is None and len(points) <= WEAK_ROWS
    if not small or not len(pairs.far) or isinstance(evaluator, BlockEvaluator):
        return evaluator, pairs
    if not _is_resolved(source, pairs):
        return evaluator, pairs
    most = pairs.near_cost + sampled(evaluator, pairs, _each(pairs, error), seed).cost
    weak = weak_pairs(points, symmetric=pairs.symmetric)
    other = evaluator_of(source, weak)
    if costs_less(other, weak, _each(weak, error), seed, WEAK_SHARE * most):
        return other, weak
    return evaluator, pairs


def _is_resolved(source: Any, pairs: Pairs) -> bool:
    """Tell whether neighbours have entries near those of the diagonal.

    Else the large entries of rectangles that touch are too few to be found at random.
    """
    leaves = pairs.near[pairs.near[:, 0] == pairs.near[:, 2]]
    shares = []
    for a, b, *_ in leaves[:: max(1, len(leaves) // RESOLVED_LEAVES)][:RESOLVED_LEAVES]:
        at = pairs.row_order[a:b]
        block = np.abs(source.block(at, at))
        own = block.diagonal().copy()
        np.fill_diagonal(block, 0.0)
        shares.append(block.max(axis=1, initial=0.0) >= RESOLVED * own)
        if not own.all():
            return False
    return bool(shares) and bool(np.concatenate(shares).mean() >= RESOLVED)


def _within(source: Any, cap: int) -> Pairs:
    """Rectangles whose dense ones leave room under a cap."""
    pairs = clusters_of(source)
    if pairs.near_cost <= NEAR_SHARE * cap:
        return pairs
    points, points2 = points_of(source)
    if points2 is None:
        pairs = weak_pairs(points, symmetric=pairs.symmetric)
        if pairs.near_cost <= NEAR_SHARE * cap:
            return pairs
    return pairs.without_near()


def clusters_of(source: Any) -> Pairs:
    """Far and near rectangles of a source, by its points and strong admissibility."""
    points, points2 = points_of(source)
    return strong_pairs(points, points2, symmetric=bool(source.hermitian and points2 is None))


def points_of(source: Any) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Points of the rows, and of the columns where they are others.

    A source without points has positions in the order of its rows and columns.
    """
    (m, n), points, points2 = source.shape, source.points, source.points2
    if points is None:
        points, points2 = _positions(m), None if m == n else _positions(n)
    return points, None if points2 is points else points2


def _positions(n: int) -> NDArray[np.float64]:
    return (np.arange(n)[:, None] + 0.5) / max(n, 1)


def evaluator_of(source: Any, pairs: Pairs) -> Evaluator:
    """The quickest means of approximating rectangles of a source."""
    if HAS_NUMBA and source.compiled is not None:
        return CompiledEvaluator(source, pairs)
    return BlockEvaluator(source, pairs)


def factored(
    plan: FitPlan, pairs: Pairs, progress: Progress = no_progress
) -> tuple[list[Factors], IntArray]:
    """Far rectangles of a plan, approximated, and near ones; `pairs` are all or some of them.

    A rectangle whose rank is too high is halved, again and again. A small one becomes near, or
    has all its singular values by other means. What becomes of a rectangle does not depend on
    the others.
    """
    found: list[Factors] = []
    near, far = [pairs.near], pairs.far
    while len(far):
        bounds = plan.each * sides_of(far).astype(np.float64)
        some = plan.evaluator.factored(far, bounds, plan.seed, progress)
        failed = np.concatenate([f.pairs[f.ranks < 0] for f in some])
        found += some
        small = (failed[:, 1] - failed[:, 0]) * (failed[:, 3] - failed[:, 2]) <= LEAST_HALVED
        if plan.whole is None:
            near.append(failed[small])
        elif small.any():
            bounds = plan.each * sides_of(failed[small]).astype(np.float64)
            found.append(plan.whole.factor(failed[small], bounds, plan.seed))
        far, progress = _quarters(failed[~small]), no_progress
    return found, np.concatenate(near)


def _quarters(pairs: IntArray) -> IntArray:
    """Rectangles cut in halves on both sides, where a side has more than one line."""
    a, b, c, d = pairs.T
    i, j = (a + b + 1) // 2, (c + d + 1) // 2
    rows, cols = ((a, i), (i, b)), ((c, j), (j, d))
    cut = [np.stack([*row, *col], axis=1) for row in rows for col in cols]
    parts = np.concatenate([np.zeros((0, 4), np.int64), *cut])
    return parts[(parts[:, 1] > parts[:, 0]) & (parts[:, 3] > parts[:, 2])]
