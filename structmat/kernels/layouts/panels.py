"""Dense panels of a sparse factor: places of its packed contents in them.

Plain NumPy on the host: layouts are structure. Three patterns serve every kind: cyclic
runs (GBLR), blocks on a grid (block sparse), and tiles stacked into panels (block low
rank).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray, entry_index, index_dtype, offsets

#: Entries that cost as much to multiply as a panel costs to start, and as a touched column
#: costs to gather its row: with 64 columns, where the cuts matter most.
PANEL_ENTRIES, COLUMN_ENTRIES = 1500, 8
#: Heights of the panels of even cuts that are tried.
PANEL_ROWS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class PanelLayout:
    """Places of the entries of each panel in the packed contents.

    Parameters
    ----------
    bounds : sequence of int
        Panel t holds rows ``bounds[t]`` to ``bounds[t + 1]``.
    columns : sequence of ndarray of int
        The columns that each panel touches, each once.
    entries : sequence of ndarray of int
        For each panel, shape (rows, columns), positions in the packed contents, in 32 bits
        where these suffice; the position one past the end stands for zero.
    num_columns : int
        Columns of the whole matrix.

    Attributes
    ----------
    slices : list of slice or None
        The columns as a slice where they are consecutive.
    """

    bounds: Sequence[int]
    columns: Sequence[IntArray]
    entries: Sequence[NDArray[Any]]
    num_columns: int
    slices: list[slice | None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slices", [_as_slice(columns) for columns in self.columns])


def _as_slice(columns: IntArray) -> slice | None:
    if columns.size == 0:
        return slice(0, 0)
    first, end = int(columns[0]), int(columns[-1]) + 1
    # The span is compared first: it may be far longer than the list.
    if end - first != columns.size or not np.array_equal(columns, np.arange(first, end)):
        return None
    return slice(first, end)


class Pattern(Protocol):
    """The support of a sparse factor, with packed contents."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def layout(self) -> PanelLayout:
        """Panels of the heights that promise the least work."""

    def cells(self, height: int) -> int:
        """Cells, parts of one column in one row group of this height, cut short or not."""

    def outline(self) -> tuple[int, int]:
        """Number of panels, and of their entries, padding included."""


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
        """Panels that promise the least work.

        Low panels waste little padding, high ones start fewer products, and panels that end
        with the runs waste none.
        """
        tiles = list(run_tiles(self.start, self.width, self.n))
        runs = self.start, self.width, offsets(self.width), self.n
        small = index_dtype(int(self.width.sum()))
        entries = [
            entry_index(*runs, touched, np.arange(a, b)[:, None]).astype(small, copy=False)
            for a, b, touched in tiles
        ]
        bounds = [0, *(b for _, b, _ in tiles)]
        return PanelLayout(bounds, [touched for _, _, touched in tiles], entries, self.width.size)

    def cells(self, height: int) -> int:
        """Cells in row groups of this height."""
        start, width = self.start[self.width > 0], self.width[self.width > 0]
        end = np.minimum(start + width, self.n)
        around = start + width - end
        first, last = start // height, (end - 1) // height
        # A run that comes around to the row group it began in has one cell there.
        again = np.minimum(-(-around // height), first)
        return int((last - first + 1 + again).sum())

    def outline(self) -> tuple[int, int]:
        """Number of panels and of their entries."""
        start, width = self.start[self.width > 0], self.width[self.width > 0]
        bounds = _best_bounds(start, width, self.n, rank=1)
        touched = _touched(start, width, self.n, bounds)
        return touched.size, int(touched @ np.diff(bounds))


@dataclass(frozen=True, eq=False)
class BlockPattern:
    """Blocks on a grid, sorted by row, with contents (b, p, q)."""

    rows: IntArray
    cols: IntArray
    block: tuple[int, int]
    shape: tuple[int, int]

    def layout(self) -> PanelLayout:
        """Panels, one for every row of blocks."""
        (p, q), (m, n) = self.block, self.shape
        bounds = [*range(0, m, p), m] if m else [0, 0]
        begin = np.searchsorted(self.rows, np.arange(len(bounds)))
        inside = np.arange(p)[:, None, None] * q + np.arange(q)
        columns, entries = [], []
        for t, (a, b) in enumerate(pairwise(bounds)):
            here = np.arange(begin[t], begin[t + 1])
            column = (self.cols[here][:, None] * q + np.arange(q)).ravel()
            entry = (here[:, None] * (p * q) + inside).reshape(p, -1)
            columns.append(column[column < n])
            entries.append(entry[: b - a, column < n])
        return PanelLayout(bounds, columns, entries, n)

    def cells(self, height: int) -> int:
        """Cells in row groups of this height."""
        (p, q), (m, n) = self.block, self.shape
        width = np.minimum(q, n - q * self.cols)
        return int((width * -(-np.minimum(p, m - p * self.rows) // height)).sum())

    def outline(self) -> tuple[int, int]:
        """Number of panels and of their entries."""
        return -(-self.shape[0] // self.block[0]), self.cells(1)


@dataclass(frozen=True, eq=False)
class StackedPattern:
    """Dense tiles stacked into row panels of the given sizes.

    Each tile is (panel, first entry in the contents, its columns); it is stored by
    rows, so that entry (i, j) of a tile with c columns stands at ``first + i c + j``.
    """

    sizes: IntArray
    tiles: Sequence[tuple[int, int, IntArray]]
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.sizes.sum()), self.columns

    def layout(self) -> PanelLayout:
        """Panels, one for every row of tiles."""
        bounds = offsets(self.sizes) if self.sizes.size else np.zeros(2, np.int64)
        sizes = np.diff(bounds)
        columns = [[np.zeros(0, np.int64)] for _ in sizes]
        entries = [[np.zeros((size, 0), np.int64)] for size in sizes]
        for panel, first, column in self.tiles:
            shape = int(sizes[panel]), column.size
            columns[panel].append(column)
            entries[panel].append(first + np.arange(math.prod(shape)).reshape(shape))
        return PanelLayout(
            bounds.tolist(),
            [np.concatenate(parts) for parts in columns],
            [np.concatenate(parts, axis=1) for parts in entries],
            self.columns,
        )

    def cells(self, height: int) -> int:
        """Cells in row groups of this height."""
        groups = -(-self.sizes // height)
        return sum(int(groups[panel]) * column.size for panel, _, column in self.tiles)

    def outline(self) -> tuple[int, int]:
        """Number of panels and of their entries."""
        return self.sizes.size, self.cells(1)


def run_tiles(
    start: IntArray, width: IntArray, n: int, *, rank: int = 1
) -> Iterator[tuple[int, int, IntArray]]:
    """Parts [a, b) of an axis, each with the runs that touch it; `rank` columns a run.

    O(K log K) for the cuts, and time in proportion to the pairs of a part and a run.
    """
    alive = np.flatnonzero(width > 0)
    start, width = start[alive], width[alive]
    bounds = _best_bounds(start, width, n, rank)
    first, end, around = _parts(start, width, n, bounds)
    begin = offsets(around + end - first)
    owner = np.repeat(np.arange(alive.size), np.diff(begin))
    part = np.arange(begin[-1]) - begin[owner]
    part += np.where(part < around[owner], 0, (first - around)[owner])
    # The pairs come run after run; a stable sort keeps that order within each part.
    runs = alive[owner[np.argsort(part, kind="stable")]]
    last = np.cumsum(np.bincount(part, minlength=bounds.size - 1))
    for t, (a, b) in enumerate(pairwise(bounds.tolist())):
        yield a, b, runs[last[t - 1] if t else 0 : last[t]]


def _best_bounds(start: IntArray, width: IntArray, n: int, rank: int) -> IntArray:
    """Cuts of an axis for runs that are not empty: even ones, or bounds of the runs themselves."""
    if n == 0:
        return np.zeros(2, np.int64)
    # In order, since searches for neighbours follow one path.
    order = np.argsort(start)
    start, width = start[order], width[order]
    ends = np.sort(np.concatenate([[0], start, (start + width) % n]))
    own = ends[np.append(True, np.diff(ends) > 0)]
    cuts = [(np.arange(0, n, rows), rows) for rows in PANEL_ROWS if rows < n]
    cuts += [(own[:1], n), *((own[::step], 0) for step in (1, 2, 4))]
    least, best = math.inf, own
    for cut, even in cuts:
        bounds = np.append(cut, n)
        touched = _touched(start, width, n, bounds, even)
        cells = touched @ (np.diff(bounds) + COLUMN_ENTRIES)
        work = float(rank * cells + PANEL_ENTRIES * touched.size)
        if work < least:
            least, best = work, bounds
    return best


def _touched(start: IntArray, width: IntArray, n: int, bounds: IntArray, even: int = 0) -> IntArray:
    """Number of the runs, none of them empty, that touch each part of an axis.

    Parts of an `even` length need no searches.
    """
    first, end, around = (
        _even_parts(start, width, n, even) if even else _parts(start, width, n, bounds)
    )
    change = np.bincount(first, minlength=bounds.size)
    change -= sum(np.bincount(at, minlength=bounds.size) for at in (end, around))
    return start.size + np.cumsum(change)[:-1]


def _even_parts(
    start: IntArray, width: IntArray, n: int, rows: int
) -> tuple[IntArray, IntArray, IntArray]:
    """The same as `_parts` where each part, but the last one, has `rows` positions."""
    last = start + width - 1
    first = start // rows
    end = np.minimum(last, n - 1) // rows + 1
    around = np.where(last < n, 0, np.minimum((last - n) // rows + 1, first))
    return first, end, around


def _parts(
    start: IntArray, width: IntArray, n: int, bounds: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Parts of an axis that runs touch: from `first` to before `end`, and those before `around`."""
    last = start + width - 1
    first = np.searchsorted(bounds, start, side="right") - 1
    end = np.searchsorted(bounds, np.minimum(last, n - 1), side="right")
    # A run that comes around to the part it began in meets that part once.
    around = np.minimum(np.searchsorted(bounds, last - n, side="right"), first)
    return first, end, around
