"""Compression to block sparse: the tiles that hold the most energy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat.compress.goal import Goal, Progress
from structmat.compress.tiles import sizes
from structmat.matrices.block_sparse import BlockSparse

#: Tiles that are smaller make a plain sparse matrix, for which scipy.sparse is better.
LEAST_SIDE = 4
#: Larger tiles multiply faster, so they may lose this much in error and in cost.
SLACK = 0.01


@dataclass(frozen=True)
class _Choice:
    p: int
    q: int
    tiles: NDArray[np.int64]  # flat coordinates on the grid, sorted
    cost: int
    missed: float  # energy outside the tiles


def fit(A: np.ndarray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> BlockSparse:
    """Keep the tiles that hold the most energy per multiplication.

    Every tile size among powers of two and divisors is tried, square or not. The
    largest tiles win whose error and cost are both within one per cent of the best,
    because small tiles always fit best and multiply slowest.

    Parameters
    ----------
    A : ndarray, shape (m, n)
    goal : Goal
    rng : numpy.random.Generator
        Not drawn from.
    progress : callable

    Returns
    -------
    BlockSparse
        Within the cost or the error; of no blocks where not even one fits.
    """
    m, n = A.shape
    if not A.size:
        return BlockSparse(np.zeros((0, 1, 1), A.dtype), [], [], shape=(m, n))
    choices: list[_Choice] = []
    heights, widths = _sides(m), _sides(n)
    for done, p in enumerate(heights):
        columns = _energy(A, p)
        choices += [_choose(columns, p, q, m, goal) for q in widths]
        progress((done + 1) / len(heights))
    return _gather(A, _best(choices, goal))


def _sides(n: int) -> list[int]:
    return sorted({*sizes(n, min(LEAST_SIDE, max(n // 4, 1)), n), n})


def _energy(A: NDArray, p: int) -> NDArray[np.float64]:
    """Energy of each piece of p rows in every column: (ceil(m/p), n)."""
    m, n = A.shape
    energy = np.empty((-(-m // p), n))
    for i in range(len(energy)):
        strip = A[i * p : (i + 1) * p]
        energy[i] = (np.abs(strip).astype(np.float64) ** 2).sum(axis=0)
    return energy


def _choose(columns: NDArray, p: int, q: int, m: int, goal: Goal) -> _Choice:
    n = columns.shape[1]
    energy = np.add.reduceat(columns, np.arange(0, n, q), axis=1)
    height = np.minimum(p, m - p * np.arange(energy.shape[0]))
    width = np.minimum(q, n - q * np.arange(energy.shape[1]))
    area = (height[:, None] * width).ravel()
    energy = energy.ravel()
    order = np.argsort(-energy / area, kind="stable")
    order = order[energy[order] > 0]
    if goal.max_cost is not None:
        kept = _within_cost(area[order], goal.max_cost)
    else:
        kept = _within_error(energy[order], goal.max_error)
    missed = float(np.sort(energy[order[~kept]]).sum())
    return _Choice(p, q, np.sort(order[kept]), int(area[order[kept]].sum()), missed)


def _within_cost(area: NDArray, max_cost: int) -> NDArray[np.bool_]:
    """Best tiles first; then, of each of the few areas, as many of the next as still fit."""
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


def _best(choices: list[_Choice], goal: Goal) -> _Choice:
    """Largest tiles among the choices near the least error and then near the least cost."""
    if goal.max_cost is not None:
        least = min(c.missed for c in choices)
        choices = [c for c in choices if c.missed <= (1 + SLACK) ** 2 * least]
    cheapest = min(c.cost for c in choices)
    choices = [c for c in choices if c.cost <= (1 + SLACK) * cheapest]
    return max(choices, key=lambda c: (c.p * c.q, -abs(c.p - c.q), -c.missed))


def _gather(A: NDArray, choice: _Choice) -> BlockSparse:
    (m, n), p, q = A.shape, choice.p, choice.q
    rows, cols = np.divmod(choice.tiles, -(-n // q))
    blocks = np.zeros((len(rows), p, q), A.dtype)
    for block, i, j in zip(blocks, rows, cols, strict=True):
        tile = A[i * p : (i + 1) * p, j * q : (j + 1) * q]
        block[: tile.shape[0], : tile.shape[1]] = tile
    return BlockSparse(blocks, rows, cols, shape=(m, n))
