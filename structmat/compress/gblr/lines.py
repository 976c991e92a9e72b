"""Blocks of one row or one column each, on runs of entries: sparse and scattered matrices."""

import numpy as np
from numpy.typing import NDArray

from structmat.compress.gblr.residual import BLOCK_OVERHEAD, Block, Blocks, take
from structmat.compress.goal import Goal

#: Largest number of runs in which one row or column is stored exactly.
RUNS_PER_LINE = 128
#: Least entries of the matrix for each run, so that the integers of the runs do not outgrow
#: the matrix.
ENTRIES_PER_RUN = 6
#: Steps of the bisection for the price of a multiplication.
PRICE_STEPS = 32


def exact_lines(A: NDArray, top: int = 0, left: int = 0, *, cyclic: bool = True) -> list[Block]:
    """A itself as the runs of its rows, or of its columns if these are cheaper.

    A may be a tile that begins at row `top` and column `left`; its runs are not cyclic.
    """
    one = np.ones(1, A.dtype)
    in_rows, in_columns = _runs(A, cyclic), _runs(A.T, cyclic)
    if _cost_of_runs(in_rows) <= _cost_of_runs(in_columns):
        return [
            Block(top + i, one, left + start, take(A[i], start, width).conj())
            for i, start, width in in_rows
        ]
    return [
        Block(top + start, take(A[:, j], start, width), left + j, one)
        for j, start, width in in_columns
    ]


def _runs(lines: NDArray, cyclic: bool) -> list[tuple[int, int, int]]:
    """(line, start, width) of the runs; a few zeros are stored, for fewer and longer runs."""
    n, found = lines.shape[1], []
    wide = max(2, n // RUNS_PER_LINE)
    for i, line in enumerate(lines):
        at = np.flatnonzero(line)
        if not at.size:
            continue
        split = np.diff(at) > wide
        first, last = at[np.append(True, split)], at[np.append(split, True)]
        width = last - first + 1
        if cyclic and first.size > 1 and first[0] + n - last[-1] <= wide:
            width[-1] += first[0] + n - last[-1] - 1 + width[0]
            first, width = first[1:], width[1:]
        found += [
            (i, start, size) for start, size in zip(first.tolist(), width.tolist(), strict=True)
        ]
    return found


def _cost_of_runs(runs: list[tuple[int, int, int]]) -> int:
    return sum(width for _, _, width in runs)


def best_lines(A: NDArray, energy: NDArray, goal: Goal) -> tuple[Blocks, float]:
    """Best blocks of one row each within a goal, and the energy that they miss.

    `energy` is that of each entry of A.

    This form suits sparse matrices best. The runs may be many, so they are packed at once.
    At a given price of a multiplication the best runs follow from one pass over the columns,
    all rows abreast. The price is found by bisection. O(m n) a price.
    """
    columns = np.ascontiguousarray(energy.T, np.float64)
    del energy
    best = np.zeros(columns.shape, np.bool_)
    for opening in (1, 1 + BLOCK_OVERHEAD):
        keep = _fitting_runs(columns, goal, opening)
        if _starts(keep).sum() <= A.size / ENTRIES_PER_RUN:
            best = keep
            break
    missed = float(columns.sum(where=~best))
    del columns
    best = np.ascontiguousarray(best.T)
    starts = _starts(best.T).T
    row, col = np.nonzero(starts)
    width = np.diff(np.flatnonzero(starts[best]), append=int(best.sum()))
    ones = np.ones(len(row), A.dtype)
    return Blocks(row, np.ones(len(row), np.int64), ones, col, width, A[best].conj()), missed


def _fitting_runs(columns: NDArray, goal: Goal, opening: int) -> NDArray[np.bool_]:
    """Entries covered by the runs at the best price within the goal: shape (n, m).

    A run is charged `opening` multiplications beyond its cost, so that runs are long.
    """
    top = float(columns.max())
    low, high = 1e-30 * top, 2 * top
    best, value = np.zeros(columns.shape, np.bool_), (np.inf, np.inf)
    beyond: NDArray[np.bool_] | None = None
    for _ in range(PRICE_STEPS):
        price = float(np.sqrt(low * high))
        keep = _best_cover(columns, price, opening)
        cost = float(keep.sum())
        missed = float(columns.sum(where=~keep))
        if goal.max_cost is not None:
            fits, found = cost <= goal.max_cost, (missed, cost)
            # Exact runs may still be cheaper at a higher price.
            dearer = not fits or missed == 0
        else:
            fits = dearer = missed <= (goal.max_error or 0.0) ** 2
            found = (cost, missed)
        if fits and found < value:
            best, value = keep, found
        elif not fits:
            beyond = keep
        low, high = (price, high) if dearer else (low, price)
    if goal.max_cost is None or value[0] == 0 or beyond is None:
        return best
    # Equal entries come and go together: the cover beyond the goal is kept in the first rows.
    more = beyond.sum(0) - best.sum(0)
    left = goal.max_cost - int(best.sum())
    count = int((np.maximum.accumulate(np.cumsum(more)) <= left).sum())
    best[:, :count] = beyond[:, :count]
    return best


def _best_cover(columns: NDArray, price: float, opening: int) -> NDArray[np.bool_]:
    """Runs of most energy less price for entries and openings; all of shape (n, m)."""
    n, m = columns.shape
    opened, closed = np.zeros((n, m), np.bool_), np.zeros((n, m), np.bool_)
    inside, outside = np.full(m, -np.inf), np.zeros(m)
    for j, column in enumerate(columns):
        entered = outside - price * opening
        opened[j], closed[j] = entered > inside, inside > outside
        outside = np.maximum(outside, inside)
        inside = np.maximum(entered, inside) + (column - price)
    covered = np.empty((n, m), np.bool_)
    now = inside > outside
    for j in range(n - 1, -1, -1):
        covered[j] = now
        now = np.where(now, ~opened[j], closed[j])
    return covered


def _starts(keep: NDArray) -> NDArray[np.bool_]:
    """Mask of the first entry of each run along the first axis."""
    starts = keep.copy()
    starts[1:] &= ~keep[:-1]
    return starts
