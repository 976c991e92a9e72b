"""Compression to block sparse: the tiles that hold the most energy."""

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.tiles import Grid, TileFit, extents, gather, nearly_best, places, sizes
from structmat.matrices.block_sparse import BlockSparse

#: Side of the smallest tiles. Smaller ones make a plain sparse matrix, for which scipy.sparse
#: is better.
LEAST_SIDE = 4


def fit(A: np.ndarray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> BlockSparse:
    """Keep the tiles that hold the most energy per multiplication.

    All tile sizes among powers of two and divisors are tried, square or not. The largest
    tiles win whose error and cost are both within one per cent of the best, because small
    tiles always fit best and multiply slowest. The result has no blocks if none fits.
    """
    m, n = A.shape
    if not A.size:
        return BlockSparse(np.zeros((0, 1, 1), A.dtype), [], [], shape=(m, n))
    fits: dict[Grid, TileFit] = {}
    heights = {p: extents(m, p) for p in _sides(m)}
    widths = {q: extents(n, q) for q in _sides(n)}
    for done, p in enumerate(heights):
        columns = _energy(A, p)
        for q in widths:
            fits[p, q] = _strongest(columns, heights[p], widths[q], goal)
        progress((done + 1) / len(heights))
    near = nearly_best(fits, goal)
    p, q = max(near, key=lambda g: (g[0] * g[1], -abs(g[0] - g[1]), -near[g].missed))
    rows, cols = np.divmod(near[p, q].chosen, -(-n // q))
    blocks = gather(A, places(rows, cols, (p, q)), (p, q))
    return BlockSparse(blocks, rows, cols, shape=(m, n))


def _sides(n: int) -> list[int]:
    return sorted({*sizes(n, min(LEAST_SIDE, max(n // 4, 1)), n), n})


def _energy(A: NDArray, p: int) -> NDArray[np.float64]:
    """Energy of each piece of p rows in each column: (ceil(m/p), n)."""
    m, n = A.shape
    energy = np.empty((-(-m // p), n))
    for i in range(len(energy)):
        rows = A[i * p : (i + 1) * p]
        energy[i] = (np.abs(rows).astype(np.float64) ** 2).sum(axis=0)
    return energy


def _strongest(columns: NDArray, heights: NDArray, widths: NDArray, goal: Goal) -> TileFit:
    """Strongest tiles within the goal, from the energy of their columns."""
    left = np.cumsum(widths) - widths
    energy = np.add.reduceat(columns, left, axis=1).ravel()
    return strongest_of(energy, (heights[:, None] * widths).ravel(), goal)


def strongest_of(energy: NDArray, area: NDArray, goal: Goal) -> TileFit:
    """Tiles of most energy per multiplication within the goal, by their places."""
    order = np.argsort(-energy / area, kind="stable")
    order = order[energy[order] > 0]
    if goal.max_cost is not None:
        kept = _within_cost(area[order], goal.max_cost)
    else:
        kept = _within_error(energy[order], goal.max_error)
    missed = float(np.sort(energy[order[~kept]]).sum())
    return TileFit(np.sort(order[kept]), int(area[order[kept]].sum()), missed)


def _within_cost(area: NDArray, max_cost: int) -> NDArray[np.bool_]:
    """Keep the best tiles; then, of each of the few areas, the next ones that still fit."""
    kept = np.cumsum(area) <= max_cost
    left = max_cost - int(area[kept].sum())
    for size in np.unique(area)[::-1]:
        more = np.flatnonzero(~kept & (area == size))[: left // size]
        kept[more] = True
        left -= len(more) * int(size)
    return kept


def _within_error(energy: NDArray, max_error: float | None) -> NDArray[np.bool_]:
    """Drop the worst tiles as long as the energy dropped stays in the bound."""
    dropped = np.cumsum(energy[::-1])[::-1]
    return dropped > (max_error or 0.0) ** 2
