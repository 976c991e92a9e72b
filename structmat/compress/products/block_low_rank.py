"""Compression of operators to block low rank: tiles cut out of peeled blocks."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress import block_low_rank
from structmat.compress.block_low_rank import tile_ranks
from structmat.compress.goal import Goal
from structmat.compress.products.levels import Level, Peeled, neighbours, stacked, unstacked
from structmat.compress.products.peel import peeled_of
from structmat.compress.range import array_of
from structmat.compress.tiles import Grid, TileFit, nearly_best
from structmat.intervals import IntArray
from structmat.matrices.block_low_rank import DENSE, BlockLowRank, Tile
from structmat.project.ranks import zero_tile
from structmat.project.shares import rounding_of
from structmat.project.svd import Operator

#: Most tiles of a grid, and the longest side of a tile that is decomposed whole.
MOST_TILES, LONGEST = 2**16, 512


def fit_implicit(
    op: Operator, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> BlockLowRank:
    """Tiles of one size, from products alone: peeled blocks, cut and truncated once more.

    The products are those of a hierarchical matrix. Grids of 2^l x 2^l tiles are tried, and
    ranks are shared out by energy per multiplication, as for an array.
    """
    m, n = op.shape
    if 0 in op.shape:
        tile = zero_tile(np.zeros(op.shape, op.dtype))
        return BlockLowRank({(0, 0): tile}, row_sizes=[m], col_sizes=[n])
    A = array_of(op, rng)
    if A is not None:
        return block_low_rank.fit(A, goal, rng=rng, progress=progress)
    peeled = peeled_of(op, goal, rng, progress)
    left = goal
    if goal.max_cost is None:
        room = max((goal.max_error or 0.0) ** 2 - peeled.missed**2, 0.0)
        left = Goal(max_error=math.sqrt(room))
    cuts = {cut.grid: cut for cut in (_Cut.of(peeled, level) for level in _depths(peeled))}
    fits = {grid: cut.fit(left) for grid, cut in cuts.items()}
    near = nearly_best(fits, left)
    grid = max(near, key=lambda g: (g[0] * g[1], -near[g].missed))
    progress(1.0)
    return cuts[grid].matrix(near[grid].chosen)


def _depths(peeled: Peeled) -> list[int]:
    """Levels whose grids are tried."""
    longest = max(peeled.shape)
    levels = range(peeled.depth + 1)
    some = [k for k in levels if 4**k <= MOST_TILES and longest >> k <= LONGEST]
    return some or [max(k for k in levels if 4**k <= MOST_TILES)]


@dataclass(frozen=True)
class _Part:
    """Bases of the tiles of one level of blocks, and the middle of each tile.

    Tile (i[t], j[t]) is ``left[i[t]] middle[t] right[j[t]]^H``.
    """

    left: NDArray
    middle: NDArray
    right: NDArray
    i: IntArray
    j: IntArray

    @classmethod
    def of(cls, peeled: Peeled, part: Level, level: int) -> "_Part":
        rows, cols = peeled.rows(part.level), peeled.cols(part.level)
        U, V = unstacked(part.U, rows), unstacked(neighbours(part.V), cols)
        left, upper = np.linalg.qr(stacked(U, peeled.rows(level)))
        right, lower = np.linalg.qr(stacked(V, peeled.cols(level)))
        inner = 2 ** (level - part.level)
        parts = np.arange(2**level)
        i = np.repeat(parts, inner)
        j = ((parts // inner) ^ 1)[:, None] * inner + np.arange(inner)
        middle = upper[i] @ lower[j.ravel()].conj().swapaxes(1, 2)
        return cls(left, middle, right, i, j.ravel())


@dataclass(frozen=True)
class _Cut:
    """Peeled blocks cut into a grid of 2^level x 2^level tiles."""

    peeled: Peeled
    level: int
    parts: list[_Part]
    diagonal: NDArray

    @classmethod
    def of(cls, peeled: Peeled, level: int) -> "_Cut":
        parts = [_Part.of(peeled, part, level) for part in peeled.levels[:level]]
        return cls(peeled, level, parts, peeled.diagonal(level))

    @property
    def heights(self) -> IntArray:
        return np.diff(self.peeled.rows(self.level))

    @property
    def widths(self) -> IntArray:
        return np.diff(self.peeled.cols(self.level))

    @property
    def grid(self) -> Grid:
        return int(self.heights.max()), int(self.widths.max())

    def fit(self, goal: Goal) -> TileFit:
        """Ranks of all tiles, row after row."""
        side = 2**self.level
        own = np.linalg.svd(self.diagonal, compute_uv=False)
        others = [np.linalg.svd(part.middle, compute_uv=False) for part in self.parts]
        wide = max(s.shape[1] for s in (own, *others))
        values = np.zeros((side, side, wide))
        every = np.arange(side)
        values[every, every, : own.shape[1]] = own
        for part, s in zip(self.parts, others, strict=True):
            values[part.i, part.j, : s.shape[1]] = s
        h, w = np.repeat(self.heights, side), np.tile(self.widths, side)
        rounding = rounding_of(self.diagonal, max(self.grid))
        return tile_ranks(values.reshape(-1, wide), h, w, goal, rounding)

    def matrix(self, ranks: IntArray) -> BlockLowRank:
        """The tiles truncated to their ranks."""
        side = 2**self.level
        table = ranks.reshape(side, side)
        tiles: dict[tuple[int, int], Tile] = {}
        for part in self.parts:
            for t in np.flatnonzero(table[part.i, part.j]).tolist():
                i, j = int(part.i[t]), int(part.j[t])
                p, q, rank = self.heights[i], self.widths[j], int(table[i, j])
                left, right = part.left[i][:p], part.right[j][:q]
                tiles[i, j] = _tile(left, part.middle[t], right, rank)
        for i in np.flatnonzero(np.diagonal(table)).tolist():
            whole = self.diagonal[i][: self.heights[i], : self.widths[i]]
            tiles[i, i] = _whole_tile(whole, int(table[i, i]))
        if not tiles:
            tiles[0, 0] = zero_tile(self.diagonal[0][: self.heights[0], : self.widths[0]])
        return BlockLowRank(tiles, row_sizes=self.heights, col_sizes=self.widths)


def _tile(left: NDArray, middle: NDArray, right: NDArray, rank: int) -> Tile:
    if rank == DENSE:
        return left @ middle @ right.conj().T
    X, s, Zh = np.linalg.svd(middle)
    return left @ (X[:, :rank] * s[:rank]), right @ Zh[:rank].conj().T


def _whole_tile(whole: NDArray, rank: int) -> Tile:
    if rank == DENSE:
        return whole.copy()
    U, s, Vh = np.linalg.svd(whole, full_matrices=False)
    return U[:, :rank] * s[:rank], Vh[:rank].conj().T
