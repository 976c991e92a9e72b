"""The hierarchical matrix of approximated rectangles: ranks shared out, contents packed.

Which singular values are kept is one decision about all rectangles, a `Cut`. The rest concerns
each rectangle alone, so that some may be packed here and others elsewhere.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress.goal import Goal
from structmat.compress.hierarchical.clusters import Pairs, sides_of
from structmat.compress.hierarchical.evaluate import Evaluator, Factors
from structmat.intervals import IntArray, offsets, ramps
from structmat.kernels.layouts.rectangles import DENSE, Rectangles
from structmat.matrices.hierarchical import Hierarchical
from structmat.project.compiled import HAS_NUMBA


class Spectra(NamedTuple):
    """Singular values of rectangles (b, 4), packed, and how many each of them has."""

    pairs: IntArray
    values: NDArray[np.float64]
    ranks: IntArray

    @property
    def sides(self) -> IntArray:
        """What each value costs: p + q in a p x q rectangle."""
        return np.repeat(sides_of(self.pairs), self.ranks)

    @property
    def scores(self) -> NDArray[np.float64]:
        """What each value saves for what it costs: s² / (p + q)."""
        return np.asarray(self.values**2 / np.maximum(self.sides, 1))


class Cut(NamedTuple):
    """The first singular value that is kept, in an order of all of them.

    Values come by score, those of one score by rectangle, and those of one rectangle as they
    are. That order does not depend on how the rectangles were divided.
    """

    score: float
    #: The rectangle of the value, and its place there.
    at: tuple[int, ...] = (0, 0, 0, 0, 0)

    def ranks(self, of: Spectra) -> IntArray:
        """Number of values that each rectangle keeps."""
        scores, block = of.scores, np.repeat(np.arange(of.ranks.size), of.ranks)
        keep = scores > self.score
        ties = np.flatnonzero(scores == self.score)
        place = ties - offsets(of.ranks)[block[ties]]
        keep[ties] = _not_before((*of.pairs[block[ties]].T, place), self.at)
        return np.bincount(block[keep], minlength=of.ranks.size)


def _not_before(columns: Sequence[IntArray], bound: tuple[int, ...]) -> np.ndarray:
    """Compare rows of several columns to a bound, by the first column that differs."""
    after, equal = np.zeros(columns[0].shape, bool), np.ones(columns[0].shape, bool)
    for column, limit in zip(columns, bound, strict=True):
        after |= equal & (column > limit)
        equal &= column == limit
    return after | equal


class Contents(NamedTuple):
    """Blocks of a hierarchical matrix, and what they hold."""

    blocks: IntArray
    u: NDArray[Any]
    v: NDArray[Any]
    dense: NDArray[Any]


def assembled(
    found: list[Factors], near: IntArray, pairs: Pairs, evaluator: Evaluator, goal: Goal,
    shape: tuple[int, int], dtype: np.dtype[Any],
) -> Hierarchical:  # fmt: skip
    """The matrix of approximated rectangles, with the ranks of a goal, and of dense ones.

    The factors are freed as they are copied.
    """
    cut = cut_of([spectra_of(found)], goal, pairs.weight, pairs.near_cost)
    contents = packed(found, near, cut, evaluator, shape, symmetric=pairs.symmetric, dtype=dtype)
    return Hierarchical(
        *contents, shape=shape, row_order=pairs.row_order, col_order=pairs.col_order,
        symmetric=pairs.symmetric,
    )  # fmt: skip


def spectra_of(found: Sequence[Factors]) -> Spectra:
    """Singular values of all factors."""
    return Spectra(
        np.concatenate([np.zeros((0, 4), np.int64), *(f.pairs for f in found)]),
        np.concatenate([np.zeros(0), *(f.values for f in found)]),
        np.maximum(np.concatenate([np.zeros(0, np.int64), *(f.ranks for f in found)]), 0),
    )


def cut_of(found: Sequence[Spectra], goal: Goal, weight: int, near_cost: int) -> Cut:
    """Where the values of all rectangles are cut: they go where they save least for their cost.

    A singular value s of a p x q rectangle costs p + q multiplications and captures s². Values
    of least s² / (p + q) are dropped first, up to the squared error ``goal.max_error**2``, or
    until the matrix costs at most ``goal.max_cost``, dense rectangles with it. Each rectangle
    stands for `weight` of its kind.
    """
    every = _in_order(found)
    scores = every.scores
    order = np.argsort(scores, kind="stable")
    if goal.max_cost is None:
        spent = weight * np.cumsum(every.values[order] ** 2)
        dropped = int(np.searchsorted(spent, (goal.max_error or 0.0) ** 2, side="right"))
    else:
        kept = near_cost + weight * np.cumsum(every.sides[order][::-1])
        dropped = order.size - int(np.searchsorted(kept, goal.max_cost, side="right"))
    if dropped == order.size:
        return Cut(np.inf)
    first, begin = int(order[dropped]), offsets(every.ranks)
    block = int(np.searchsorted(begin, first, side="right")) - 1
    return Cut(float(scores[first]), (*every.pairs[block].tolist(), first - int(begin[block])))


def _in_order(found: Sequence[Spectra]) -> Spectra:
    """All values, rectangle by rectangle in an order of their own."""
    pairs, values, ranks = (np.concatenate(some) for some in zip(*found, strict=True))
    order = np.lexsort(pairs.T[::-1])
    begin, count = offsets(ranks)[order], ranks[order]
    return Spectra(pairs[order], values[np.repeat(begin, count) + ramps(count)], count)


def packed(
    found: list[Factors], near: IntArray, cut: Cut, evaluator: Evaluator,
    shape: tuple[int, int], *, symmetric: bool, dtype: np.dtype[Any],
) -> Contents:  # fmt: skip
    """Blocks of some approximated rectangles, cut to their ranks, and of some dense ones.

    A rectangle that would cost no less than its entries is stored dense. The factors leave the
    list as they are copied.
    """
    far, _, most = spectra = spectra_of(found)
    rank = cut.ranks(spectra)
    p, q = far[:, 1] - far[:, 0], far[:, 3] - far[:, 2]
    full = rank * (p + q) >= p * q
    kept = np.where(full, 0, rank)
    begins = [offsets(kept * size) for size in (p, q)]
    sides = [np.empty(int(begin[-1]), dtype) for begin in begins]
    last = most.size
    while found:
        one = found.pop()
        first = last - one.ranks.size
        for side in (0, 1):
            _copy(one, kept[first:last], sides[side][begins[side][first] :], side)
        last = first
    table = _table(far[~full & (rank > 0)], rank[~full & (rank > 0)])
    dense = np.concatenate([near, far[full]])
    dense = np.ascontiguousarray(dense[np.lexsort((dense[:, 2], dense[:, 0]))])
    whole = np.concatenate([table, _table(dense, np.full(len(dense), DENSE))])
    of = Rectangles(whole, shape, symmetric)
    entries = np.empty(int(of.area.sum()), np.result_type(dtype, np.float64))
    where = of.begins[2][len(table) : -1]
    evaluator.filled(dense, of.is_triangular[len(table) :], where, entries)
    # Each kind keeps its own order, which its contents have.
    key = [np.maximum.accumulate(side[:, 0]) for side in (table, whole[len(table) :]) if len(side)]
    order = np.argsort(np.concatenate([np.zeros(0), *key]), kind="stable")
    return Contents(whole[order], sides[0], sides[1], entries.astype(dtype, copy=False))


def _table(pairs: IntArray, ranks: IntArray) -> IntArray:
    a, b, c, d = pairs.T
    return np.stack([a, b - a, c, d - c, ranks], axis=1)


def _copy(one: Factors, ranks: IntArray, target: NDArray[Any], side: int) -> None:
    """Copy the first ranks of each rectangle's factor to `target`."""
    size = one.pairs[:, 2 * side + 1] - one.pairs[:, 2 * side]
    source = (one.u, one.v)[side]
    if HAS_NUMBA:
        from structmat.compress.hierarchical.loops import keep_ranks

        keep_ranks(size, one.ranks, ranks, source, target)
        return
    begin = offsets(np.maximum(one.ranks, 0) * size)[:-1]
    at = np.repeat(begin, ranks * size) + ramps(ranks * size)
    target[: at.size] = source[at]
