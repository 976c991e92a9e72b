"""Compiled products of rectangles, each of a rank or dense, shared out among threads.

Rectangles are added up in parts that do not depend on the number of threads, so that results
do not, either.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.kernels.cpu.llvm import VECTOR_BYTES
from structmat.kernels.cpu.rectangle_loops import add_columns, add_vector
from structmat.kernels.cpu.rectangle_panels import VECTORS, add_panel
from structmat.kernels.cpu.threads import num_threads, shared_out
from structmat.kernels.layouts.rectangles import Rectangles

#: Most parts, each of which adds to rows of its own memory.
_PARTS = 8
#: Multiplications with one vector from which on a part is worth its memory.
_PART_WORK = 2**17
#: Columns of complex numbers that are multiplied at a time.
_COLUMNS = 8


class _Part(NamedTuple):
    """Some rectangles, and the rows of the result that they add to."""

    first: int
    last: int
    low: int
    high: int


class RectangleProduct:
    """The sum of all rectangles, times operands on NumPy; contents of any dtype."""

    def __init__(self, rectangles: Rectangles, u: NDArray, v: NDArray, dense: NDArray) -> None:
        self._rectangles, self._contents = rectangles, (u, v, dense)
        self._triangular = np.ascontiguousarray(rectangles.is_triangular)
        self._parts = {adjoint: self._shared(adjoint) for adjoint in (False, True)}

    def multiply(self, x: NDArray) -> NDArray:
        """A x: (n, k) to (m, k)."""
        return self._product(x, adjoint=False)

    def multiply_adjoint(self, y: NDArray) -> NDArray:
        """A^H y: (m, k) to (n, k)."""
        return self._product(y, adjoint=True)

    def _ways(self, adjoint: bool) -> tuple[bool, bool]:
        """Two flags: rectangles are added, and their adjoints are."""
        symmetric = self._rectangles.symmetric
        return symmetric or not adjoint, symmetric or adjoint

    def _shared(self, adjoint: bool) -> list[_Part]:
        """Parts of about equal work."""
        table, done = self._rectangles.table, np.cumsum(self._rectangles.work)
        if not len(table):
            return []
        count = int(min(_PARTS, done[-1] // _PART_WORK + 1))
        ends = np.searchsorted(done, done[-1] * np.arange(1, count + 1) / count) + 1
        ends = np.minimum(ends, len(table))
        parts, first = [], 0
        for last in [*ends[:-1], len(table)]:
            if last > first:
                some = table[first:last]
                sides = [
                    some[:, 2 * s : 2 * s + 2] for s, on in enumerate(self._ways(adjoint)) if on
                ]
                low = min(int(side[:, 0].min()) for side in sides)
                high = max(int(side.sum(axis=1).max()) for side in sides)
                parts.append(_Part(first, int(last), low, high))
                first = int(last)
        return parts

    def _product(self, x: NDArray, *, adjoint: bool) -> NDArray:
        rows, count = self._rectangles.shape[adjoint], x.shape[1]
        if count == 1:
            return self._added(np.ascontiguousarray(x[:, 0]), (rows,), adjoint)[:, None]
        y, width = np.empty((rows, count), x.dtype), _COLUMNS
        if x.dtype.char in "fd":
            width = VECTORS * VECTOR_BYTES // x.itemsize
        for first in range(0, count, width):
            some = np.zeros((len(x), width), x.dtype)
            own = x[:, first : first + width]
            some[:, : own.shape[1]] = own
            found = self._added(some, (rows, width), adjoint)
            y[:, first : first + width] = found[:, : own.shape[1]]
        return y

    def _added(self, x: NDArray, shape: tuple[int, ...], adjoint: bool) -> NDArray:
        """The sum of all parts."""
        table, begins = self._rectangles.table, self._rectangles.begins
        parts, multiply = self._parts[adjoint], add_vector
        if x.ndim == 2:
            multiply = add_panel if x.dtype.char in "fd" else add_columns
        found: list[NDArray] = [np.zeros(0)] * len(parts)

        def work(first: int, last: int) -> None:
            for i in range(first, last):
                part = parts[i]
                own = np.zeros((part.high - part.low, *shape[1:]), x.dtype)
                multiply(
                    table, begins, self._contents, self._triangular, part.first, part.last,
                    *self._ways(adjoint), x, own, part.low,
                )  # fmt: skip
                found[i] = own

        shared_out(work, len(parts), num_threads() if len(parts) > 1 else 1)
        if len(parts) == 1 and found[0].shape == shape:
            return found[0]
        y = np.zeros(shape, x.dtype)
        for part, own in zip(parts, found, strict=True):
            y[part.low : part.high] += own
        return y
