"""Compression to block low rank: ranks shared out by energy per multiplication."""

import math

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.source import norm
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
from structmat.matrices.block_low_rank import DENSE, BlockLowRank
from structmat.project.ranks import tile_matrix, zero_tile
from structmat.project.shares import rounding_of, share_out
from structmat.project.svd import svdvals

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
        return BlockLowRank({(0, 0): zero_tile(A)}, row_sizes=[A.shape[0]], col_sizes=[A.shape[1]])
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
        ranks = np.where(ranks == 0, 0, DENSE)
    return tile_matrix(A, ranks, extents(A.shape[0], grid[0]), extents(A.shape[1], grid[1]), rng)


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
    found = tile_ranks(values, heights[rows], widths[cols], goal, rounding_of(A, max(grid)))
    return (found.missed if goal.max_cost is not None else found.cost) / share


def _fit_grid(A: NDArray, grid: Grid, goal: Goal) -> TileFit:
    """Ranks of all tiles of one size."""
    heights, widths = extents(A.shape[0], grid[0]), extents(A.shape[1], grid[1])
    values = np.concatenate([svdvals(tiles) for tiles in tile_stacks(A, *grid)])
    h, w = np.repeat(heights, len(widths)), np.tile(widths, len(heights))
    return tile_ranks(values, h, w, goal, rounding_of(A, max(grid)))


def tile_ranks(
    values: NDArray[np.float64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    goal: Goal,
    rounding: float,
) -> TileFit:
    """Ranks of tiles with singular values (T, K), by energy per multiplication."""
    error = goal.max_error or 0.0
    return TileFit(
        *share_out(values, heights, widths, rounding, cap=goal.max_cost, max_error=error)
    )
