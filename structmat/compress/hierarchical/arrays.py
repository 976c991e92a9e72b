"""Compression of arrays to hierarchical matrices: the best cut of a tree of halves.

Rows and columns are halved again and again, in the order of the input. Each rectangle of the
tree may be of low rank, dense, or cut in four. For a price of energy in multiplications the
best choice follows from the smallest rectangles up; the price is the one that meets the goal.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.hierarchical.assemble import assembled
from structmat.compress.hierarchical.blocks import BlockEvaluator
from structmat.compress.hierarchical.clusters import Pairs
from structmat.compress.hierarchical.evaluate import Factors
from structmat.intervals import IntArray
from structmat.matrices.hierarchical import Hierarchical
from structmat.project.shares import rounding_of
from structmat.project.svd import svdvals

#: Shorter side of the smallest rectangles, and longer side of the largest that are decomposed.
LEAST_SIDE, MOST_SIDE = 8, 512
#: Halvings of the interval of prices.
STEPS = 50
#: Cost, as a share of the best one, at which half of the storage is taken instead.
HALVED = 1.05
LOW, DENSE, CUT = range(3)


class _Level(NamedTuple):
    """Rectangles of one depth, in a square of them."""

    rows: IntArray
    cols: IntArray
    #: Squares of the singular values, (2^l, 2^l, k), and their sums from each one on.
    energy: NDArray[np.float64] | None
    tails: NDArray[np.float64] | None


class _Array:
    """An array as fits of sources take it."""

    def __init__(self, A: NDArray) -> None:
        self._A, self.dtype = A, A.dtype

    def block(self, rows: IntArray, cols: IntArray) -> NDArray:
        """Entries at all pairs of some rows and columns."""
        return self._A[np.ix_(rows, cols)]


def fit(
    A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress, half: bool = False
) -> Hierarchical:
    """Rectangles of low rank and dense ones of a tree of halves, the best for the goal.

    A Hermitian array gives a symmetric matrix where that costs no more than a few per cent, or
    always, with `half`. The order of rows and columns stays as it is.
    """
    (m, n), none = A.shape, np.zeros((0, 4), np.int64)
    orders = np.arange(m), np.arange(n)
    hermitian = half or (m == n and bool(np.array_equal(A, A.conj().T)))
    far, near, symmetric = none, none, half
    if A.size:
        levels = _levels(A, lambda done: progress(0.8 * done))
        far, near, symmetric = _best(levels, goal, hermitian=hermitian, always=half)
    found = [_decomposed(A, far)]
    pairs = Pairs(*orders, far, near, symmetric)
    evaluator = BlockEvaluator(_Array(A), pairs)
    matrix = assembled(found, near, pairs, evaluator, goal, (m, n), A.dtype)
    progress(1.0)
    return matrix


def _levels(A: NDArray, progress: Progress) -> list[_Level]:
    """All rectangles with their singular values; none for those that are too large."""
    edges = [np.array([0, size]) for size in A.shape]
    levels: list[_Level] = []
    depth = max(0, int(np.log2(max(min(A.shape) // LEAST_SIDE, 1))))
    for l in range(depth + 1):
        sides = [np.diff(edge) for edge in edges]
        energy = tails = None
        if max(side.max() for side in sides) <= MOST_SIDE or l == depth:
            energy = _energy(A, edges, sides)
            tails = np.cumsum(energy[..., ::-1], axis=2)[..., ::-1]
        levels.append(_Level(edges[0], edges[1], energy, tails))
        edges = [_halved(edge) for edge in edges]
        progress((l + 1) / (depth + 1))
    return levels


def _halved(edge: IntArray) -> IntArray:
    return np.unique(np.concatenate([edge, (edge[:-1] + edge[1:] + 1) // 2]))


def _energy(A: NDArray, edges: list[IntArray], sides: list[IntArray]) -> NDArray[np.float64]:
    """Squares of the singular values of all rectangles of a level, without rounding's."""
    most = min(int(side.max()) for side in sides)
    energy = np.zeros((len(sides[0]), len(sides[1]), most))
    rounding = rounding_of(A, most)
    for p, q in itertools.product(*(np.unique(side) for side in sides)):
        i, j = (np.flatnonzero(side == size) for side, size in zip(sides, (p, q), strict=True))
        rows = (edges[0][i][:, None] + np.arange(p)).ravel()
        cols = (edges[1][j][:, None] + np.arange(q)).ravel()
        blocks = A[np.ix_(rows, cols)].reshape(i.size, p, j.size, q).swapaxes(1, 2)
        values = svdvals(np.ascontiguousarray(blocks).reshape(-1, p, q))
        values = np.where(values > rounding, values, 0.0).reshape(i.size, j.size, -1)
        energy[np.ix_(i, j, np.arange(values.shape[2]))] = values.astype(np.float64) ** 2
    return energy


def _best(
    levels: list[_Level], goal: Goal, *, hermitian: bool, always: bool
) -> tuple[IntArray, IntArray, bool]:
    """Far and near rectangles at the price that meets the goal, and whether half are listed."""
    high = max(float(level.energy.sum()) for level in levels if level.energy is not None)
    if high == 0.0:
        none = np.zeros((0, 4), np.int64)
        return none, none, always
    low = 1e-34 * high
    # The end that keeps to the goal for certain; ranks are shared out to it afterwards.
    best = (low, always) if goal.max_cost is None else (high, always)
    for _ in range(STEPS):
        price, half = (low * high) ** 0.5, False
        cost, missed, _ = _choice(levels, price, half=False)
        if hermitian:
            other = _choice(levels, price, half=True)
            half = always or other[0] + other[1] / price <= HALVED * (cost + missed / price)
            cost, missed = other[:2] if half else (cost, missed)
        if goal.max_cost is None:
            kept = lower = missed <= (goal.max_error or 0.0) ** 2
        else:
            kept = cost <= goal.max_cost
            lower = not kept
        best = (price, half) if kept else best
        low, high = (price, high) if lower else (low, price)
    price, half = best
    return *_rectangles(levels, _choice(levels, price, half=half)[2], half), half


def _choice(
    levels: list[_Level], price: float, *, half: bool
) -> tuple[float, float, list[NDArray[np.int8]]]:
    """Cost, missed energy and the choice of each rectangle where energy has this price.

    With `half` the rectangles on the diagonal are dense, so that one triangle is stored.
    """
    chosen: list[NDArray[np.int8]] = []
    cost = missed = np.zeros((0, 0))
    for l in reversed(range(len(levels))):
        level = levels[l]
        p, q = np.diff(level.rows)[:, None], np.diff(level.cols)
        options: list[tuple[Any, Any]] = [
            (np.broadcast_to(np.inf, np.broadcast_shapes(p.shape, q.shape)), 0.0)
        ] * 3
        options[DENSE] = np.asarray(p * q, np.float64), np.zeros((len(p), len(q)))
        if level.energy is not None and level.tails is not None:
            rank = (level.energy > price * (p + q)[:, :, None]).sum(axis=2)
            tails = np.concatenate([level.tails, np.zeros((*level.tails.shape[:2], 1))], axis=2)
            low = np.take_along_axis(tails, rank[:, :, None], axis=2)[:, :, 0]
            options[LOW] = rank * (p + q).astype(np.float64), low
            if half:
                options[LOW] = np.where(np.eye(len(p), dtype=bool), np.inf, options[LOW][0]), low
        if chosen:
            options[CUT] = _joined(cost), _joined(missed)
        total = np.stack([c + e / price for c, e in options])
        best = np.argmin(total, axis=0)
        cost, missed = (
            np.choose(best, [np.broadcast_to(o[k], best.shape) for o in options]) for k in (0, 1)
        )
        chosen.append(best.astype(np.int8))
    return float(cost.sum()), float(missed.sum()), chosen[::-1]


def _joined(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over the four parts of each rectangle."""
    return parts.reshape(len(parts) // 2, 2, -1, 2).sum(axis=(1, 3))


def _rectangles(
    levels: list[_Level], chosen: list[NDArray[np.int8]], half: bool
) -> tuple[IntArray, IntArray]:
    """Rectangles of low rank and dense ones, from the root down, in the order of rows."""
    found: tuple[list[IntArray], list[IntArray]] = ([], [])
    open_ = np.ones((1, 1), bool)
    for level, choice in zip(levels, chosen, strict=True):
        for kind in (LOW, DENSE):
            i, j = np.nonzero(open_ & (choice == kind) & (~half | np.tri(len(choice), dtype=bool)))
            ends = level.rows[i], level.rows[i + 1], level.cols[j], level.cols[j + 1]
            found[kind].append(np.stack(ends, axis=1))
        open_ = np.repeat(np.repeat(open_ & (choice == CUT), 2, axis=0), 2, axis=1)
    tables = [np.concatenate(part) for part in found]
    far, near = (np.ascontiguousarray(t[np.lexsort((t[:, 2], t[:, 0]))]) for t in tables)
    return far, near


def _decomposed(A: NDArray, far: IntArray) -> Factors:
    """All singular values and vectors of rectangles."""
    u, v, values, ranks = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)], []
    for a, b, c, d in far:
        U, s, Vh = np.linalg.svd(A[a:b, c:d], full_matrices=False)
        root = np.sqrt(s)
        u.append((U * root).T.ravel())
        v.append((Vh.conj() * root[:, None]).ravel())
        values.append(s.astype(np.float64))
        ranks.append(s.size)
    return Factors(
        far, np.concatenate(u), np.concatenate(v), np.concatenate(values),
        np.asarray(ranks, np.int64),
    )  # fmt: skip
