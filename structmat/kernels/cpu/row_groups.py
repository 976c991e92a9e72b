"""Factors cut into row groups, the form that compiled kernels multiply by.

A row group is a few rows that registers hold. It keeps, for every column that it touches,
one cell: as many scalars as the group has rows, zero where the column stores none. Its
height adds padding at both ends of a run; groups of six rows add hardly any.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from structmat.errors import InputError
from structmat.intervals import IntArray, index_dtype, offsets
from structmat.kernels.cpu.run_cells import run_row_groups
from structmat.kernels.layouts.panels import Pattern, RunPattern

#: Rows and columns that 32-bit integers count.
_MOST_ROWS = np.iinfo(np.int32).max
#: Cells that are filled at once.
_CELLS_AT_ONCE = 2**17
#: Bytes of a line of memory; arrays begin with one, so that no register is filled from two.
_LINE_BYTES = 64


@dataclass(frozen=True)
class RowGroups:
    """Cells of a sparse factor, row group after row group."""

    #: First row of every group, and its number of rows, shape (S,).
    begin: IntArray
    rows: IntArray
    #: First cell of every group, then the number of cells, shape (S + 1,).
    ptr: IntArray
    #: The column of every cell, in int32.
    column: Any
    #: Positions in the packed contents, shape (cells, height), in 32 bits where these suffice;
    #: one past the end means zero.
    entries: Any
    #: Rows and columns of the factor.
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, pattern: Pattern, height: int, total: int, order: IntArray | None = None
    ) -> "RowGroups":
        """Groups of `height` rows, for `total` packed contents.

        Columns that are runs may be taken in another order.
        """
        if max(pattern.shape) > _MOST_ROWS:
            raise InputError(
                f"a factor of {pattern.shape[0]}x{pattern.shape[1]}; expected at most {_MOST_ROWS} "
                "rows and columns in compiled kernels (ask for the kernel 'panels')"
            )
        if isinstance(pattern, RunPattern):
            runs = [pattern.start, pattern.width, offsets(pattern.width)[:-1]]
            runs = runs if order is None else [array[order] for array in runs]
            begin, rows, ptr, column, entries = run_row_groups(
                *runs, pattern.n, height, total, False, np.empty(0, index_dtype(total))
            )
            return cls(begin, rows, ptr, column, entries, pattern.shape)
        layout = pattern.layout()
        begin, rows, counts, columns, cells = [], [], [], [], []
        for first, column, entries in zip(
            layout.bounds, layout.columns, layout.entries, strict=False
        ):
            size, width = entries.shape
            parts = np.full((-(-size // height), height, width), total, index_dtype(total))
            parts.reshape(parts.shape[0] * height, width)[:size] = entries
            parts = parts.transpose(0, 2, 1)
            touched = (parts < total).any(axis=2)
            begin.append(np.arange(first, first + size, height))
            rows.append(np.minimum(height, first + size - begin[-1]))
            counts.append(touched.sum(axis=1))
            columns.append(np.broadcast_to(column, touched.shape)[touched])
            cells.append(parts[touched])
        ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))])
        return cls(
            np.concatenate(begin),
            np.concatenate(rows),
            ptr,
            np.concatenate(columns).astype(np.int32),
            np.concatenate(cells),
            pattern.shape,
        )

    @property
    def index(self) -> tuple[IntArray, IntArray, IntArray, Any]:
        """The arrays that compiled kernels take before the cells."""
        return self.begin, self.rows, self.ptr, self.column

    def filled(self, contents: np.ndarray, order: IntArray | None = None) -> np.ndarray:
        """The cells, aligned, in an order: shape (cells, height)."""
        cells = aligned(self.entries.shape, contents.dtype)
        # A part at a time: indices of 32 bits are widened on their way.
        for first in range(0, len(cells), _CELLS_AT_ONCE):
            some = slice(first, first + _CELLS_AT_ONCE)
            at = self.entries[some if order is None else order[some]]
            if contents.size:
                np.take(contents, at, out=cells[some], mode="clip")
            cells[some][at == contents.size] = 0
        return cells

    def by_columns(self) -> tuple[IntArray, np.ndarray, IntArray]:
        """Cells column after column: pointers, and each cell's row group and place here."""
        group = np.repeat(np.arange(self.rows.size, dtype=np.int32), np.diff(self.ptr))
        order = np.argsort(self.column, kind="stable")
        counts = np.bincount(self.column, minlength=self.shape[1])
        ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return ptr, group[order], order


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that begins with a line of memory; its entries are not set."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE_BYTES, np.uint8)
    begin = -memory.__array_interface__["data"][0] % _LINE_BYTES
    return memory[begin : begin + size].view(dtype).reshape(shape)


def first_address(array: np.ndarray) -> int:
    """Address of an array's first entry in memory."""
    return int(array.__array_interface__["data"][0])
