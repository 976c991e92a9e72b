"""How the packed contents of a sparse factor are laid out as dense panels.

Plain NumPy on the host: layouts are structure. Three patterns serve every kind: cyclic
runs (GBLR), blocks on a grid (block sparse), and tiles stacked into panels (block low
rank).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from structmat.intervals import IntArray, entry_index, offsets

# With 64 columns, where tiles matter most, a panel costs as much to start as it costs to
# multiply this many entries, and a touched column as much as these to gather its row.
PANEL_OVERHEAD = 1500
COLUMN_OVERHEAD = 8
# Lengths of even tiles that are tried.
TILES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class PanelLayout:
    """Where the entries of each panel lie in the packed contents.

    Parameters
    ----------
    bounds : sequence of int
        Panel t holds rows ``bounds[t]`` to ``bounds[t + 1]``.
    columns : sequence of ndarray of int
        The columns that each panel touches, each once.
    entries : sequence of ndarray of int
        For each panel, shape (rows, columns), positions in the packed contents;
        the position one past the end stands for zero.
    num_columns : int
        Columns of the whole matrix.
    """

    bounds: Sequence[int]
    columns: Sequence[IntArray]
    entries: Sequence[IntArray]
    num_columns: int


class Pattern(Protocol):
    """Where the non-zeros of a sparse factor lie."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def layout(self) -> PanelLayout:
        """Panels, of whatever heights are best."""

    def cells(self, height: int) -> int:
        """Pieces of columns in strips of so many rows, those cut short included."""

    def outline(self) -> tuple[int, int]:
        """How many panels there are, and their entries, padding included."""


@dataclass(frozen=True, eq=False)
class RunPattern:
    """Columns that hold their contents on cyclic runs of n rows."""

    start: IntArray
    width: IntArray
    n: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n, self.width.size

    def layout(self) -> PanelLayout:
        """Panels; see `run_layout`."""
        return run_layout(*self._runs)

    def cells(self, height: int) -> int:
        """Pieces of columns in strips of so many rows."""
        start, width = self.start[self.width > 0], self.width[self.width > 0]
        end = np.minimum(start + width, self.n)
        around = start + width - end
        first, last = start // height, (end - 1) // height
        # What comes around to the strip it began in is one piece with it.
        again = np.minimum(-(-around // height), first)
        return int((last - first + 1 + again).sum())

    def outline(self) -> tuple[int, int]:
        """Panels and their entries."""
        areas = [(b - a) * touched.size for a, b, touched in run_tiles(*self._runs)]
        return len(areas), sum(areas)

    @property
    def _runs(self) -> tuple[IntArray, IntArray, int]:
        return self.start, self.width, self.n


@dataclass(frozen=True, eq=False)
class BlockPattern:
    """Blocks on a grid; see `block_layout`."""

    rows: IntArray
    cols: IntArray
    block: tuple[int, int]
    shape: tuple[int, int]

    def layout(self) -> PanelLayout:
        """Panels, one for every row of blocks."""
        return block_layout(self.rows, self.cols, self.block, self.shape)

    def cells(self, height: int) -> int:
        """Pieces of columns in strips of so many rows."""
        (p, q), (m, n) = self.block, self.shape
        width = np.minimum(q, n - q * self.cols)
        return int((width * -(-np.minimum(p, m - p * self.rows) // height)).sum())

    def outline(self) -> tuple[int, int]:
        """Panels and their entries."""
        return -(-self.shape[0] // self.block[0]), self.cells(1)


@dataclass(frozen=True, eq=False)
class StackedPattern:
    """Dense tiles stacked into row panels; see `stacked_layout`."""

    sizes: IntArray
    tiles: Sequence[tuple[int, int, IntArray]]
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.sizes.sum()), self.columns

    def layout(self) -> PanelLayout:
        """Panels, one for every row of tiles."""
        return stacked_layout(self.sizes, self.tiles, self.columns)

    def cells(self, height: int) -> int:
        """Pieces of columns in strips of so many rows."""
        strips = -(-self.sizes // height)
        return sum(int(strips[panel]) * column.size for panel, _, column in self.tiles)

    def outline(self) -> tuple[int, int]:
        """Panels and their entries."""
        return self.sizes.size, self.cells(1)


def run_layout(start: IntArray, width: IntArray, n: int) -> PanelLayout:
    """Layout of an interval factor: column k holds its packed contents on cyclic run k.

    The axis of n rows is cut into the tiles that promise the least work: small tiles
    waste little padding, large ones start fewer products, and tiles that end where runs
    do waste none.
    """
    bounds, columns, entries = [0], [], []
    for a, b, touched in run_tiles(start, width, n):
        bounds.append(b)
        columns.append(touched)
        entries.append(entry_index(start, width, n, touched, np.arange(a, b)[:, None]))
    return PanelLayout(bounds, columns, entries, len(width))


def run_tiles(
    start: IntArray, width: IntArray, n: int, *, rank: int = 1
) -> Iterator[tuple[int, int, IntArray]]:
    """Tiles [a, b) of an axis, each with the runs that touch it; `rank` columns a run."""
    for a, b in pairwise(_best_bounds(start, width, n, rank)):
        ahead = (a - start) % max(n, 1)
        yield a, b, np.flatnonzero((width > 0) & ((ahead < width) | ((start >= a) & (start < b))))


def _best_bounds(start: IntArray, width: IntArray, n: int, rank: int) -> list[int]:
    """Where to cut an axis: evenly, or at bounds of the runs themselves."""
    if n == 0:
        return [0, 0]
    start, width = start[width > 0], width[width > 0]
    last = start + width - 1
    own = np.unique(np.concatenate([[0], start, (last + 1) % n]))
    cuts = [np.arange(0, n, tile) for tile in TILES if tile < n] + [own[:1]]
    cuts += [own[::step] for step in (1, 2, 4)]

    def work(bounds: IntArray) -> float:
        first = np.searchsorted(bounds, start, side="right") - 1
        end = np.searchsorted(bounds, np.minimum(last, n - 1), side="right")
        # A run that comes around to the tile it began in meets that tile once.
        end_around = np.minimum(np.searchsorted(bounds, last - n, side="right"), first)
        change = sum(np.bincount(at, minlength=bounds.size) for at in (end, end_around))
        began = np.bincount(first, minlength=bounds.size)
        touched = start.size + np.cumsum(began - change)[:-1]
        cells = touched @ (np.diff(bounds) + COLUMN_OVERHEAD)
        return float(rank * cells + PANEL_OVERHEAD * touched.size)

    return min((np.append(cut, n) for cut in cuts), key=work).tolist()


def block_layout(
    rows: IntArray, cols: IntArray, block: tuple[int, int], shape: tuple[int, int]
) -> PanelLayout:
    """Layout of a block-sparse matrix with blocks sorted by row, contents (b, p, q)."""
    (p, q), (m, n) = block, shape
    bounds = [*range(0, m, p), m] if m else [0, 0]
    begin = np.searchsorted(rows, np.arange(len(bounds)))
    inside = np.arange(p)[:, None, None] * q + np.arange(q)
    columns, entries = [], []
    for t, (a, b) in enumerate(pairwise(bounds)):
        here = np.arange(begin[t], begin[t + 1])
        column = (cols[here][:, None] * q + np.arange(q)).ravel()
        entry = (here[:, None] * (p * q) + inside).reshape(p, -1)
        columns.append(column[column < n])
        entries.append(entry[: b - a, column < n])
    return PanelLayout(bounds, columns, entries, n)


def stacked_layout(
    sizes: IntArray, tiles: Sequence[tuple[int, int, IntArray]], num_columns: int
) -> PanelLayout:
    """Layout of dense tiles stacked into row panels of the given sizes.

    Each tile is (panel, first entry in the contents, its columns); it is stored by
    rows, so that entry (i, j) of a tile with c columns stands at ``first + i c + j``.
    """
    bounds = offsets(sizes) if sizes.size else np.zeros(2, np.int64)
    columns: list[list[IntArray]] = [[] for _ in range(len(bounds) - 1)]
    entries: list[list[IntArray]] = [[] for _ in range(len(bounds) - 1)]
    for panel, first, column in tiles:
        size = int(bounds[panel + 1] - bounds[panel])
        columns[panel].append(column)
        entries[panel].append(
            first + np.arange(size * column.size, dtype=np.int64).reshape(size, column.size)
        )
    empty = np.zeros(0, np.int64)
    return PanelLayout(
        [int(b) for b in bounds],
        [np.concatenate([empty, *c]) for c in columns],
        [
            np.concatenate([np.zeros((int(b - a), 0), np.int64), *e], axis=1)
            for a, b, e in zip(bounds[:-1], bounds[1:], entries, strict=True)
        ],
        num_columns,
    )
