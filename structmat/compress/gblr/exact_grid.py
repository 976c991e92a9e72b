"""Finding tiles that hold a matrix exactly: islands of non-zeros, or a grid of low ranks."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from structmat.compress.gblr.lines import exact_lines
from structmat.compress.gblr.partition import tile_blocks
from structmat.compress.gblr.residual import Block, total_cost

#: Widths of the windows through which the rows are looked at.
WINDOWS = (8, 16, 32, 64)
#: Tiles of fewer entries on average are no structure.
LEAST_AREA = 16
#: Tiles that cost this much more than wanted may be too fine.
TOO_FINE = 2.0
#: Rows or columns of runs shorter on average hold no blocks to be found; largest share of
#: the area that an island may have.
SHORT, LARGEST = 6.0, 0.25


def grid_blocks(A: NDArray, most: float) -> list[Block]:
    """Tiles cut out where the rows or the columns leave the span of those before them.

    Matrices with few non-zeros are cut into islands of these first, or into the runs
    of their rows or columns. Exact to rounding; empty where there is no such structure
    or it costs more than `most`.
    """
    found = [_grid(A, most, 0, 0), _islands(A, most)]
    if np.count_nonzero(A) <= most:
        lines = exact_lines(A)
        if total_cost(lines) < (SHORT + 1) * len(lines):
            found.append(lines)
    return min((f for f in found if f and total_cost(f) <= most), key=total_cost, default=[])


def _islands(A: NDArray, most: float) -> list[Block]:
    """Every island as a tile or a grid of its own; empty where some island is large."""
    islands = _split(A != 0)
    if max(((b - a) * (d - c) for a, b, c, d in islands), default=0) > LARGEST * A.size:
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
    """Rectangles (top, bottom, left, right) that hold all that is true, cut again and again."""
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
    """Runs of rows, cut where the hulls of neighbours, empty rows aside, do not overlap."""
    rows = np.flatnonzero(mask.any(1))
    left = mask[rows].argmax(1)
    right = mask.shape[1] - mask[rows, ::-1].argmax(1)
    apart = np.maximum(left[1:], left[:-1]) >= np.minimum(right[1:], right[:-1])
    edges = np.flatnonzero(np.concatenate([[True], apart, [True]]))
    return ((int(rows[a]), int(rows[b - 1]) + 1) for a, b in pairwise(edges) if rows.size)


def _grid(A: NDArray, most: float, top: int, left: int) -> list[Block]:
    """Tiles of a grid of cuts; empty where no cut shows up or they cost more than `most`."""
    rows, cols = _cuts(A), _cuts(A.T)
    if not rows or not cols or len(rows) * len(cols) > A.size / LEAST_AREA:
        return []
    rows, cols = [0, *rows, A.shape[0]], [0, *cols, A.shape[1]]
    blocks = _tiles(A, rows, cols, TOO_FINE * most, top, left)
    if total_cost(blocks) > most:
        rows = _merged(A, rows, cols)
        cols = _merged(A.T, cols, rows)
        blocks = _tiles(A, rows, cols, most, top, left)
    return blocks


def _tiles(
    A: NDArray, rows: list[int], cols: list[int], most: float, top: int, left: int
) -> list[Block]:
    """The blocks of all tiles; empty where they cost more than `most`."""
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
    """The edges of rows without those where cutting saves nothing.

    Where few columns are seen, rounding may look like a new direction.
    """
    kept, last = rows[:1], _strip_cost(A[rows[0] : rows[1]], cols)
    for edge, end in pairwise(rows[1:]):
        below = _strip_cost(A[edge:end], cols)
        both = _strip_cost(A[kept[-1] : end], cols)
        if both <= last + below:
            last = both
        else:
            kept.append(edge)
            last = below
    return [*kept, rows[-1]]


def _strip_cost(strip: NDArray, cols: list[int]) -> int:
    """Cost of the tiles of one strip."""
    height, cost = len(strip), 0
    for a, b in pairwise(cols):
        width = b - a
        low = _rank(strip[:, a:b]) * (height + width)
        cost += min(low, height * (width + 1), width * (height + 1))
    return cost


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
