"""Finding a grid of low-rank tiles that holds a matrix exactly, whatever its tile sizes."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from structmat.compress._gblr_residual import Block
from structmat.compress._gblr_starts import tile_blocks

__all__ = ["grid_blocks"]

#: Widths of the windows through which the rows are looked at.
WINDOWS = (8, 16, 32, 64)
#: Tiles of fewer entries on average are no structure.
LEAST_AREA = 16


def grid_blocks(A: NDArray, most: float) -> list[Block]:
    """Tiles cut out where the rows or the columns leave the span of those before them.

    Exact to rounding; empty where no cut shows up or the tiles cost more than `most`.
    """
    rows, cols = _cuts(A), _cuts(A.T)
    if not rows or not cols or len(rows) * len(cols) > A.size / LEAST_AREA:
        return []
    rows, cols = [0, *rows, A.shape[0]], [0, *cols, A.shape[1]]
    blocks: list[Block] = []
    cost = 0
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            tile = A[top:bottom, left:right]
            found = tile_blocks(tile, _rank(tile), top, left)
            cost += sum(block.cost for block in found)
            if cost > most:
                return []
            blocks += found
    return blocks


def _rank(tile: NDArray) -> int:
    values = np.linalg.svd(tile, compute_uv=False)
    return int((values > values[0] * np.finfo(tile.dtype).eps * max(tile.shape)).sum())


def _cuts(A: NDArray) -> list[int]:
    """Rows where some window sees, after rows in the span of the last ones, a new one."""
    found: set[int] = set()
    for width in WINDOWS:
        if 2 * width <= A.shape[1]:
            found |= _cuts_seen(A, width)
    return sorted(found)


def _cuts_seen(A: NDArray, width: int) -> set[int]:
    m, n = A.shape
    k = n // width
    windows = A[:, : k * width].reshape(m, k, width)
    tolerance = float(np.sqrt(np.finfo(A.dtype).eps))
    basis = np.zeros((k, width, width), A.dtype)
    rank, stalled = np.zeros(k, np.int64), np.zeros(k, bool)
    index, cuts = np.arange(k), set()
    for i in range(m):
        row = windows[i]
        size = np.linalg.norm(row, axis=1)
        left = row
        for _ in range(2):
            inner = np.matmul(basis.conj(), left[:, :, None])
            left = left - np.matmul(inner.transpose(0, 2, 1), basis)[:, 0]
        distance = np.linalg.norm(left, axis=1)
        new = distance > tolerance * size
        restart = new & stalled
        if restart.any():
            cuts.add(i)
            basis[restart], rank[restart] = 0, 0
            left = np.where(restart[:, None], row, left)
            distance = np.where(restart, size, distance)
        grown = index[new]
        basis[grown, rank[grown]] = left[grown] / distance[grown, None]
        rank[grown] += 1
        stalled = ~new
        if (rank == width).all():
            break
    return cuts
