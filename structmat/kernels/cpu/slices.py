"""Products of single vectors with blocks of few entries, entry by entry.

Rows are sorted by their numbers of entries, so that the rows of a slice, as many as a register
has lanes, need as many registers as the longest of them with little padding.
"""

from typing import NamedTuple

import numpy as np

from structmat.kernels.cpu.llvm import VECTOR_BYTES
from structmat.kernels.cpu.row_groups import aligned, first_address
from structmat.kernels.cpu.slice_loops import (
    COLUMN,
    ORDER,
    PTR,
    ROWS,
    SLICES,
    VALUE,
    multiply_slices,
)

Array = np.ndarray


class EntrySlices(NamedTuple):
    """Entries in slices of rows, as many as a register has lanes."""

    #: The first register of every slice and the end, and the rows in their order.
    ptr: Array
    order: Array
    #: The column of every place in a register, in int32; padding meets the first column.
    column: Array
    #: Places of the entries in the registers.
    at: Array

    @classmethod
    def of(cls, ptr: Array, column: Array, dtype: np.dtype) -> "EntrySlices":
        """Slices of entries that are sorted by rows; row i has those from ``ptr[i]`` on."""
        lanes, count = VECTOR_BYTES // dtype.itemsize, np.diff(ptr)
        order = np.argsort(-count, kind="stable")
        registers = count[order[::lanes]]  # the first row of a slice is the longest
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(registers)])
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        row = np.repeat(rank, count)
        down = np.arange(column.size) - np.repeat(ptr[:-1], count)
        at = (first[row // lanes] + down) * lanes + row % lanes
        columns = aligned((int(first[-1]) * lanes,), np.dtype(np.int32))
        columns[:] = 0
        columns[at] = column
        return cls(first, order, columns, at)


class SliceProduct:
    """A matrix with these slices of entries, for single vectors."""

    def __init__(self, slices: EntrySlices, values: Array) -> None:
        cells = aligned(slices.column.shape, values.dtype)
        cells[:] = 0
        cells[slices.at] = values
        words = np.zeros(ROWS + 1, np.int64)
        arrays = (PTR, slices.ptr), (ORDER, slices.order), (COLUMN, slices.column), (VALUE, cells)
        for place, array in arrays:
            words[place] = first_address(array)
        words[[SLICES, ROWS]] = slices.ptr.size - 1, slices.order.size
        # The words hold addresses: the arrays stay as long as they do.
        self._arrays, self._address = (slices, cells, words), first_address(words)
        self._zeros = np.zeros(slices.order.size, values.dtype)

    def multiply(self, x: Array, plus: Array | None = None) -> Array:
        """A x, column after column, plus a number for each row: (n, k) to (m, k)."""
        plus = self._zeros if plus is None else plus
        out = np.empty((x.shape[1], self._zeros.size), x.dtype)
        multiply_slices(self._address, plus, np.ascontiguousarray(x.T), out)
        return out.T
