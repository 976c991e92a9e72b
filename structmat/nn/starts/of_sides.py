"""Matrices whose tiles have a given side, or whose groups of rows share their inputs."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from structmat._progress import Progress, no_progress
from structmat.compress.source import source_of
from structmat.errors import BudgetError
from structmat.intervals import IntArray
from structmat.matrices import GBLR, BlockLowRank, BlockSparse
from structmat.matrix import StructuredMatrix
from structmat.nn.anneal.projected import runs_of
from structmat.nn.anneal.sides import grain_of, least_cost
from structmat.nn.starts.on_inputs import refined
from structmat.nn.starts.projections import projected
from structmat.nn.starts.random_init import Generator, RandomInit, normal
from structmat.project.tiles import lengths


@dataclass(frozen=True)
class Sides:
    """A kind with tiles of a side, or with groups of rows that share their windows.

    Examples
    --------
    >>> Sides("block_sparse", tile=16).random((64, 64), 1100).cost
    1024
    """

    kind: str
    tile: int | None = None
    group: int | None = None

    def check(self, shape: tuple[int, int], cap: int) -> None:
        """Refuse a cap below one tile, or below the shortest window."""
        least = least_cost(self.kind, shape, self.tile, self.group)
        if cap < min(least, math.prod(shape)):
            raise self._too_few(shape, cap, least, "")

    def random(self, shape: tuple[int, int], cap: int) -> RandomInit:
        """Random matrix that reaches every row and column and costs at most `cap`."""
        if self.kind == "block_sparse":
            return self._tiles(shape, cap)
        if self.kind == "block_low_rank":
            return self._ranks(shape, cap)
        return self._windows(shape, cap)

    def fit(
        self, W: Tensor, cap: int, gram: Tensor | None, progress: Progress = no_progress
    ) -> StructuredMatrix:
        """Matrix near W (m, n), on torch, that costs at most `cap`."""
        self.check((W.shape[0], W.shape[1]), cap)
        source = source_of(W)
        matrix = projected(
            self.kind, source.data, min(cap, W.numel()), gram, tile=self.tile, group=self.group
        )
        return refined(source.restore(matrix), W, gram, progress)

    def _too_few(self, shape: tuple[int, int], cap: int, least: int, reaching: str) -> BudgetError:
        name, size = ("group", self.group) if self.tile is None else ("tile", self.tile)
        return BudgetError(
            f"{cap} multiplications for a {shape[0]}x{shape[1]} matrix; expected at least {least}, "
            f"the cost of the smallest one with {name} = {size}{reaching} (allow more, take a "
            f"smaller {name}, or leave the layer out)"
        )

    def _places(
        self, shape: tuple[int, int], cap: int, side: int, cost: int
    ) -> tuple[IntArray, IntArray]:
        """Places of tiles that cost as much each, evenly spread over the grid, sorted."""
        down, across = (-(-size // side) for size in shape)
        count, least = min(cap // cost, down * across), max(down, across)
        if count < least:
            reaching = ", which reaches every row and column"
            raise self._too_few(shape, cap, least * cost, reaching)
        at = np.arange(count)
        # A step prime to the number of columns visits all before it comes back to one.
        step = max(1, round(across * down / count))
        while math.gcd(step, across) > 1:
            step += 1
        rows, cols = at * down // count, at * step % across
        order = np.lexsort((cols, rows))
        return rows[order], cols[order]

    def _tiles(self, shape: tuple[int, int], cap: int) -> RandomInit:
        side = min(self.tile or 1, max(shape))
        high, wide = (lengths(size, side) for size in shape)
        rows, cols = self._places(shape, cap, side, int(high[0] * wide[0]))
        cost = int((high[rows] * wide[cols]).sum())

        def draw(variance: float, generator: Generator) -> BlockSparse:
            std = (variance * math.prod(shape) / cost) ** 0.5
            blocks = normal((len(rows), side, side), std, generator)
            return BlockSparse(blocks, rows, cols, shape=shape)

        return RandomInit(cost, draw)

    def _ranks(self, shape: tuple[int, int], cap: int) -> RandomInit:
        """Tiles of one rank: all of them, or some of rank one.

        Tiles of one row or column are dense, as factors would cost more.
        """
        side = min(self.tile or 1, max(shape))
        high, wide = (lengths(size, side) for size in shape)
        each = min(int(high[0] + wide[0]), int(high[0] * wide[0]))
        rank = max(1, cap // (each * len(high) * len(wide)))
        rank = min(rank, int(min(high[0], wide[0])))
        rows, cols = self._places(shape, cap, side, rank * each)
        sizes = list(zip(rows.tolist(), cols.tolist(), strict=True))
        h, w = high[rows], wide[cols]
        cost = int(np.where((h == 1) | (w == 1), h * w, rank * (h + w)).sum())
        area = int((h * w).sum())

        def draw(variance: float, generator: Generator) -> BlockLowRank:
            each = variance * math.prod(shape) / area
            tiles = {
                (i, j): _tile(int(high[i]), int(wide[j]), rank, each, generator) for i, j in sizes
            }
            return BlockLowRank(tiles, row_sizes=high.tolist(), col_sizes=wide.tolist())

        return RandomInit(cost, draw)

    def _windows(self, shape: tuple[int, int], cap: int) -> RandomInit:
        """One window for each group of rows, or two where it goes around, evenly spread."""
        m, n = shape
        group, grain = min(self.group or 1, m), min(grain_of(self.group or 1), n)
        down, grains = -(-m // group), -(-n // grain)
        width = min(cap // (m * grain), grains)
        least = -(-grains // down)
        if width < least:
            reaching = ", which reaches every row and column"
            raise self._too_few(shape, cap, least * m * grain, reaching)
        first = np.arange(down) * grains // down
        live = np.zeros((down, grains), bool)
        live[np.arange(down)[:, None], (first[:, None] + np.arange(width)) % grains] = True
        mask = live.repeat(group, 0)[:m].repeat(grain, 1)[:, :n]
        row, start, length = runs_of(mask)
        one = np.ones_like(row)
        cost = int(length.sum())

        def draw(variance: float, generator: Generator) -> GBLR:
            values = normal((cost,), (variance * m * n / cost) ** 0.5, generator)
            u = torch.ones(len(row))
            return GBLR(row, one, u, start, length, values, shape=shape)

        return RandomInit(cost, draw)


def _tile(
    h: int, w: int, rank: int, variance: float, generator: Generator
) -> Tensor | tuple[Tensor, Tensor]:
    """Random tile (h, w) with entries of a variance: two factors, or one row or column."""
    if min(h, w) == 1:
        return normal((h, w), variance**0.5, generator)
    root = (variance / rank) ** 0.25
    return normal((h, rank), root, generator), normal((w, rank), root, generator)
