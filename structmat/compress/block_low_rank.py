"""Compression to block low rank: ranks shared out by energy per multiplication."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat.compress.goal import Goal, Progress
from structmat.compress.measure import norm
from structmat.compress.svd import leading_svd, svdvals
from structmat.compress.tiles import contiguous_strips, sizes
from structmat.matrices.block_low_rank import BlockLowRank

#: Side of the smallest tiles, in small matrices and in others: smaller ones are hardly of
#: low rank, and too many to multiply with fast.
LEAST_SIDE, SMALL, LEAST_SIDE_ABOVE = 4, 256, 8
#: Entries of the matrix, at most, that a first look at a tile size takes.
SAMPLE = 2**18
#: Larger tiles multiply faster, so they may lose this much in error and in cost.
SLACK = 0.01
#: Tile sizes that are looked at in full after the first look.
FINALISTS = 4
#: Errors below this many roundings of the norm take tiles as they are.
EXACT = 8
#: Rank of a tile that is stored as it is.
DENSE = -1

Grid = tuple[int, int]


@dataclass(frozen=True)
class _Plan:
    """Ranks of some tiles, in what they cost and what energy they miss."""

    ranks: NDArray[np.int64]
    cost: int
    missed: float


def fit(A: np.ndarray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> BlockLowRank:
    """Truncate every tile's singular values where they stop paying for themselves.

    A further rank of a p x q tile captures sigma^2 and costs p + q; storing the tile
    as it is captures the rest and costs p q less what its ranks cost. The steps of
    all tiles are taken in the order of energy per multiplication, which is best but
    for the slack after the last step. Tile sizes are powers of two and divisors,
    square or in the proportion of the matrix; a single tile is among them.

    Parameters
    ----------
    A : ndarray, shape (m, n)
    goal : Goal
    rng : numpy.random.Generator
        Draws the tiles by which sizes are first judged in large matrices.
    progress : callable

    Returns
    -------
    BlockLowRank
        Within the cost or the error.
    """
    if not A.size:
        return _assemble(A, A.shape, np.zeros((1, 1), np.int64), rng)
    grids = _grids(*A.shape)
    if A.size > SAMPLE:
        looks = []
        for done, grid in enumerate(grids):
            looks.append(_look(A, grid, goal, rng))
            progress(0.5 * (done + 1) / len(grids))
        order = np.argsort(looks, kind="stable")[:FINALISTS]
        grids = [grids[i] for i in order]
    plans = []
    for done, grid in enumerate(grids):
        plans.append(_full_plan(A, grid, goal))
        progress(0.5 + 0.4 * (done + 1) / len(grids))
    grid, plan = _best(list(zip(grids, plans, strict=True)), goal)
    ranks = plan.ranks
    if goal.max_error is not None and goal.max_error <= EXACT * np.finfo(A.dtype).eps * norm(A):
        # Factors would round; tiles as they stand are exact.
        ranks = np.where(ranks == 0, 0, DENSE)
    return _assemble(A, grid, ranks.reshape(-1, -(-A.shape[1] // grid[1])), rng)


def _best(choices: list[tuple[Grid, _Plan]], goal: Goal) -> tuple[Grid, _Plan]:
    """Largest tiles among the choices near the least error and then near the least cost."""
    if goal.max_cost is not None:
        least = min(plan.missed for _, plan in choices)
        choices = [c for c in choices if c[1].missed <= (1 + SLACK) ** 2 * least]
    cheapest = min(plan.cost for _, plan in choices)
    choices = [c for c in choices if c[1].cost <= (1 + SLACK) * cheapest]
    return max(choices, key=lambda c: (c[0][0] * c[0][1], -c[1].missed))


def _grids(m: int, n: int) -> list[Grid]:
    """Tile sizes to try, largest first: square ones and parts of both axes alike."""
    least = min(LEAST_SIDE, max(min(m, n) // 4, 1)) if min(m, n) < SMALL else LEAST_SIDE_ABOVE
    common = math.gcd(m, n)
    most = min(m, n)
    square = {(b, b) for b in [*sizes(common, least, most), *sizes(most, least, most)]}
    parts = [g for g in {*sizes(common, 1, most), *sizes(most, 1, most)} if most // g >= least]
    alike = {(-(-m // g), -(-n // g)) for g in parts}
    return sorted(square | alike, key=lambda pq: (-pq[0] * pq[1], pq))


def _extents(A: NDArray, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True heights and widths of the tiles' rows and columns."""
    (m, n), (p, q) = A.shape, grid
    heights = np.minimum(p, m - np.arange(0, m, p))
    widths = np.minimum(q, n - np.arange(0, n, q))
    return heights, widths


def _look(A: NDArray, grid: Grid, goal: Goal, rng: np.random.Generator) -> float:
    """Estimate by some tiles of the error at the cost, or the cost at the error."""
    p, q = grid
    heights, widths = _extents(A, grid)
    total = len(heights) * len(widths)
    count = min(total, max(1, SAMPLE // (p * q)))
    rows, cols = np.divmod(rng.choice(total, count, replace=False), len(widths))
    tiles = np.zeros((count, p, q), A.dtype)
    for tile, i, j in zip(tiles, rows, cols, strict=True):
        part = A[i * p : (i + 1) * p, j * q : (j + 1) * q]
        tile[: part.shape[0], : part.shape[1]] = part
    share = count / total
    if goal.max_cost is not None:
        goal = Goal(max_cost=int(goal.max_cost * share))
    elif goal.max_error is not None:
        goal = Goal(max_error=goal.max_error * math.sqrt(share))
    plan = _share_out(svdvals(tiles), heights[rows], widths[cols], goal, _rounding(A, grid))
    return (plan.missed if goal.max_cost is not None else plan.cost) / share


def _full_plan(A: NDArray, grid: Grid, goal: Goal) -> _Plan:
    heights, widths = _extents(A, grid)
    values = np.concatenate([svdvals(strip) for strip in contiguous_strips(A, *grid)])
    h, w = np.repeat(heights, len(widths)), np.tile(widths, len(heights))
    return _share_out(values, h, w, goal, _rounding(A, grid))


def _rounding(A: NDArray, grid: Grid) -> float:
    """Share of a singular value, or of the norm, that may be rounding."""
    return float(np.finfo(A.dtype).eps) * max(grid)


def _share_out(
    values: NDArray[np.float64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    goal: Goal,
    rounding: float,
) -> _Plan:
    """Ranks of tiles with singular values (T, K), by energy per multiplication."""
    energy = values**2
    step, area = heights + widths, heights * widths
    tail = np.cumsum(np.pad(energy, ((0, 0), (0, 1)))[:, ::-1], axis=1)[:, ::-1]
    turn, slope = _turning_points(tail, step, area)
    count = np.arange(tail.shape[1])
    # Column r < turn is rank r + 1, column r = turn is the jump to a dense tile.
    gain = np.where(count == turn[:, None], tail, np.pad(energy, ((0, 0), (0, 1))))
    price = np.where(count == turn[:, None], (area - turn * step)[:, None], step[:, None])
    density = np.where(count == turn[:, None], slope[:, None], gain / price)
    density = np.minimum.accumulate(density, axis=1)
    # Rounding is not worth multiplications where they are capped.
    floor = (rounding * values.max(initial=0.0)) ** 2 if goal.max_cost is not None else 0.0
    # A step is worth taking only after all before it: the dense one is priced as such.
    worth = np.logical_and.accumulate(gain > floor, axis=1)
    tile, column = np.nonzero((count <= turn[:, None]) & worth)
    order = np.argsort(-density[tile, column], kind="stable")
    tile, column = tile[order], column[order]
    if goal.max_cost is not None:
        taken = np.cumsum(price[tile, column]) <= goal.max_cost
    else:
        left_out = np.cumsum(gain[tile, column][::-1])[::-1]
        taken = left_out > (goal.max_error or 0.0) ** 2
    tile, column = tile[taken], column[taken]
    ranks = np.bincount(tile, minlength=len(step))
    ranks[tile[column == turn[tile]]] = DENSE
    if goal.max_cost is not None:
        _fill(ranks, energy, step, area, goal.max_cost, floor)
    missed = float(np.where(ranks == DENSE, 0.0, tail[np.arange(len(step)), ranks]).sum())
    if missed <= rounding**2 * tail[:, 0].sum():
        missed = 0.0
    return _Plan(ranks, int(_costs(ranks, step, area).sum()), missed)


def _turning_points(
    tail: NDArray, step: NDArray[np.int64], area: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray]:
    """Rank from which a dense tile is the better next step, and that step's density.

    Energy captured against cost is concave in the rank; the line from the dense
    tile's point that touches this curve from above has the least slope.
    """
    left = area[:, None] - np.arange(tail.shape[1]) * step[:, None]
    slopes = np.where(left > 0, tail / np.maximum(left, 1), np.inf)
    turn = np.argmin(slopes, axis=1)
    return turn, slopes[np.arange(len(turn)), turn]


def _costs(ranks: NDArray, step: NDArray, area: NDArray) -> NDArray[np.int64]:
    return np.where(ranks == DENSE, area, ranks * step)


def _fill(
    ranks: NDArray[np.int64],
    energy: NDArray[np.float64],
    step: NDArray[np.int64],
    area: NDArray[np.int64],
    max_cost: int,
    floor: float,
) -> None:
    """Spend what the last step did not fit into on further ranks, best first, in place."""
    left = max_cost - int(_costs(ranks, step, area).sum())
    index = np.arange(len(step))
    while True:
        next_gain = energy[index, np.minimum(ranks, energy.shape[1] - 1)]
        open_ = (ranks != DENSE) & (step <= left) & ((ranks + 1) * step < area)
        open_ &= (ranks < energy.shape[1]) & (next_gain > floor)
        if not open_.any():
            return
        best = int(np.argmax(np.where(open_, next_gain / step, -1.0)))
        ranks[best] += 1
        left -= int(step[best])


def _assemble(
    A: NDArray, grid: Grid, ranks: NDArray[np.int64], rng: np.random.Generator
) -> BlockLowRank:
    """Decompose the tiles once more, now with vectors; `ranks` is laid out as the grid."""
    if not A.size:
        heights, widths = np.array([A.shape[0]]), np.array([A.shape[1]])
    else:
        heights, widths = _extents(A, grid)
    tiles: dict[tuple[int, int], NDArray | tuple[NDArray, NDArray]] = {}
    strips = contiguous_strips(A, *grid) if A.size else iter(())
    for (i, row), strip in zip(enumerate(ranks), strips, strict=False):
        tiles.update(_strip_tiles(i, row, strip, int(heights[i]), widths, rng))
    if not tiles:
        # A tile of rank zero keeps the dtype.
        tiles[0, 0] = np.zeros((heights[0], 0), A.dtype), np.zeros((widths[0], 0), A.dtype)
    return BlockLowRank(tiles, row_sizes=heights, col_sizes=widths)


def _strip_tiles(
    i: int,
    ranks: NDArray[np.int64],
    strip: NDArray,
    height: int,
    widths: NDArray[np.int64],
    rng: np.random.Generator,
) -> Iterator[tuple[tuple[int, int], NDArray | tuple[NDArray, NDArray]]]:
    for j in np.flatnonzero(ranks == DENSE):
        yield (i, int(j)), strip[j, :height, : widths[j]].copy()
    low = np.flatnonzero(ranks > 0)
    if len(low):
        U, s, Vh = leading_svd(strip[low], int(ranks[low].max()), rng)
        for t, j in enumerate(low):
            r = ranks[j]
            left = U[t, :height, :r] * s[t, :r]
            yield (i, int(j)), (left, Vh[t, :r, : widths[j]].conj().T)
