"""Rectangles of a matrix, each of a rank or dense, with packed contents.

Plain NumPy on the host: rectangles are structure. A rectangle of rank r holds U^T, (r, p), and
V^T, (r, q), by rows; a dense one its entries by rows. A symmetric matrix lists the rectangles of
one triangle: each of them stands for its mirror image as well, and a dense one on the diagonal
holds its lower triangle, row by row.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from structmat.intervals import IntArray, offsets, ramps

#: Rank of a rectangle that is stored dense.
DENSE = -1
#: Columns of a table of mirror images.
MIRROR = [2, 3, 0, 1, 4]
#: Cells for each rectangle up to which entries are looked up in them.
_MOST_CELLS = 64


class Group(NamedTuple):
    """Rectangles of one shape and one rank, by their numbers."""

    members: IntArray
    shape: tuple[int, int]
    rank: int
    #: Tells rectangles that hold a lower triangle alone.
    triangular: bool


class Cells(NamedTuple):
    """All rectangles, cut at every edge of rows, in the order of rows and columns."""

    #: Edges of rows, and keys (first row edge, first column) of the cells.
    edges: IntArray
    keys: IntArray
    #: End of the columns, number of the rectangle, and whether its mirror image is meant.
    end: IntArray
    number: IntArray
    flipped: np.ndarray


@dataclass(frozen=True, eq=False)
class Rectangles:
    """Rectangles of a matrix (m, n), and the places of their contents.

    `table` has a row (row start, height, column start, width, rank) for each, (b, 5).
    """

    table: IntArray
    shape: tuple[int, int]
    symmetric: bool

    @cached_property
    def height(self) -> IntArray:
        """Rows of each rectangle."""
        return self.table[:, 1]

    @cached_property
    def width(self) -> IntArray:
        """Columns of each rectangle."""
        return self.table[:, 3]

    @cached_property
    def rank(self) -> IntArray:
        """Rank of each rectangle, 0 for a dense one."""
        return np.maximum(self.table[:, 4], 0)

    @cached_property
    def is_dense(self) -> np.ndarray:
        """Mask of the dense rectangles."""
        return self.table[:, 4] == DENSE

    @cached_property
    def is_triangular(self) -> np.ndarray:
        """Mask of the rectangles that hold a lower triangle."""
        table = self.table
        on_diagonal = (table[:, 0] == table[:, 2]) & (table[:, 1] == table[:, 3])
        return on_diagonal if self.symmetric else np.zeros(len(table), bool)

    @cached_property
    def area(self) -> IntArray:
        """Stored entries of each dense rectangle, 0 for others."""
        p = self.height
        full = np.where(self.is_triangular, p * (p + 1) // 2, p * self.width)
        return np.where(self.is_dense, full, 0)

    @cached_property
    def begins(self) -> tuple[IntArray, IntArray, IntArray]:
        """First entry of each rectangle in u, in v and among dense entries, then the end."""
        return offsets(self.height * self.rank), offsets(self.width * self.rank), offsets(self.area)

    @cached_property
    def work(self) -> IntArray:
        """Multiplications that each rectangle takes for one vector."""
        whole = self.rank * (self.height + self.width) + self.is_dense * self.height * self.width
        return whole * (1 + (self.symmetric & ~self.is_triangular))

    @cached_property
    def mirrored(self) -> IntArray:
        """Numbers of the rectangles that stand for a mirror image as well."""
        return np.flatnonzero(~self.is_triangular) if self.symmetric else np.zeros(0, np.int64)

    @cached_property
    def whole(self) -> IntArray:
        """The table with mirror images after it."""
        return np.concatenate([self.table, self.table[self.mirrored][:, MIRROR]])

    def groups(self) -> list[Group]:
        """Rectangles of one shape and one rank together."""
        table = self.table
        key = np.stack([*table[:, [1, 3, 4]].T, self.is_triangular], axis=1)
        kinds, which, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)
        order, end = np.argsort(which.ravel(), kind="stable"), np.cumsum(count)
        parts = [order[a:b] for a, b in zip(end - count, end, strict=True)]
        return [
            Group(members, (int(p), int(q)), int(rank), bool(triangular))
            for members, (p, q, rank, triangular) in zip(parts, kinds, strict=True)
        ]

    @cached_property
    def cells(self) -> Cells | None:
        """Cells of all rectangles; None where rectangles overlap or make too many cells."""
        top, height, left, width, _ = self.whole.T
        number = np.concatenate([np.arange(len(self.table)), self.mirrored])
        flipped = np.arange(number.size) >= len(self.table)
        edges = np.unique(np.concatenate([top, top + height]))
        first, last = np.searchsorted(edges, top), np.searchsorted(edges, top + height)
        if (total := int((last - first).sum())) > _MOST_CELLS * (number.size + _MOST_CELLS):
            return None
        which = np.repeat(np.arange(number.size), last - first)
        row = first[which] + ramps(last - first)
        key = row * (self.shape[1] + 1) + left[which]
        order = np.argsort(key, kind="stable")
        row, which = row[order], which[order]
        end = (left + width)[which]
        same = row[1:] == row[:-1]
        if total and (same & (left[which[1:]] < end[:-1])).any():
            return None
        return Cells(edges, key[order], end, number[which], flipped[which])

    def locate(self, rows: IntArray, cols: IntArray) -> tuple[IntArray, np.ndarray] | None:
        """Number of the rectangle of each entry, -1 for none, and whether it is its mirror image.

        None where rectangles overlap.
        """
        cells = self.cells
        if cells is None:
            return None
        if not cells.keys.size:
            return np.full(rows.size, -1), np.zeros(rows.size, bool)
        row = np.searchsorted(cells.edges, rows, side="right") - 1
        base = row * (self.shape[1] + 1)
        at = np.searchsorted(cells.keys, base + cols, side="right") - 1
        inside = (at >= 0) & (cells.keys[at] >= base) & (cols < cells.end[at])
        return np.where(inside, cells.number[at], -1), cells.flipped[at] & inside


def triangle_index(rows: IntArray, cols: IntArray) -> IntArray:
    """Place of entries (i, j), or else (j, i), of a lower triangle that is stored row by row."""
    high, low = np.maximum(rows, cols), np.minimum(rows, cols)
    return high * (high + 1) // 2 + low
