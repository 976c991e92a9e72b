"""Factors in tiles on torch, for many columns on a GPU with matrix units."""

import torch
from torch import Tensor

from structmat.kernels.layouts.batches import coordinates
from structmat.kernels.layouts.panels import BlockPattern, Pattern, RunPattern
from structmat.kernels.layouts.tiles import (
    TileLayout,
    block_tile_layouts,
    run_tile_layouts,
    tile_layout,
)
from structmat.kernels.triton.torch_op import TileMatrix


def tile_matrix(pattern: Pattern, total: int, device: torch.device | str) -> TileMatrix:
    """The tiles of a pattern with `total` packed contents."""
    return TileMatrix(*_layouts(pattern, total), device)


def _layouts(pattern: Pattern, total: int) -> tuple[TileLayout, TileLayout]:
    if isinstance(pattern, RunPattern):
        return run_tile_layouts(pattern.start, pattern.width, pattern.n)
    if isinstance(pattern, BlockPattern):
        return block_tile_layouts(pattern.rows, pattern.cols, pattern.block, pattern.shape)
    rows, cols = coordinates(pattern, total)
    forward = tile_layout(rows, cols, pattern.shape)
    return forward, tile_layout(cols, rows, pattern.shape[::-1], listed=True)


class TiledFactor:
    """A sparse factor S, (n, K), that multiplies by tiles."""

    def __init__(self, tiles: TileMatrix, contents: Tensor) -> None:
        self._tiles, self._values = tiles, tiles.values(contents)

    def matmat(self, z: Tensor, *, by_columns: bool = False) -> Tensor:
        """S z: (K, k) to (n, k), in memory column after column."""
        return self._tiles.transpose_times(z.T, self._values).T

    def rmatmat(self, y: Tensor) -> Tensor:
        """S^H y: (n, k) to (K, k), in memory row after row."""
        return self._tiles.times(y.T.conj(), self._values, by_columns=True).conj().T
