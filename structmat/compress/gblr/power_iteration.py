"""Max-subarray power iteration: rank-1 blocks that take away more energy than they cost.

For a unit vector v on a run of columns, the best rows are the cyclic run that maximises
the sum of |(R v)_i|^2 - price: a maximum-subarray problem. Taking turns between rows and
columns never lowers the gain, energy taken away less price times multiplications.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress.gblr.residual import Block, Blocks, Residual, squares, take
from structmat.compress.goal import Goal
from structmat.intervals import best_runs

#: A block has to gain as if it cost so many multiplications more: the four integers of its
#: runs. Without this the search ends in thousands of tiny blocks.
OVERHEAD = 4
#: Tiles are looked at in portions of this share of the matrix, to save memory.
PORTION = 0.125
#: There are to be this many entries of the matrix for each run of its largest ones, so
#: that the integers of the runs do not outgrow the matrix.
LEAST_SHARE = 6
#: Steps of the bisection for their price.
PRICES = 32


class Found(NamedTuple):
    """A block, and its gain: the energy it takes away less the price of its cost."""

    block: Block
    gain: float


def climb(residual: Residual, col: int, v: NDArray, price: float) -> Found | None:
    """Best rows for v, then best columns for those; None where nothing is gained.

    O(m w_C + n w_R) for a block of w_R rows and w_C columns.
    """
    norm = float(np.linalg.norm(v))
    if not norm > 0:
        return None
    p = residual.times(col, v / v.dtype.type(norm))
    _, row, width = _best_run(squares(p) - price)
    u = take(p, row, width)
    norm = float(np.linalg.norm(u))
    if not norm > 0:
        return None
    u /= u.dtype.type(norm)
    q = residual.adjoint_times(row, u)
    total, col, reach = _best_run(squares(q) - price)
    gain = total - price * (width + OVERHEAD)
    return Found(Block(row, u, col, take(q, col, reach)), gain) if gain > 0 else None


def _best_run(score: NDArray) -> tuple[float, int, int]:
    """`intervals.best_runs` for a single row, without the overhead of many."""
    n = score.size
    prefix = np.empty(n + 1)
    prefix[0] = 0.0
    np.cumsum(score, out=prefix[1:])
    rise = prefix - np.minimum.accumulate(prefix)
    fall = np.maximum.accumulate(prefix) - prefix
    i, j = int(rise.argmax()), int(fall.argmax())
    inner, outer = float(rise[i]), float(prefix[n] + fall[j])
    if max(inner, outer) <= 0:
        return 0.0, 0, 0
    if inner >= outer:
        start = int(prefix[: i + 1].argmin())
        return inner, start, i - start
    start = int(prefix[: j + 1].argmax())
    return outer, j % n, n - (j - start)


def sweep(residual: Residual, blocks: list[Block], price: float) -> None:
    """Take out every block in turn, fit it anew, and put it back if it gains; in place."""
    kept = 0
    for block in blocks:
        residual.change(block, +1)
        found = climb(residual, block.col, block.v, price)
        if found is not None:
            residual.change(found.block, -1)
            blocks[kept] = found.block
            kept += 1
    del blocks[kept:]


def refit(residual: Residual, blocks: list[Block]) -> None:
    """Fit the contents of every block in turn on its own runs; the error never grows."""
    for k, block in enumerate(blocks):
        residual.change(block, +1)
        p = residual.times(block.col, _unit(block.v[None])[0])
        u = _unit(take(p, block.row, block.u.size)[None])[0]
        v = take(residual.adjoint_times(block.row, u), block.col, block.v.size)
        blocks[k] = Block(block.row, u, block.col, v)
        residual.change(blocks[k], -1)


def propose(
    residual: Residual, price: float, count: int, rng: np.random.Generator
) -> Iterator[Found]:
    """Climb from many random starts at once: blocks that gain, best first; they may overlap.

    A start is a random combination of a run of rows seen through a window of columns,
    of widths spread evenly in their logarithm. O(m n count).
    """
    m, n = residual.shape
    V = residual.rmatmat(_windows(m, count, rng).astype(residual.dtype).T).T
    V *= _windows(n, count, rng) != 0
    for _ in range(2):
        P = residual.matmat(_unit(V).T).T
        _, row, height = best_runs(squares(P) - price)
        U = _unit(P * _inside(row, height, m))
        Q = residual.rmatmat(U.T).T
        total, col, reach = best_runs(squares(Q) - price)
        V = Q * _inside(col, reach, n)
    gain = total - price * (height + OVERHEAD)
    for k in _best_first(gain):
        y, x = int(row[k]), int(col[k])
        block = Block(y, take(U[k], y, int(height[k])), x, take(V[k], x, int(reach[k])))
        yield Found(block, float(gain[k]))


def propose_tiles(
    array: NDArray, price: float, level: int, rng: np.random.Generator
) -> Iterator[Found]:
    """One climb inside every tile of a randomly shifted grid: blocks that do not overlap.

    Tiles are 2^-level of each axis, so that a round costs a few passes over the residual
    however many blocks it brings.
    """
    m, n = array.shape
    a, b = max(1, m >> level), max(1, n >> level)
    top = int(rng.integers(a)) if 2 * a <= m else 0
    left = int(rng.integers(b)) if 2 * b <= n else 0
    k, l = (m - top) // a, (n - left) // b
    part = array[top : top + k * a, left : left + l * b]
    tiles = part.reshape(k, a, l, b).transpose(0, 2, 1, 3)
    portion = max(1, int(PORTION * k))
    for first in range(0, k, portion):
        found = _climb_tiles(tiles[first : first + portion], price, a == m, b == n)
        for index, block, gain in found:
            i, j = divmod(index, l)
            row = (top + (first + i) * a + block.row) % m
            col = (left + j * b + block.col) % n
            yield Found(block._replace(row=row, col=col), gain)


def _climb_tiles(
    tiles: NDArray, price: float, closed_rows: bool, closed_cols: bool
) -> Iterator[tuple[int, Block, float]]:
    """Climb in every tile, shape (k, l, a, b), from its strongest row; best gains first.

    Runs wrap around only in a tile that is closed, because it spans the axis.
    """
    k, l, a, b = tiles.shape
    sides = (tiles.real, tiles.imag) if np.iscomplexobj(tiles) else (tiles,)
    energy = sum(np.einsum("klab,klab->kla", side, side) for side in sides)
    strongest = np.argmax(energy, axis=-1)[:, :, None, None]
    v = np.take_along_axis(tiles, strongest, 2)[:, :, 0].conj().reshape(-1, b)
    for _ in range(2):
        p = np.matmul(tiles, _unit(v).reshape(k, l, b, 1)).reshape(-1, a)
        _, row, height = best_runs(squares(p) - price, cyclic=closed_rows)
        u = _unit(p * _inside(row, height, a))
        q = np.matmul(u.conj().reshape(k, l, 1, a), tiles).reshape(-1, b).conj()
        total, col, reach = best_runs(squares(q) - price, cyclic=closed_cols)
        v = q * _inside(col, reach, b)
    gain = total - price * (height + OVERHEAD)
    for i in _best_first(gain):
        y, x = int(row[i]), int(col[i])
        block = Block(y, take(u[i], y, int(height[i])), x, take(v[i], x, int(reach[i])))
        yield int(i), block, float(gain[i])


def _windows(n: int, count: int, rng: np.random.Generator) -> NDArray:
    """Gaussian rows on random runs of widths spread evenly in their logarithm."""
    width = np.maximum(1, n ** rng.random(count)).astype(np.int64)
    start = rng.integers(0, n, count)
    return rng.standard_normal((count, n)) * _inside(start, width, n)


def _inside(start: NDArray, width: NDArray, n: int) -> NDArray:
    return (np.arange(n) - start[:, None]) % n < width[:, None]


def _unit(rows: NDArray) -> NDArray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)


def _best_first(gain: NDArray) -> NDArray:
    order = np.argsort(-gain, kind="stable")
    return order[gain[order] > 0]


def entry_runs(A: NDArray, goal: Goal) -> tuple[Blocks, float]:
    """Best blocks of one row each on runs of columns, and the energy missed.

    What a sparse matrix is best made of; packed at once, because the runs may be many.
    At a given price the best runs follow from one pass over the columns, all rows
    abreast; the price is found by bisection. O(m n) a price.
    """
    columns = np.ascontiguousarray(squares(A).T, np.float64)
    best = np.zeros(columns.shape, np.bool_)
    for opening in (1, 1 + OVERHEAD):
        keep = _fitting_runs(columns, goal, opening)
        if _begins(keep).sum() <= A.size / LEAST_SHARE:
            best = keep
            break
    energy = float(columns.sum(where=~best))
    del columns
    best = np.ascontiguousarray(best.T)
    begins = _begins(best.T).T
    row, col = np.nonzero(begins)
    width = np.diff(np.flatnonzero(begins[best]), append=int(best.sum()))
    ones = np.ones(len(row), A.dtype)
    return Blocks(row, np.ones(len(row), np.int64), ones, col, width, A[best].conj()), energy


def _fitting_runs(columns: NDArray, goal: Goal, opening: int) -> NDArray[np.bool_]:
    """What runs at the best price cover, within the goal."""
    top = float(columns.max())
    low, high = 1e-30 * top, 2 * top
    best, value = np.zeros(columns.shape, np.bool_), (np.inf, np.inf)
    beyond: NDArray[np.bool_] | None = None
    for _ in range(PRICES):
        price = float(np.sqrt(low * high))
        keep = _best_cover(columns, price, opening)
        cost = float(keep.sum() + _begins(keep).sum())
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
    # Equal entries come and go together: as many rows as fit are kept from just beyond.
    more = (beyond.sum(0) + _begins(beyond).sum(0)) - (best.sum(0) + _begins(best).sum(0))
    left = goal.max_cost - int(best.sum() + _begins(best).sum())
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


def _begins(keep: NDArray) -> NDArray[np.bool_]:
    """Where runs begin along the first axis."""
    begins = keep.copy()
    begins[1:] &= ~keep[:-1]
    return begins
