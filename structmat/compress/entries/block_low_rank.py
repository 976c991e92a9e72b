"""Block low rank from entries: a cross approximation of every tile."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.entries.cross import Cross, cross
from structmat.compress.goal import Goal
from structmat.compress.tiles import extents
from structmat.intervals import IntArray, offsets
from structmat.matrices.block_low_rank import DENSE, BlockLowRank
from structmat.project.shares import share_out
from structmat.sources.source import Source

#: Side of the tiles, as a multiple of the root of the shorter side, between two bounds.
SIDE, LEAST_SIDE, MOST_SIDE = 2.0, 32, 1024
#: First error of the tiles under a budget, as a share of the norm, and its smallest.
FIRST_ERROR, LEAST_ERROR = 1e-2, 1e-12
#: Least share of the missed energy that has to come from the budget, not from the tiles.
OWN_SHARE = 0.3

Tile = tuple[NDArray, NDArray] | NDArray
#: Row and column of a tile on the grid.
Place = tuple[int, int]


def fit_entries(
    source: Source, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> BlockLowRank:
    """Tiles of low rank, or dense where that is cheaper; of a symmetric source, half of them.

    Each tile may miss its share of the error, by its area. Under a budget, tiles are fitted to a
    small error, and ranks shared out by energy for each multiplication.
    """
    grid, seed = Grid(source), int(rng.integers(2**62))
    if goal.max_cost is None:
        return grid.within(goal.max_error or 0.0, seed, grid.places, progress)
    size = goal.size or 0.0
    aim = FIRST_ERROR * size
    while True:
        found = grid.fitted(aim, seed, grid.places, progress)
        ranks, missed = grid.shared(found, goal.max_cost)
        if OWN_SHARE * missed >= aim**2 or aim <= LEAST_ERROR * size:
            return grid.matrix({place: (found[place], ranks[place]) for place in found})
        aim = min(0.1 * aim, 0.3 * math.sqrt(missed)) if missed else 1e-3 * aim


def _side(m: int, n: int) -> int:
    wanted = SIDE * math.sqrt(min(m, n))
    return int(min(max(2 ** round(math.log2(max(wanted, 1))), LEAST_SIDE), MOST_SIDE))


class Grid:
    """Tiles of a source on a grid; those below the diagonal of a symmetric one are mirrored."""

    def __init__(self, source: Source) -> None:
        side = _side(*source.shape)
        self._source = source
        self._sizes = extents(source.shape[0], side), extents(source.shape[1], side)
        self._begin = offsets(self._sizes[0]), offsets(self._sizes[1])
        self._half = source.symmetric or source.hermitian

    @property
    def places(self) -> list[Place]:
        """Row and column of each tile that is fitted, row by row."""
        rows, cols = (sizes.size for sizes in self._sizes)
        return [(i, j) for i in range(rows) for j in range(i if self._half else 0, cols)]

    def _at(self, place: Place) -> tuple[IntArray, IntArray]:
        rows, cols = (
            np.arange(begin[k], begin[k + 1]) for begin, k in zip(self._begin, place, strict=True)
        )
        return rows, cols

    def _block(self, rows: IntArray, cols: IntArray, i: IntArray, j: IntArray) -> NDArray:
        block: NDArray = self._source.block(rows[i], cols[j])
        return block

    def within(
        self, max_error: float, seed: int, places: Sequence[Place], progress: Progress
    ) -> BlockLowRank:
        """The matrix of some tiles, with their mirror images, to an error of the whole."""
        found = self.fitted(max_error, seed, places, progress)
        return self.matrix({place: (tile, None) for place, tile in found.items()})

    def fitted(
        self, max_error: float, seed: int, places: Sequence[Place], progress: Progress
    ) -> dict[Place, Cross | NDArray]:
        """Some tiles to an error of the whole; dense where low rank costs more.

        What becomes of a tile does not depend on the others.
        """
        found: dict[Place, Cross | NDArray] = {}
        area = max(math.prod(self._source.shape), 1)
        for done, place in enumerate(places, 1):
            rng = np.random.default_rng([seed, *place])
            rows, cols = self._at(place)
            size, step = rows.size * cols.size, rows.size + cols.size
            share = max_error * math.sqrt(size / area)
            block = partial(self._block, rows, cols)
            tile: Cross | NDArray = cross(
                block, (rows.size, cols.size), share, rng, most=size // step
            )
            if isinstance(tile, Cross) and (
                tile.missed > share
                or len(tile.s) * (rows.size + cols.size) >= rows.size * cols.size
            ):
                tile = self._source.block(rows, cols)
            found[place] = tile
            progress(done / len(places))
        return found

    def shared(
        self, found: dict[Place, Cross | NDArray], cap: int
    ) -> tuple[dict[Place, int], float]:
        """Ranks of tiles under a cap on the cost of all, and the energy that they miss."""
        values, sizes = [], []
        for place, tile in found.items():
            s = tile.s if isinstance(tile, Cross) else np.linalg.svd(tile, compute_uv=False)
            # A mirrored pair is two tiles, which share out alike up to the last step.
            for _ in range(2 if self._is_pair(place) else 1):
                values.append(s)
                sizes.append([at.size for at in self._at(place)])
        most = max((len(s) for s in values), default=0)
        padded = np.stack([np.pad(s, (0, most - len(s))) for s in values]).astype(np.float64)
        heights, widths = np.asarray(sizes, np.int64).T
        rounding = float(np.finfo(self._source.dtype).eps) * most
        shared, _, missed = share_out(padded, heights, widths, rounding, cap=cap)
        ranks, taken = {}, iter(shared.tolist())
        for place in found:
            own = [next(taken) for _ in range(2 if self._is_pair(place) else 1)]
            low = [rank for rank in own if rank != DENSE]
            ranks[place] = min(low, default=DENSE)
        return ranks, missed

    def _is_pair(self, place: Place) -> bool:
        return self._half and place[0] != place[1]

    def matrix(self, found: dict[Place, tuple[Cross | NDArray, int | None]]) -> BlockLowRank:
        """The matrix of fitted tiles, cut to ranks where they are given."""
        tiles: dict[Place, Tile] = {}
        for place, (tile, rank) in found.items():
            made = self._tile(place, tile, rank)
            if made is None:
                continue
            tiles[place] = made
            if self._is_pair(place):
                tiles[place[::-1]] = _mirrored(made, conjugate=self._source.hermitian)
        if not tiles:
            p, q = (int(sizes[0]) for sizes in self._sizes)
            tiles[0, 0] = np.zeros((p, 0), self._source.dtype), np.zeros((q, 0), self._source.dtype)
        return BlockLowRank(tiles, row_sizes=self._sizes[0], col_sizes=self._sizes[1])

    def _tile(self, place: Place, tile: Cross | NDArray, rank: int | None) -> Tile | None:
        dtype = self._source.dtype
        if rank == DENSE or (rank is None and not isinstance(tile, Cross)):
            if isinstance(tile, Cross):
                return ((tile.U * tile.s) @ tile.Vh).astype(dtype)
            return tile
        if not isinstance(tile, Cross):
            tile = Cross(*np.linalg.svd(tile, full_matrices=False), 0.0)
        r = len(tile.s) if rank is None else min(rank, len(tile.s))
        if r == 0:
            return None
        return (tile.U[:, :r] * tile.s[:r]).astype(dtype), tile.Vh[:r].conj().T.astype(dtype)


def _mirrored(tile: Tile, *, conjugate: bool) -> Tile:
    """The tile at the mirrored place of a symmetric, or of a Hermitian, matrix."""
    if not isinstance(tile, tuple):
        return tile.conj().T if conjugate else tile.T
    U, V = tile
    return (V, U) if conjugate else (V.conj(), U.conj())
