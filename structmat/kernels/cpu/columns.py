"""Products by factors and matrices in row groups, one column group of the operand at a time.

`TileProduct` takes a column group through both factors of a matrix, so that the numbers
between them stay in the processor's cache; `gradients` does the same for the gradients of
operand and contents.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from structmat.kernels.cpu.column_loops import (
    GRADIENT_ROWS,
    ROWS,
    collect_columns,
    column_group,
    outer_columns,
    spread_columns,
)
from structmat.kernels.cpu.copies import load_columns, store_columns
from structmat.kernels.cpu.row_groups import RowGroups, aligned, first_address
from structmat.kernels.cpu.threads import num_threads, shared_out
from structmat.kernels.layouts.panels import Pattern

#: Multiplications that are worth waking a thread for.
THREAD_MULTIPLICATIONS = 2_000_000
Array = np.ndarray


class Place:
    """Some columns of an array for a kernel to read or write: in place, or in a buffer.

    Kernels take rows of whole registers, one after another; anything else goes through
    a buffer.
    """

    def __init__(
        self, array: Array, first: int, vectors: int, width: int, memory: Callable[[int], Array]
    ) -> None:
        self.array, self.first, self.vectors = array, first, vectors
        self.width, self.lanes = min(width, array.shape[1] - first), width // vectors
        row, column = array.strides
        self._begin = first_address(array) + first * column
        if column == array.itemsize and self.width == width:
            self.buffer, self.address, self.row = None, self._begin, row
        else:
            self.buffer = buffer = memory(array.shape[0])
            self.address, self.row = first_address(buffer), buffer.strides[0]

    def load(self, buffer: Array | None = None) -> None:
        """Fill a buffer, by default the place's own, from the array."""
        buffer = self.buffer if buffer is None else buffer
        if buffer is not None:
            rows, strides = self.array.shape[0], self.array.strides
            load_columns(self._begin, *strides, rows, self.width, buffer, self.lanes)

    def store(self, buffer: Array | None = None) -> None:
        """Copy a buffer, by default the place's own, to the array."""
        buffer = self.buffer if buffer is None else buffer
        if buffer is not None:
            rows, strides = self.array.shape[0], self.array.strides
            store_columns(buffer, self._begin, *strides, rows, self.width, self.lanes)

    def add(self, plus: Array) -> None:
        """Add a number to every row, before the place is stored."""
        columns = slice(self.first, self.first + self.width)
        rows = self.array[:, columns] if self.buffer is None else self.buffer
        rows += plus[:, None]


class TileFactor:
    """A real sparse factor S, (n, K), that multiplies many columns, in float32 or float64."""

    def __init__(self, pattern: Pattern, contents: Array) -> None:
        groups = RowGroups.of(pattern, ROWS, contents.size)
        self._set((*groups.index, groups.filled(contents)), pattern.shape)

    @classmethod
    def of(cls, groups: tuple[Array, ...], shape: tuple[int, int]) -> "TileFactor":
        """The factor with these row groups: the index arrays of `RowGroups`, and its cells."""
        factor = cls.__new__(cls)
        factor._set(groups, shape)
        return factor

    def _set(self, groups: tuple[Array, ...], shape: tuple[int, int]) -> None:
        self._groups, self.shape = groups, shape
        #: Multiplications for one column, padding included.
        self.work = groups[-1].size
        self.cells = len(groups[-1])

    def spread(self, middle: Array, place: Place) -> None:
        """Write S z for one column group; `middle` is z and one more row, a scratch row."""
        spread_columns(*self._groups, middle, place.address, place.row, place.vectors)

    def collect(self, middle: Array, place: Place) -> None:
        """Write S^T y for one column group to `middle`, which has a scratch row more."""
        collect_columns(*self._groups, middle, place.address, place.row, place.vectors)

    def outer(self, gradient: Array, middle: Array, place: Place) -> None:
        """Add, at every cell, the products of a column group's rows with those of `middle`."""
        begin, rows, ptr, column, _ = self._groups
        arrays = begin, rows, ptr, column, gradient
        outer_columns(*arrays, middle, place.address, place.row, place.vectors)

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z: (K, k) to (n, k), in memory column after column if asked."""
        return TileProduct(self, None, through=True).multiply(z, by_columns=by_columns)

    def rmatmat(self, y: Array) -> Array:
        """S^T y: (n, k) to (K, k)."""
        return TileProduct(self, None, through=True).multiply_adjoint(y)


class TileProduct:
    """The matrix R C^T, or R alone, or, `through`, R [C^T; I], bound to multiply many columns.

    At most `threads` threads multiply; 0 stands for `num_threads`.
    """

    def __init__(
        self, row: TileFactor, col: TileFactor | None, *, through: bool, threads: int = 0
    ) -> None:
        self.row, self.col, self.through, self.threads = row, col, through, threads
        self._middle = 0 if col is None else col.shape[1]

    def multiply(self, x: Array, *, by_columns: bool = False, plus: Array | None = None) -> Array:
        """A x: (n, k) to (m, k), in memory column after column if asked.

        `plus`, (m,), is added to every column.
        """
        out = _empty((self.row.shape[0], x.shape[1]), x.dtype, by_columns)
        self._over_groups(x, out, partial(self._group, plus))
        return out

    def multiply_adjoint(self, y: Array, *, by_columns: bool = False) -> Array:
        """A^T y: (m, k) to (n, k), in memory column after column if asked."""
        size = self.row.shape[1] - self._middle if self.col is None else self.col.shape[0]
        out = _empty((size, y.shape[1]), y.dtype, by_columns)
        self._over_groups(y, out, self._adjoint_group)
        return out

    def _group(self, plus: Array | None, middle: Array, source: Place, target: Place) -> None:
        if self.col is not None:
            source.load()
            self.col.collect(middle[: self._middle + 1], source)
        if self.through:
            source.load(middle[self._middle :])
        self.row.spread(middle, target)
        if plus is not None:
            target.add(plus)
        target.store()

    def _adjoint_group(self, middle: Array, source: Place, target: Place) -> None:
        source.load()
        self.row.collect(middle, source)
        self.finish_adjoint(middle, target)

    def finish_adjoint(self, middle: Array, target: Place) -> None:
        """Write A^T y for one column group, from R^T y in `middle`."""
        if self.col is None:
            target.store(middle)
            return
        passed = middle[self._middle : -1].copy() if self.through else None
        self.col.spread(middle[: self._middle + 1], target)
        target.store()
        if passed is not None:
            columns = slice(target.first, target.first + target.width)
            target.array[:, columns] += passed[:, : target.width]

    def _over_groups(
        self, x: Array, out: Array, multiply: Callable[[Array, Place, Place], None]
    ) -> None:
        def work(groups: ColumnGroups) -> None:
            for (middle, *_), source, target in groups.of([self.row.shape[1] + 1], x, out):
                multiply(middle, source, target)

        total = self.row.work + (0 if self.col is None else self.col.work)
        _share_columns(work, x.shape[1], x.dtype, total, self.threads)


class ColumnGroups:
    """Some column groups of an array, the last ones as narrow as they can be."""

    def __init__(self, groups: list[tuple[int, int, int]], dtype: np.dtype) -> None:
        self._groups, self._dtype = groups, dtype
        #: The first column.
        self.first = groups[0][0] if groups else 0

    def of(self, rows: list[int], *arrays: Array) -> Iterator[tuple[Any, ...]]:
        """For every column group, a buffer for each number of rows, and its place in each array.

        Groups of one width share their buffers.
        """
        known: dict[tuple[int, int], Array] = {}

        def memory(which: int, width: int, size: int) -> Array:
            if (buffer := known.get((which, width))) is None:
                buffer = known[which, width] = aligned((size, width), self._dtype)
            return buffer

        for first, vectors, width in self._groups:
            own = [memory(i, width, size) for i, size in enumerate(rows)]
            yield (
                own,
                *(
                    Place(array, first, vectors, width, partial(memory, len(rows) + i, width))
                    for i, array in enumerate(arrays)
                ),
            )


def _share_columns(
    work: Callable[[ColumnGroups], None],
    columns: int,
    dtype: np.dtype,
    multiplications: int,
    threads: int,
) -> None:
    """Share column groups out among threads, as far as `multiplications` a column are worth it."""
    groups, first = [], 0
    while first < columns:
        vectors, width = column_group(columns - first, dtype)
        groups.append((first, vectors, width))
        first += width
    # The environment, which says how many threads there are, is not read for small products.
    most = columns * multiplications // THREAD_MULTIPLICATIONS + 1
    threads = min(threads or num_threads(), most) if most > 1 else 1
    shared_out(lambda low, high: work(ColumnGroups(groups[low:high], dtype)), len(groups), threads)


def _empty(shape: tuple[int, int], dtype: np.dtype, by_columns: bool) -> Array:
    """An array that is not set, in memory row after row or column after column."""
    return np.empty(shape[::-1], dtype).T if by_columns else np.empty(shape, dtype)


def gradients(
    product: TileProduct, x: Array, grad: Array, *, contents: bool, operand: bool
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of y = A x by the operand and by the cells of both factors, as far as wanted.

    The gradient by x, (n, k), lies in memory column after column. In those by the cells,
    (cells, `GRADIENT_ROWS`), only the first `ROWS` entries of a cell count, and of those the
    ones with contents.

    The numbers between the factors are computed again, column group by column group. That
    is half a product more and keeps nothing from the forward pass.
    """
    row, col, through = product.row, product.col, product.through
    count = 0 if col is None else col.shape[1]
    # Without it, a place that is never written.
    out = _empty(x.shape, x.dtype, True) if operand else x
    parts: dict[int, list[Array]] = {}

    def work(groups: ColumnGroups) -> None:
        own = [np.zeros((f.cells, GRADIENT_ROWS), x.dtype) for f in (row, col) if f is not None]
        parts[groups.first] = own
        sizes = [row.shape[1] + 1, row.shape[1] + 1]
        for (middle, adjoint), source, above, target in groups.of(sizes, x, grad, out):
            source.load()
            above.load()
            row.collect(adjoint, above)
            if contents:
                if col is not None:
                    col.collect(middle[: count + 1], source)
                    col.outer(own[1], adjoint, source)
                if through:
                    source.load(middle[count:])
                    middle[-1] = 0  # for rows that a row group lacks
                row.outer(own[0], middle, above)
            if operand:
                product.finish_adjoint(adjoint, target)

    total = 2 * row.work + (0 if col is None else 2 * col.work)
    _share_columns(work, x.shape[1], x.dtype, total, product.threads)
    by_x = out if operand else None
    if not contents:
        return by_x, None, None
    # In the order of the columns, whichever thread was first.
    ordered = [parts[first] for first in sorted(parts)]
    sums = [sum(same[1:], same[0]) for same in zip(*ordered, strict=True)]
    return by_x, sums[0], sums[1] if col is not None else None
