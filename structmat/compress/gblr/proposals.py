"""Proposals of blocks: max-subarray power iteration from many starts at once.

`residual.climb` is the same step from a single start.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from structmat.compress.gblr.residual import (
    BLOCK_OVERHEAD,
    Block,
    Proposal,
    Residual,
    squares,
    take,
    unit,
)
from structmat.intervals import IntArray, best_runs, run_mask

#: Share of the matrix that is copied at once when its tiles are searched.
TILES_SHARE = 0.125

#: Contents of full length, shape (K, n), and the starts and widths of K runs on them.
Side = tuple[NDArray, IntArray, IntArray]


def propose(
    residual: Residual, price: float, count: int, rng: np.random.Generator
) -> Iterator[list[Proposal]]:
    """Climb from random starts, all at once; yields one list, best gains first.

    A start is a random combination of a run of rows seen through a window of columns, of
    widths spread evenly in their logarithm. Blocks may overlap. O(m n count).
    """
    m, n = residual.shape
    V = residual.rmatmat(_windows(m, count, rng).astype(residual.dtype).T).T
    V *= _windows(n, count, rng) != 0
    for _ in range(2):
        P = residual.matmat(unit(V).T).T
        _, row, height = best_runs(squares(P) - price)
        U = unit(P * run_mask(row, height, m))
        Q = residual.rmatmat(U.T).T
        total, col, width = best_runs(squares(Q) - price)
        V = Q * run_mask(col, width, n)
    gain = total - price * (height + BLOCK_OVERHEAD)
    yield _best_first(gain, (U, row, height), (V, col, width), row, col)


def propose_tiles(
    array: NDArray, price: float, level: int, rng: np.random.Generator
) -> Iterator[list[Proposal]]:
    """Climb once in each tile of a randomly shifted grid; yields disjoint blocks.

    Tiles are 2^-level of each axis, so that a round costs a few passes over the residual
    however many blocks it brings. They are searched a few rows of tiles at a time, each
    when it is asked for: a list of proposals, best gains first.
    """
    m, n = array.shape
    a, b = max(1, m >> level), max(1, n >> level)
    top = int(rng.integers(a)) if 2 * a <= m else 0
    left = int(rng.integers(b)) if 2 * b <= n else 0
    k, l = (m - top) // a, (n - left) // b
    part = array[top : top + k * a, left : left + l * b]
    tiles = part.reshape(k, a, l, b).transpose(0, 2, 1, 3)
    step = max(1, int(TILES_SHARE * k))
    for first in range(0, k, step):
        some = tiles[first : first + step]
        gain, rows, cols = _climb_tiles(some, price, a == m, b == n)
        i, j = np.divmod(np.arange(len(gain)), l)
        row, col = (top + (first + i) * a + rows[1]) % m, (left + j * b + cols[1]) % n
        yield _best_first(gain, rows, cols, row, col)


def _climb_tiles(
    tiles: NDArray, price: float, closed_rows: bool, closed_cols: bool
) -> tuple[NDArray, Side, Side]:
    """Gain and sides of one block in each tile, shape (k, l, a, b), from its strongest row.

    Runs wrap around only in a closed tile, which spans the axis.
    """
    k, l, a, b = tiles.shape
    planes = (tiles.real, tiles.imag) if np.iscomplexobj(tiles) else (tiles,)
    energy = sum(np.einsum("klab,klab->kla", plane, plane) for plane in planes)
    strongest = np.argmax(energy, axis=-1)[:, :, None, None]
    v = np.take_along_axis(tiles, strongest, 2)[:, :, 0].conj().reshape(-1, b)
    for _ in range(2):
        p = np.matmul(tiles, unit(v).reshape(k, l, b, 1)).reshape(-1, a)
        _, row, height = best_runs(squares(p) - price, cyclic=closed_rows)
        u = unit(p * run_mask(row, height, a))
        q = np.matmul(u.conj().reshape(k, l, 1, a), tiles).reshape(-1, b).conj()
        total, col, width = best_runs(squares(q) - price, cyclic=closed_cols)
        v = q * run_mask(col, width, b)
    gain = total - price * (height + BLOCK_OVERHEAD)
    return gain, (u, row, height), (v, col, width)


def _best_first(
    gain: NDArray, rows: Side, cols: Side, row: IntArray, col: IntArray
) -> list[Proposal]:
    """Blocks that gain, best first, put at the given rows and columns of the matrix."""
    order = np.argsort(-gain, kind="stable")
    return [
        Proposal(
            Block(
                int(row[k]),
                take(rows[0][k], int(rows[1][k]), int(rows[2][k])),
                int(col[k]),
                take(cols[0][k], int(cols[1][k]), int(cols[2][k])),
            ),
            float(gain[k]),
        )
        for k in order[gain[order] > 0]
    ]


def _windows(n: int, count: int, rng: np.random.Generator) -> NDArray:
    """Gaussian rows on random runs of widths spread evenly in their logarithm."""
    width = np.maximum(1, n ** rng.random(count)).astype(np.int64)
    start = rng.integers(0, n, count)
    return rng.standard_normal((count, n)) * run_mask(start, width, n)
