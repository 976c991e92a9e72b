"""Factors in tiles on torch, for many columns on a GPU with matrix units."""

import torch
from torch import Tensor

from structmat._derivatives import is_transformed
from structmat.intervals import IntArray
from structmat.kernels.layouts.batches import coordinates, shared_lanes
from structmat.kernels.layouts.panels import BlockPattern, Pattern, RunPattern
from structmat.kernels.layouts.placed import whole_tile
from structmat.kernels.layouts.strips import Strips
from structmat.kernels.layouts.tiles import (
    TILE,
    UNIT_ROWS,
    TileLayout,
    block_tile_layouts,
    run_tile_layouts,
    tile_layout,
)
from structmat.kernels.triton.torch_op import TileMatrix, TileValues


def tile_matrix(pattern: Pattern, total: int, device: torch.device | str) -> TileMatrix:
    """The tiles of a pattern with `total` packed contents."""
    return TileMatrix(*_layouts(pattern, total), device)


def _layouts(pattern: Pattern, total: int) -> tuple[TileLayout, TileLayout]:
    if isinstance(pattern, RunPattern):
        return run_tile_layouts(pattern.start, pattern.width, pattern.n)
    if isinstance(pattern, BlockPattern):
        return block_tile_layouts(pattern.rows, pattern.cols, pattern.block, pattern.shape)
    rows, cols = coordinates(pattern, total)
    if (tile := whole_tile(rows, cols, pattern.shape)) is not None:
        return _whole(rows, cols, pattern.shape, tile)
    forward = tile_layout(rows, cols, pattern.shape)
    return forward, tile_layout(cols, rows, pattern.shape[::-1], listed=True)


def _whole(
    rows: IntArray, cols: IntArray, shape: tuple[int, int], tile: tuple[int, int]
) -> tuple[TileLayout, TileLayout]:
    """Layouts of a matrix whose stored scalars fill all tiles that they touch."""
    forward = tile_layout(rows, cols, shape, tile=tile)
    return forward, tile_layout(cols, rows, shape[::-1], tile=tile[::-1])


#: Rows of the operand that a program multiplies at once, at least.
_PROGRAM_ROWS = 128
#: Reads that an order of the outputs has to save, as outputs in their own order are stored faster.
_LEAST_SAVED = 0.15


def strip_tiles(strips: Strips, device: torch.device | str) -> tuple[TileMatrix, bool]:
    """The tiles of strips as columns of a sparse matrix W, and whether its columns are listed.

    W is A^T for strips along rows of A, and A for strips along columns.
    """
    line, along = strips.places
    shape = strips.runs.n, strips.structure.shape[strips.side]
    if (whole := whole_tile(along, line, shape)) is not None:
        return TileMatrix(*_whole(along, line, shape, whole), device), False
    layout, listed = strip_layout(strips)
    tile = layout.tile[1], layout.tile[1]
    back = tile_layout(line, along, layout.shape[::-1], tile=tile, listed=True)
    return TileMatrix(layout, back, device), listed


def strip_layout(strips: Strips) -> tuple[TileLayout, bool]:
    """The layout of W, of the sizes of tiles that read least, and whether columns are listed."""
    line, along = strips.places
    shape = strips.runs.n, strips.structure.shape[strips.side]
    layouts = [tile_layout(along, line, shape, tile=tile) for tile in _tiles_for(strips)]
    layout = min(layouts, key=_reads)
    if (order := strips.order) is not None:
        other = tile_layout(along, line, shape, order=order)
        if _reads(other) < (1 - _LEAST_SAVED) * _reads(layout):
            return other, True
    return layout, False


def _tiles_for(strips: Strips) -> list[tuple[int, int]]:
    """Sizes of tiles to try: narrower ones where lines come in groups that share their runs."""
    line, along = strips.places
    lanes = shared_lanes(along, line, strips.structure.shape[strips.side])
    side = min(lanes & -lanes, TILE[1])
    return [TILE] if side < UNIT_ROWS else [TILE, (TILE[0], side), (TILE[0] // 2, side)]


def _reads(layout: TileLayout) -> int:
    """Scalars that programs of a product read: their rows of the operand, and the tiles."""
    tk, tn = layout.tile
    return layout.num_tiles * tk * (_PROGRAM_ROWS + tn)


class FilledTiles:
    """Tiles with packed contents, on the side that products by the matrix need.

    The other side is filled with it where contents learn, and else for each product that asks
    for it: the adjoint, and one whose operand has a gradient. Contents that do not learn and hold
    the tiles as they are stay where they stand.
    """

    def __init__(self, tiles: TileMatrix, contents: Tensor, side: int) -> None:
        self._tiles, self._contents = tiles, contents
        self._learns = contents.requires_grad
        if tiles.is_in_place and not self._learns and not is_transformed(contents):
            self._values = tiles.in_place(contents)
        else:
            self._values = tiles.values(contents, only=None if self._learns else side)

    def times(self, x: Tensor, *, by_columns: bool = False) -> Tensor:
        """Product x W."""
        return self._tiles.times(x, self._for(x, 0), by_columns=by_columns)

    def transpose_times(self, y: Tensor, *, by_columns: bool = False) -> Tensor:
        """Product y W^T."""
        return self._tiles.transpose_times(y, self._for(y, 1), by_columns=by_columns)

    def _for(self, x: Tensor, side: int) -> TileValues:
        recorded = x.requires_grad and torch.is_grad_enabled()
        if self._values.forward is self._values.transpose:
            return self._values
        if self._learns or (self._values[side] is not None and not recorded):
            return self._values
        return self._tiles.values(self._contents)


class TiledStrips:
    """A matrix of strips, (m, n), that multiplies by tiles in one product."""

    def __init__(
        self, strips: Strips, tiles: TileMatrix, contents: Tensor, *, listed: bool
    ) -> None:
        self._tiles = FilledTiles(tiles, contents, strips.side)
        self._by_rows, self._listed = strips.side == 0, listed

    def multiply(self, x: Tensor, *, by_columns: bool = False) -> Tensor:
        """A x: (n, k) to (m, k)."""
        return self._along(x.T).T if self._by_rows else self._across(x.T).T

    def multiply_adjoint(self, y: Tensor, *, by_columns: bool = False) -> Tensor:
        """A^T y: (m, k) to (n, k)."""
        return self._across(y.T).T if self._by_rows else self._along(y.T).T

    def _along(self, x: Tensor) -> Tensor:
        # Listed columns are stored quickly in memory column after column.
        return self._tiles.times(x, by_columns=self._listed)

    def _across(self, y: Tensor) -> Tensor:
        return self._tiles.transpose_times(y)


class TiledFactor:
    """A sparse factor S, (n, K), that multiplies by tiles.

    A product by the matrix takes S z if the factor is the `left` one, else S^H y.
    """

    def __init__(self, tiles: TileMatrix, contents: Tensor, *, left: bool) -> None:
        self._tiles = FilledTiles(tiles, contents, 1 if left else 0)

    def matmat(self, z: Tensor, *, by_columns: bool = False) -> Tensor:
        """S z: (K, k) to (n, k), in memory column after column."""
        return self._tiles.transpose_times(z.T).T

    def rmatmat(self, y: Tensor) -> Tensor:
        """S^H y: (n, k) to (K, k), in memory row after row."""
        return self._tiles.times(y.T.conj(), by_columns=True).conj().T
