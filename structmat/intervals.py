"""Cyclic runs: the intervals that carry every block of a GBLR matrix.

A run on a circle of `n` positions is `{(start + i) mod n : 0 <= i < width}` with
`0 <= start < n` and `0 <= width <= n`. Everything here is plain NumPy on the host:
runs are structure, and structure stays small while contents may live on a device.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
#: Starts and widths of runs.
Runs = tuple[IntArray, IntArray]


def offsets(width: IntArray) -> IntArray:
    """Start of each run's contents in a packed array, then their end: shape (K + 1,)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(width, dtype=np.int64)])


def multiplications(row_width: Any, col_width: Any) -> Any:
    """Multiplications of the product of a rank-one block with a vector; for many, an array.

    They are as many as the block has rows and columns. A side of a single entry takes none:
    the other side can be multiplied by the entry beforehand.

    Examples
    --------
    >>> multiplications(np.array([3, 1, 1]), np.array([4, 4, 1]))
    array([7, 4, 1])
    """
    return row_width + col_width - (np.minimum(row_width, col_width) == 1)


def index_dtype(most: int) -> Any:
    """Integers that hold an index up to `most` and half as much memory as others, if they can.

    Examples
    --------
    >>> index_dtype(10).__name__, index_dtype(2**31).__name__
    ('int32', 'int64')
    """
    return np.int32 if most <= np.iinfo(np.int32).max else np.int64


def positions(start: IntArray, width: IntArray, n: int) -> IntArray:
    """Position on the circle of every packed entry, run after run."""
    return _positions(start, width, n, np.int64)


def short_positions(start: IntArray, width: IntArray, n: int) -> NDArray[Any]:
    """The same in 32 bits, where these suffice."""
    return _positions(start, width, n, index_dtype(max(2 * n, int(width.sum()))))


def _positions(start: IntArray, width: IntArray, n: int, dtype: Any) -> NDArray[Any]:
    at = np.repeat((start - offsets(width)[:-1]).astype(dtype), width)
    at += np.arange(at.size, dtype=dtype)
    at %= dtype(max(n, 1))
    return at


def ramps(width: IntArray) -> IntArray:
    """0, 1, … in each run, run after run."""
    return np.arange(int(width.sum())) - np.repeat(offsets(width)[:-1], width)


def stretches(begin: IntArray, length: IntArray) -> IntArray:
    """begin, begin + 1, … for each pair: places of stretches of a packed array, one after another.

    Examples
    --------
    >>> stretches(np.array([4, 0]), np.array([2, 3]))
    array([4, 5, 0, 1, 2])
    """
    return np.repeat(begin, length) + ramps(length)


def alternated(first: IntArray, second: IntArray) -> IntArray:
    """Places that put each run of one packed array before that of another, which follows it.

    Examples
    --------
    >>> alternated(np.array([1, 2]), np.array([2, 0]))
    array([0, 3, 4, 1, 2])
    """
    width = np.stack([first, second], axis=1).ravel()
    begin = np.stack([offsets(first)[:-1], first.sum() + offsets(second)[:-1]], axis=1).ravel()
    return stretches(begin, width)


def runs_among(start: IntArray, width: IntArray, n: int, at: IntArray) -> Runs:
    """Runs as runs of some of the positions, `at`, which increase.

    Positions that are left out of a circle leave a run of each of its runs.

    Examples
    --------
    >>> runs_among(np.array([3]), np.array([4]), 5, np.array([1, 3]))
    (array([1]), array([2]))
    """
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(at, minlength=n))])
    end = start + width
    inside = before[np.minimum(end, n)] - before[start] + before[np.maximum(end - n, 0)]
    return before[start] % max(at.size, 1), inside


def is_increasing(at: IntArray) -> bool:
    """True for indices each larger than the one before."""
    return bool((np.diff(at) > 0).all())


def is_stretch(at: IntArray, grain: int = 1) -> bool:
    """True for indices that follow each other, from a multiple of `grain`; none are no stretch."""
    return at.size > 0 and at[0] % grain == 0 and bool((np.diff(at) == 1).all())


def entry_index(
    start: IntArray, width: IntArray, begin: IntArray, n: int, block: IntArray, position: IntArray
) -> IntArray:
    """Index in the packed contents of a block's entry at a position.

    `begin` is ``offsets(width)``; `block` and `position` broadcast. The index ``width.sum()``,
    one past the end, stands for a position outside the block's run.
    """
    inside = (position - start[block]) % max(n, 1)
    return np.where(inside < width[block], begin[block] + inside, begin[-1])


def run_mask(start: IntArray, width: IntArray, n: int) -> NDArray[np.bool_]:
    """Mask of the positions that each run covers: shape (K, n)."""
    return (np.arange(n) - start[:, None]) % max(n, 1) < width[:, None]


def cover_count(rows: Runs, cols: Runs, shape: tuple[int, int], weight: IntArray) -> IntArray:
    """Sum of the weights of the blocks on each entry: shape (m, n), by differences, O(K + m n)."""
    m, n = shape
    change = np.zeros((m + 1, n + 1), np.int64)
    for top, bottom in _pieces(*rows, m):
        for left, right in _pieces(*cols, n):
            for i, j, sign in ((top, left, 1), (bottom, left, -1), (top, right, -1)):
                np.add.at(change, (i, j), sign * weight)
            np.add.at(change, (bottom, right), weight)
    for axis in (0, 1):
        np.cumsum(change, axis=axis, out=change)
    return change[:m, :n]


def _pieces(start: IntArray, width: IntArray, n: int) -> tuple[Runs, Runs]:
    """First position and end of each run's straight piece, and of the piece that came around."""
    end = start + width
    return (start, np.minimum(end, n)), (np.zeros_like(start), np.maximum(end - n, 0))


def coarse_runs(start: IntArray, width: IntArray, n: int, step: int) -> tuple[IntArray, IntArray]:
    """Starts and widths of runs in windows of `step` positions: the windows that each touches.

    Examples
    --------
    >>> coarse_runs(np.array([3, 9, 0]), np.array([2, 10, 0]), 10, 4)
    (array([0, 2, 0]), array([2, 3, 0]))
    """
    count = -(-n // step)
    first, last = start // step, (start + width - 1) % max(n, 1) // step
    # A run that comes around to the window it began in touches all of them.
    around = (start + width > n) & (last == first)
    touched = np.where(around, count, (last - first) % max(count, 1) + 1)
    return first, np.where(width > 0, touched, 0)


def union_size(start: IntArray, width: IntArray, n: int) -> int:
    """Number of positions that some run, none of them empty, covers: O(K log K).

    Examples
    --------
    >>> union_size(np.array([1, 8]), np.array([4, 3]), 10)
    7
    """
    end = start + width
    around = end > n
    begin = np.concatenate([start, np.zeros(int(around.sum()), np.int64)])
    end = np.concatenate([np.minimum(end, n), end[around] - n])
    order = np.argsort(begin)
    reached = np.maximum.accumulate(end[order])
    before = np.concatenate([np.zeros(1, np.int64), reached])[: order.size]
    return int((reached - np.maximum(begin[order], before)).sum())


def pack(full: NDArray, start: IntArray, width: IntArray) -> NDArray:
    """Entries of each row of `full`, shape (K, n), on its run, one run after another."""
    block = np.repeat(np.arange(len(width)), width)
    return full[block, positions(start, width, full.shape[1])]


def best_runs(
    score: NDArray[np.floating], *, cyclic: bool = True
) -> tuple[NDArray[np.floating], IntArray, IntArray]:
    """Cyclic run of greatest total score in every row (S, n): maximum subarray on a circle.

    Totals, starts and widths, (S,) each; the total and the width are 0 where no run has a
    positive total. The best run either stays inside the row (the largest rise of the prefix
    sums) or wraps around, if `cyclic` (the total and the largest fall), so two scans are
    enough. Time and memory are O(S n).

    Examples
    --------
    >>> best_runs(np.array([[2.0, -5.0, 1.0, 3.0]]))
    (array([6.]), array([2]), array([3]))
    >>> best_runs(np.array([[2.0, -5.0, 1.0, 3.0]]), cyclic=False)
    (array([4.]), array([2]), array([2]))
    """
    n_rows, n = score.shape
    row = np.arange(n_rows)
    prefix = np.zeros((n_rows, n + 1))
    np.cumsum(score, axis=1, out=prefix[:, 1:])
    low = np.minimum.accumulate(prefix, axis=1)
    total, start, end = _largest(prefix - low, prefix, low, row)
    width = end - start
    if cyclic:
        high = np.maximum.accumulate(prefix, axis=1)
        fall, fall_from, fall_to = _largest(high - prefix, prefix, high, row)
        outer = prefix[:, -1] + fall
        wraps = outer > total
        total = np.where(wraps, outer, total)
        width = np.where(wraps, n - (fall_to - fall_from), width)
        start = np.where(wraps, fall_to % n, start)
    positive = (total > 0) & (width > 0)
    return (
        np.where(positive, total, 0.0),
        np.where(positive, start, 0),
        np.where(positive, width, 0),
    )


def _largest(
    change: NDArray, prefix: NDArray, extreme: NDArray, row: IntArray
) -> tuple[NDArray, IntArray, IntArray]:
    """Largest change of the prefix sums since their extreme so far, with its start and end."""
    to = np.argmax(change, axis=1)
    # The first position that reaches the extreme seen at `to`.
    since = np.argmax(prefix == extreme[row, to][:, None], axis=1)
    return change[row, to], since, to
