"""Compression to block low rank: ranks shared out by energy per multiplication."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.source import norm
from structmat.compress.svd import leading_svd, svdvals
from structmat.compress.tiles import (
    Grid,
    TileFit,
    extents,
    gather,
    nearly_best,
    places,
    sizes,
    tile_stacks,
)
from structmat.matrices.block_low_rank import BlockLowRank, Tile

#: Side of the smallest tiles: smaller ones are hardly of low rank, and too many to multiply
#: with fast.
LEAST_SIDE = 8
#: The same for matrices with a side below `SMALL_SIDE`.
LEAST_SIDE_SMALL, SMALL_SIDE = 4, 256
#: Most entries of the matrix that a first look at a tile size takes.
SAMPLE_ENTRIES = 2**18
#: Number of tile sizes that are fitted in full after the first look.
FINALISTS = 4
#: Errors below this many roundings of the norm take tiles as they are.
EXACT_ROUNDINGS = 8
#: Rank that stands for a tile that is stored as it is.
DENSE_RANK = -1


def fit(A: np.ndarray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> BlockLowRank:
    """Truncate every tile's singular values where they stop paying for themselves.

    A further rank of a p x q tile captures sigma^2 and costs p + q; storing the tile
    as it is captures the rest and costs p q less the cost of its ranks. The steps of
    all tiles are taken in the order of energy per multiplication, which is optimal up
    to the multiplications left over after the last step. Tile sizes are powers of two
    and divisors, square or in the proportion of the matrix; a single tile is among them. In
    large matrices, random tiles decide which sizes are fitted in full.
    """
    if not A.size:
        return BlockLowRank({(0, 0): _zero_tile(A)}, row_sizes=[A.shape[0]], col_sizes=[A.shape[1]])
    grids = _grids(*A.shape)
    if A.size > SAMPLE_ENTRIES:
        looks = []
        for done, grid in enumerate(grids):
            looks.append(_look(A, grid, goal, rng))
            progress(0.5 * (done + 1) / len(grids))
        order = np.argsort(looks, kind="stable")[:FINALISTS]
        grids = [grids[i] for i in order]
    fits: dict[Grid, TileFit] = {}
    for done, grid in enumerate(grids):
        fits[grid] = _fit_grid(A, grid, goal)
        progress(0.5 + 0.4 * (done + 1) / len(grids))
    near = nearly_best(fits, goal)
    grid = max(near, key=lambda g: (g[0] * g[1], -near[g].missed))
    ranks = near[grid].chosen
    eps = np.finfo(A.dtype).eps
    if goal.max_error is not None and goal.max_error <= EXACT_ROUNDINGS * eps * norm(A):
        # Factors would round; tiles as they stand are exact.
        ranks = np.where(ranks == 0, 0, DENSE_RANK)
    return _assemble(A, grid, ranks.reshape(-1, -(-A.shape[1] // grid[1])), rng)


def _grids(m: int, n: int) -> list[Grid]:
    """Tile sizes to try, largest first: square ones and parts of both axes alike."""
    most = min(m, n)
    least = LEAST_SIDE if most >= SMALL_SIDE else min(LEAST_SIDE_SMALL, max(most // 4, 1))
    common = math.gcd(m, n)
    square = {(b, b) for b in [*sizes(common, least, most), *sizes(most, least, most)]}
    parts = [g for g in {*sizes(common, 1, most), *sizes(most, 1, most)} if most // g >= least]
    alike = {(-(-m // g), -(-n // g)) for g in parts}
    return sorted(square | alike, key=lambda pq: (-pq[0] * pq[1], pq))


def _look(A: NDArray, grid: Grid, goal: Goal, rng: np.random.Generator) -> float:
    """Error at the cost, or cost at the error, estimated by some tiles."""
    (m, n), (p, q) = A.shape, grid
    heights, widths = extents(m, p), extents(n, q)
    total = len(heights) * len(widths)
    count = min(total, max(1, SAMPLE_ENTRIES // (p * q)))
    rows, cols = np.divmod(rng.choice(total, count, replace=False), len(widths))
    values = svdvals(gather(A, places(rows, cols, grid), grid))
    share = count / total
    if goal.max_cost is not None:
        goal = Goal(max_cost=int(goal.max_cost * share))
    else:
        goal = Goal(max_error=(goal.max_error or 0.0) * math.sqrt(share))
    found = _share_out(values, heights[rows], widths[cols], goal, _rounding(A, grid))
    return (found.missed if goal.max_cost is not None else found.cost) / share


def _fit_grid(A: NDArray, grid: Grid, goal: Goal) -> TileFit:
    """Ranks of all tiles of one size."""
    heights, widths = extents(A.shape[0], grid[0]), extents(A.shape[1], grid[1])
    values = np.concatenate([svdvals(tiles) for tiles in tile_stacks(A, *grid)])
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
) -> TileFit:
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
    # Under a cap, rounding is not worth multiplications.
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
    ranks[tile[column == turn[tile]]] = DENSE_RANK
    if goal.max_cost is not None:
        _fill(ranks, energy, step, area, goal.max_cost, floor)
    missed = float(np.where(ranks == DENSE_RANK, 0.0, tail[np.arange(len(step)), ranks]).sum())
    if missed <= rounding**2 * tail[:, 0].sum():
        missed = 0.0
    return TileFit(ranks, int(_costs(ranks, step, area).sum()), missed)


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
    return np.where(ranks == DENSE_RANK, area, ranks * step)


def _fill(
    ranks: NDArray[np.int64],
    energy: NDArray[np.float64],
    step: NDArray[np.int64],
    area: NDArray[np.int64],
    max_cost: int,
    floor: float,
) -> None:
    """Spend the multiplications left over on further ranks, best first, in place."""
    left = max_cost - int(_costs(ranks, step, area).sum())
    index = np.arange(len(step))
    while True:
        next_gain = energy[index, np.minimum(ranks, energy.shape[1] - 1)]
        open_ = (ranks != DENSE_RANK) & (step <= left) & ((ranks + 1) * step < area)
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
    heights, widths = extents(A.shape[0], grid[0]), extents(A.shape[1], grid[1])
    tiles: dict[Grid, Tile] = {}
    for i, row in enumerate(ranks):
        tiles.update(_tiles_in_row(A, grid, i, row, rng))
    return BlockLowRank(
        tiles or {(0, 0): _zero_tile(A[: heights[0], : widths[0]])},
        row_sizes=heights,
        col_sizes=widths,
    )


def _tiles_in_row(
    A: NDArray, grid: Grid, i: int, ranks: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[Grid, Tile]]:
    """Position and contents of the non-zero tiles in row i of the grid."""
    dense, low = np.flatnonzero(ranks == DENSE_RANK), np.flatnonzero(ranks > 0)
    for j, place in zip(dense.tolist(), places(i, dense, grid), strict=True):
        yield (i, j), A[place].copy()
    if len(low):
        at = places(i, low, grid)
        U, s, Vh = leading_svd(gather(A, at, grid), int(ranks[low].max()), rng)
        for t, j in enumerate(low.tolist()):
            (height, width), r = A[at[t]].shape, ranks[j]
            left = U[t, :height, :r] * s[t, :r]
            yield (i, j), (left, Vh[t, :r, :width].conj().T)


def _zero_tile(tile: NDArray) -> Tile:
    """A tile of rank zero, which keeps the dtype."""
    m, n = tile.shape
    return np.zeros((m, 0), tile.dtype), np.zeros((n, 0), tile.dtype)
