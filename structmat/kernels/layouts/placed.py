"""Tiles that packed contents hold as they are, which a kernel can read without a copy.

Plain NumPy on the host: layouts are structure. Blocks of block-sparse matrices, factors of tiles
with large ranks and strips with common windows stand in their contents tile by tile, row after
row or column after column.
"""

from typing import NamedTuple

import numpy as np

from structmat.intervals import IntArray
from structmat.kernels.layouts.tiles import TILE, UNIT_ROWS, TileLayout


class Placed(NamedTuple):
    """Places of tiles in packed contents: entry (k, l) of tile t at ``at[t] + k row + l col``."""

    at: IntArray
    row: int
    col: int


def placed(layout: TileLayout) -> Placed | None:
    """Places of the tiles of a layout in its packed contents; None where they are not whole there.

    Examples
    --------
    >>> from structmat.kernels.layouts.tiles import block_tile_layouts
    >>> there, back = block_tile_layouts(np.array([0]), np.array([1]), (16, 32), (16, 64))
    >>> placed(there), placed(back)
    (Placed(at=array([0]), row=32, col=1), Placed(at=array([0]), row=1, col=32))
    """
    tiles, (tk, tn) = layout.num_tiles, layout.tile
    area = tiles * tk * tn
    if not tiles or layout.entries.size != area or int(layout.entries.max()) >= area:
        return None
    flat = np.empty(area, np.int64)
    flat[layout.entries] = np.arange(area)
    packed = flat.reshape(tiles, tk, tn)
    at = packed[:, 0, 0]
    row, col = (int(end - at[0]) for end in (packed[0, 1, 0], packed[0, 0, 1]))
    inside = np.arange(tk)[:, None] * row + np.arange(tn) * col
    if min(row, col) < 1 or (packed != at[:, None, None] + inside).any():
        return None
    return Placed(at.copy(), row, col)


def grain(found: Placed) -> int:
    """The largest power of two, at most 16, that divides all places and one of the steps."""
    divisor = int(np.gcd.reduce(found.at)) | max(found.row, found.col) | UNIT_ROWS
    return divisor & -divisor


def whole_tile(rows: IntArray, cols: IntArray, shape: tuple[int, int]) -> tuple[int, int] | None:
    """The largest tile, on a grid of its own size, of which the stored scalars fill all they touch.

    None where no tile of 16 by 16 does.

    Examples
    --------
    >>> i, j = np.divmod(np.arange(64 * 32), 32)
    >>> whole_tile(i, j, (64, 64)), whole_tile(i, j + 8, (64, 64))
    ((64, 32), None)
    """
    (p, q), total = shape, rows.size
    if not total or int(rows.max()) >= p or int(cols.max()) >= q:
        return None
    cells = _cells(rows // UNIT_ROWS, cols // UNIT_ROWS)
    if cells[0].size * UNIT_ROWS**2 != total:
        return None
    sides = [UNIT_ROWS, UNIT_ROWS]
    for axis in range(2):
        while sides[axis] < max(TILE):
            wider = _cells(*(c // 2 if i == axis else c for i, c in enumerate(cells)))
            if 2 * wider[0].size != cells[0].size:
                break
            cells, sides[axis] = wider, 2 * sides[axis]
    return sides[0], sides[1]


def _cells(row: IntArray, col: IntArray) -> tuple[IntArray, IntArray]:
    """Each pair once."""
    width = int(col.max()) + 1
    found_row, found_col = np.divmod(np.unique(row * width + col), width)
    return found_row, found_col
