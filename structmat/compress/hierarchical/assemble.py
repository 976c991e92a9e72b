"""The hierarchical matrix of approximated rectangles: ranks shared out, contents packed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.compress.goal import Goal
from structmat.compress.hierarchical.clusters import Pairs
from structmat.compress.hierarchical.evaluate import Evaluator, Factors
from structmat.intervals import IntArray, offsets, stretches
from structmat.kernels.layouts.rectangles import DENSE, Rectangles
from structmat.matrices.hierarchical import Hierarchical
from structmat.project.compiled import HAS_NUMBA


def assembled(
    found: list[Factors], near: IntArray, pairs: Pairs, evaluator: Evaluator, goal: Goal,
    shape: tuple[int, int], dtype: np.dtype[Any],
) -> Hierarchical:  # fmt: skip
    """The matrix of approximated rectangles, with the ranks of a goal, and of dense ones.

    A rectangle that would cost no less than its entries is stored dense. The factors are freed
    as they are copied.
    """
    ranks = _shared_ranks(found, pairs, goal)
    none = np.zeros((0, 4), np.int64)
    far = np.concatenate([none, *(f.pairs for f in found)])
    rank = np.concatenate([np.zeros(0, np.int64), *ranks])
    p, q = far[:, 1] - far[:, 0], far[:, 3] - far[:, 2]
    full = rank * (p + q) >= p * q
    begins = [offsets(np.where(full, 0, rank) * size) for size in (p, q)]
    sides = [np.empty(int(begin[-1]), dtype) for begin in begins]
    first = 0
    for i, (one, kept) in enumerate(zip(found, ranks, strict=True)):
        new = np.where(full[first : first + kept.size], 0, kept)
        for side in (0, 1):
            _copy(one, new, sides[side][begins[side][first] :], side)
        first += kept.size
        found[i] = one._replace(u=none[0:0], v=none[0:0])
    table = _table(far[~full & (rank > 0)], rank[~full & (rank > 0)])
    dense = np.concatenate([near, far[full]])
    dense = np.ascontiguousarray(dense[np.lexsort((dense[:, 2], dense[:, 0]))])
    whole = np.concatenate([table, _table(dense, np.full(len(dense), DENSE))])
    of = Rectangles(whole, shape, pairs.symmetric)
    entries = np.empty(int(of.area.sum()), np.result_type(dtype, np.float64))
    where = of.begins[2][len(table) : -1]
    evaluator.filled(dense, of.is_triangular[len(table) :], where, entries)
    # Each kind keeps its own order, which its contents have.
    key = [np.maximum.accumulate(side[:, 0]) for side in (table, whole[len(table) :]) if len(side)]
    order = np.argsort(np.concatenate([np.zeros(0), *key]), kind="stable")
    return Hierarchical(
        whole[order], sides[0], sides[1], entries.astype(dtype, copy=False),
        shape=shape, row_order=pairs.row_order, col_order=pairs.col_order,
        symmetric=pairs.symmetric,
    )  # fmt: skip


def _shared_ranks(found: list[Factors], pairs: Pairs, goal: Goal) -> list[IntArray]:
    """Ranks of all rectangles: singular values go where they save least for what they cost.

    A singular value s of a p x q rectangle costs p + q multiplications and captures s². Values
    of least s² / (p + q) are dropped first, up to the squared error ``goal.max_error**2``, or
    until the matrix costs at most ``goal.max_cost``.
    """
    sizes = [f.pairs[:, 1] - f.pairs[:, 0] + f.pairs[:, 3] - f.pairs[:, 2] for f in found]
    ranks = [np.maximum(f.ranks, 0) for f in found]
    cost = np.concatenate(
        [np.zeros(0), *(np.repeat(s, r) for s, r in zip(sizes, ranks, strict=True))]
    )
    energy = np.concatenate([np.zeros(0), *(f.values for f in found)]) ** 2
    order = np.argsort(energy / np.maximum(cost, 1), kind="stable")
    if goal.max_cost is None:
        spent = pairs.weight * np.cumsum(energy[order])
        dropped = int(np.searchsorted(spent, (goal.max_error or 0.0) ** 2, side="right"))
    else:
        kept = pairs.near_cost + pairs.weight * np.cumsum(cost[order][::-1])
        dropped = order.size - int(np.searchsorted(kept, goal.max_cost, side="right"))
    keep = np.ones(order.size, bool)
    keep[order[:dropped]] = False
    result, first = [], 0
    for rank in ranks:
        block = np.repeat(np.arange(rank.size), rank)
        last = first + block.size
        result.append(np.bincount(block[keep[first:last]], minlength=rank.size))
        first = last
    return result


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
    at = stretches(begin, ranks * size)
    target[: at.size] = source[at]
