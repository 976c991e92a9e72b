"""Tiles that hold a matrix exactly: islands of non-zeros, or a grid of low ranks."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from structmat.compress.gblr.lines import exact_lines
from structmat.compress.gblr.partition import tile_blocks
from structmat.compress.gblr.residual import Block, total_cost
from structmat.project.svd import numerical_rank

#: Widths, in columns, of the windows in which dependent rows are looked for.
WINDOW_COLUMNS = (8, 16, 32, 64)
#: Least entries of a tile on average; smaller tiles are no structure.
LEAST_TILE_ENTRIES = 16
#: Cost of a grid, as a multiple of the wanted one, up to which merging its tiles may help.
FINE_COST = 2.0
#: Average entries of a run in one row or column, above which there are blocks to be found.
LEAST_RUN_ENTRIES = 6.0
#: Largest area of an island, as a share of the matrix.
ISLAND_SHARE = 0.25


def grid_blocks(A: NDArray, most: float) -> list[Block]:
    """Cut a matrix into tiles where its rows or columns leave the span of those before them.

    A matrix with few non-zeros may also be cut into islands of them, or into the runs of
    its rows or columns. The blocks are exact to rounding; there are none if the matrix
    lacks such a structure, or if they cost more than `most`.
    """
    found = [_grid(A, most, 0, 0), _islands(A, most)]
    if np.count_nonzero(A) <= most:
        lines = exact_lines(A)
        if total_cost(lines) < LEAST_RUN_ENTRIES * len(lines):
            found.append(lines)
    return min((f for f in found if f and total_cost(f) <= most), key=total_cost, default=[])


def _islands(A: NDArray, most: float) -> list[Block]:
    """Each island as a tile or a grid of its own; empty if some island is large."""
    islands = _split(A != 0)
    if max(((b - a) * (d - c) for a, b, c, d in islands), default=0) > ISLAND_SHARE * A.size:
        return []
    blocks: list[Block] = []
    for top, bottom, left, right in islands:
        tile = A[top:bottom, left:right]
        whole = tile_blocks(tile, _rank(tile), top, left)
        finer = _grid(tile, total_cost(whole), top, left)
        blocks += finer or whole
        most -= total_cost(finer or whole)
        if most < 0:
            return []
    return blocks


def _split(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Rectangles (top, bottom, left, right) around all true entries, cut until none splits."""
    parts, before = [(0, mask.shape[0], 0, mask.shape[1])], 0
    while len(parts) != before:
        before = len(parts)
        parts = [
            (a + top, b + top, left, right)
            for top, bottom, left, right in parts
            for a, b in _segments(mask[top:bottom, left:right])
        ]
        parts = [
            (top, bottom, a + left, b + left)
            for top, bottom, left, right in parts
            for a, b in _segments(mask[top:bottom, left:right].T)
        ]
    return parts


def _segments(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Intervals of non-empty rows, cut between neighbours whose hulls do not overlap."""
    rows = np.flatnonzero(mask.any(1))
    left = mask[rows].argmax(1)
    right = mask.shape[1] - mask[rows, ::-1].argmax(1)
    apart = np.maximum(left[1:], left[:-1]) >= np.minimum(right[1:], right[:-1])
    edges = np.flatnonzero(np.concatenate([[True], apart, [True]]))
    return ((int(rows[a]), int(rows[b - 1]) + 1) for a, b in pairwise(edges) if rows.size)


def _grid(A: NDArray, most: float, top: int, left: int) -> list[Block]:
    """Tiles of a grid of cuts; empty if no cut shows up or they cost more than `most`."""
    rows, cols = _cuts(A), _cuts(A.T)
    if not rows or not cols or len(rows) * len(cols) > A.size / LEAST_TILE_ENTRIES:
        return []
    rows, cols = [0, *rows, A.shape[0]], [0, *cols, A.shape[1]]
    blocks = _tiles(A, rows, cols, FINE_COST * most, top, left)
    if total_cost(blocks) > most:
        rows = _merged(A, rows, cols)
        cols = _merged(A.T, cols, rows)
        blocks = _tiles(A, rows, cols, most, top, left)
    return blocks


def _tiles(
    A: NDArray, rows: list[int], cols: list[int], most: float, top: int, left: int
) -> list[Block]:
    """The blocks of all tiles; empty if they cost more than `most`."""
    blocks: list[Block] = []
    for a, b in pairwise(rows):
        for c, d in pairwise(cols):
            tile = A[a:b, c:d]
            found = tile_blocks(tile, _rank(tile), top + a, left + c)
            blocks += found
            most -= total_cost(found)
            if most < 0:
                return []
    return blocks


def _merged(A: NDArray, rows: list[int], cols: list[int]) -> list[int]:
    """The edges of rows without those at which a cut saves nothing.

    In a window of few columns, rounding may look like a new direction.
    """
    kept, last = rows[:1], _cost_in_row(A[rows[0] : rows[1]], cols)
    for edge, end in pairwise(rows[1:]):
        below = _cost_in_row(A[edge:end], cols)
        both = _cost_in_row(A[kept[-1] : end], cols)
        if both <= last + below:
            last = both
        else:
            kept.append(edge)
            last = below
    return [*kept, rows[-1]]


def _cost_in_row(rows: NDArray, cols: list[int]) -> int:
    """Cost of the tiles in one row of the grid."""
    height, cost = len(rows), 0
    for a, b in pairwise(cols):
        width = b - a
        cost += min(_rank(rows[:, a:b]) * (height + width), height * width)
    return cost


def _rank(tile: NDArray) -> int:
    return numerical_rank(np.linalg.svd(tile, compute_uv=False), tile.shape)


def _cuts(A: NDArray) -> list[int]:
    """Rows that leave the span of the rows before them in some window."""
    found: set[int] = set()
    for width in WINDOW_COLUMNS:
        if 2 * width <= A.shape[1]:
            found |= _cuts_seen(A, width)
    return sorted(found)


def _cuts_seen(A: NDArray, width: int) -> set[int]:
    m, n = A.shape
    k = n // width
    windows = A[:, : k * width].reshape(m, k, width)
    kind = np.finfo(A.dtype)
    tolerance = float(np.sqrt(kind.eps))
    basis = np.zeros((k, width, width), np.result_type(A, np.float64))
    rank, stalled = np.zeros(k, np.int64), np.zeros(k, bool)
    index, cuts = np.arange(k), set()
    for i in range(m):
        # Squares of tiny entries would lose their digits, and subnormal ones already have.
        peak = np.abs(windows[i]).max(axis=1, keepdims=True)
        seen = peak >= kind.tiny
        row = np.where(seen, windows[i], 0).astype(basis.dtype) / np.where(seen, peak, 1)
        size = np.linalg.norm(row, axis=1)
        left = row
        for _ in range(2):
            inner = np.matmul(basis.conj(), left[:, :, None])
            left = left - np.matmul(inner.transpose(0, 2, 1), basis)[:, 0]
        distance = np.linalg.norm(left, axis=1)
        new = (distance > tolerance * size) & (rank < width)
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
