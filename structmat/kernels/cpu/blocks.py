"""Products by rank-one blocks on listed rows and columns, one column group after another.

Made for many small blocks, in orders of rows and columns that are learned: `BlockIndex` lists
the places of all contents, orders included, and `BlockProduct` multiplies NumPy arrays. A few
vectors are multiplied one by one, by the entries of all blocks, unless those are too many.
Products are the same, bit for bit, with any number of threads. Gradients of contents are sums of
one part for each thread, the same for one number of threads.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from structmat.errors import InputError
from structmat.intervals import IntArray, offsets, short_positions
from structmat.kernels.cpu.block_loops import gradient_columns, multiply_columns
from structmat.kernels.cpu.column_loops import column_group
from structmat.kernels.cpu.columns import THREAD_MULTIPLICATIONS
from structmat.kernels.cpu.slices import EntrySlices, SliceProduct
from structmat.kernels.cpu.threads import num_threads, shared_out
from structmat.kernels.layouts.factors import (
    MOST_SINGLE_VECTORS,
    FactorStructure,
    are_entries,
    are_few_entries,
)
from structmat.kernels.layouts.panels import RunPattern

Array = np.ndarray
#: Rows and columns that 32-bit integers count.
_MOST_ROWS = np.iinfo(np.int32).max


class BlockIndex:
    """Places of the packed contents of all blocks, listed one by one.

    `sides` are those of an equal index, for one that multiplies once: to list the entries takes
    as long as many products, and so single vectors then go as all others do.

    Attributes
    ----------
    arrays : list of ndarray
        The row of every entry of u and the column of every entry of v, in int32, and the
        first entries and ends of u and v for every block that is not empty, (K, 4).
    shape : tuple of int
        Rows and columns of the matrix.
    """

    def __init__(
        self,
        arrays: list[Array],
        shape: tuple[int, int],
        sides: "tuple[ListedEntries, ListedEntries] | None" = None,
    ) -> None:
        self.arrays, self.shape, self._given = arrays, shape, sides
        self._slices: dict[tuple[np.dtype, bool], tuple[ListedEntries, EntrySlices]] = {}

    @cached_property
    def sides(self) -> tuple["ListedEntries", "ListedEntries"]:
        """Few-entry blocks and others, for products and for those with the adjoint."""
        if self._given is not None:
            return self._given
        apart = are_entries(*_sizes(self.arrays[2]))
        return self._entries(apart, adjoint=False), self._entries(apart, adjoint=True)

    def _entries(self, apart: Array, *, adjoint: bool) -> "ListedEntries":
        (rows, cols, spans), (m, n) = self.arrays, self.shape
        if adjoint:
            turned = np.ascontiguousarray(spans[:, [2, 3, 0, 1]])
            return ListedEntries.of(cols, rows, turned, n, apart)
        return ListedEntries.of(rows, cols, spans, m, apart)

    @cached_property
    def has_few_entries(self) -> bool:
        """Tell whether single vectors are quicker by the entries of all blocks."""
        return self._given is None and are_few_entries(*_sizes(self.arrays[2]))

    def slices(self, dtype: np.dtype, *, adjoint: bool) -> tuple["ListedEntries", EntrySlices]:
        """The entries of all blocks, and their slices for a product with single vectors."""
        key = dtype, adjoint
        if key not in self._slices:
            every = self._entries(np.ones(len(self.arrays[2]), bool), adjoint=adjoint)
            self._slices[key] = every, EntrySlices.of(every.ptr, every.column, dtype)
        return self._slices[key]

    @classmethod
    def of(cls, structure: FactorStructure) -> "BlockIndex":
        """Places of a matrix whose factors are made of runs."""
        if max(structure.shape) > _MOST_ROWS:
            raise InputError(
                f"a matrix of {structure.shape[0]}x{structure.shape[1]}; expected at most "
                f"{_MOST_ROWS} rows and columns in compiled kernels (ask for the kernel 'panels')"
            )
        runs = [p for p in structure.patterns if isinstance(p, RunPattern)]
        places = [short_positions(p.start, p.width, p.n).astype(np.int32, copy=False) for p in runs]
        u, v = (offsets(p.width) for p in runs)
        filled = (runs[0].width > 0) & (runs[1].width > 0)
        spans: IntArray = np.stack([u[:-1], u[1:], v[:-1], v[1:]], axis=1)[filled]
        return cls([*places, np.ascontiguousarray(spans)], structure.shape)

    def in_orders(self, rows: IntArray | None, cols: IntArray | None) -> "BlockIndex":
        """The same blocks where row i lies at ``rows[i]`` and column j at ``cols[j]``."""
        *places, spans = self.arrays
        moved = [
            at if order is None else order.astype(np.int32)[at]
            for order, at in zip((rows, cols), places, strict=True)
        ]
        return BlockIndex([*moved, spans], self.shape)


class ListedEntries(NamedTuple):
    """Blocks of few entries as single ones, row by row, and the spans of the others."""

    #: The first entry of every row and the end, and the column of every entry, in int32.
    ptr: Array
    column: Array
    #: What each entry is the product of: positions in the contents of both sides.
    factors: tuple[Array, Array]
    spans: Array

    @classmethod
    def of(cls, rows: Array, cols: Array, spans: Array, size: int, apart: Array) -> "ListedEntries":
        """Entries on listed places, where there are `size` rows, of the blocks `apart`, (K,)."""
        first, (height, width) = spans[apart][:, [0, 2]], _sizes(spans[apart])
        block = np.repeat(np.arange(len(first)), height * width)
        place = np.arange(block.size) - np.repeat(
            np.cumsum(height * width) - height * width, height * width
        )
        down, across = np.divmod(place, width[block])
        u, v = first[block, 0] + down, first[block, 1] + across
        order = np.lexsort((cols[v], rows[u]))
        u, v = u[order], v[order]
        counts = np.bincount(rows[u], minlength=size)
        ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        others = np.ascontiguousarray(spans[~apart])
        return cls(ptr, cols[v], (u, v), others)

    def filled(self, u: Array, v: Array) -> tuple[Array, Array, Array]:
        """Arrays that the kernel takes, for these contents of both sides."""
        one, other = self.factors
        return self.ptr, self.column, u[one] * v[other]


def packed(sides: tuple[ListedEntries, ListedEntries]) -> list[Array]:
    """Both sides in two arrays, of int64 and of int32."""
    numbers = [a.ravel() for e in sides for a in (e.ptr, *e.factors, e.spans)]
    return [np.concatenate(numbers), np.concatenate([e.column for e in sides])]


def unpacked(
    numbers: Array, columns: Array, shape: tuple[int, int]
) -> tuple[ListedEntries, ListedEntries]:
    """The sides of a matrix of a shape that are packed so: both have as many entries."""
    count, rows = len(columns) // 2, sum(shape) + 2
    spans = (len(numbers) - rows - 4 * count) // 2
    found = []
    for side, size in enumerate(shape):
        ptr, one, other, rest, numbers = np.split(
            numbers, np.cumsum([size + 1, count, count, spans])
        )
        column = columns[side * count : (side + 1) * count]
        found.append(ListedEntries(ptr, column, (one, other), rest.reshape(-1, 4)))
    return found[0], found[1]


class BlockProduct:
    """A = Σ_k u_k v_k^T on listed rows and columns, in float32 or float64, for many columns.

    At most `threads` threads multiply; 0 stands for `num_threads`.
    """

    def __init__(self, index: BlockIndex, contents: list[Array], *, threads: int = 0) -> None:
        self.index, self.threads = index, threads
        (self._rows, self._cols, spans), self.shape = index.arrays, index.shape
        self._u, self._v = (np.ascontiguousarray(c) for c in contents)
        self._spans = spans
        self._work = self._u.size + self._v.size
        self._zeros = np.zeros(max(index.shape), self._u.dtype)

    @cached_property
    def _forwards(self) -> tuple[Any, ...]:
        u, v, entries = self._u, self._v, self.index.sides[0]
        return self._rows, u, self._cols, v, entries.spans, entries.filled(u, v)

    @cached_property
    def _backwards(self) -> tuple[Any, ...]:
        u, v, entries = self._u, self._v, self.index.sides[1]
        return self._cols, v, self._rows, u, entries.spans, entries.filled(v, u)

    @cached_property
    def _single(self) -> SliceProduct:
        entries, slices = self.index.slices(self._u.dtype, adjoint=False)
        return SliceProduct(slices, entries.filled(self._u, self._v)[2])

    @cached_property
    def _single_adjoint(self) -> SliceProduct:
        entries, slices = self.index.slices(self._u.dtype, adjoint=True)
        return SliceProduct(slices, entries.filled(self._v, self._u)[2])

    def _is_single(self, x: Array) -> bool:
        return x.shape[1] <= MOST_SINGLE_VECTORS and self.index.has_few_entries

    def lists(self, x: Array) -> bool:
        """Tell whether an operand is multiplied by listed places, here or elsewhere."""
        return True

    def listed(self, index: BlockIndex) -> "BlockProduct":
        """The product of the same contents at other places."""
        return BlockProduct(index, [self._u, self._v], threads=self.threads)

    def multiply(self, x: Array, *, by_columns: bool = False, plus: Array | None = None) -> Array:
        """A x: (n, k) to (m, k), in memory column after column if asked.

        `plus`, (m,), is added to every column.
        """
        if self._is_single(x):
            return self._single.multiply(x, plus)
        return self._product(self._forwards, x, self.shape, by_columns, plus)

    def multiply_adjoint(self, y: Array, *, by_columns: bool = False) -> Array:
        """A^T y: (m, k) to (n, k), in memory column after column if asked."""
        if self._is_single(y):
            return self._single_adjoint.multiply(y)
        return self._product(self._backwards, y, self.shape[::-1], by_columns)

    def gradients(
        self, x: Array, grad: Array, *, operand: bool
    ) -> tuple[Array | None, Array, Array]:
        """Gradients of y = A x by the operand, if wanted, and by the contents u and v.

        The gradient by x, (n, k), lies in memory column after column.
        """
        sides = self._rows, self._u, self._cols, self._v, self._spans
        by_x = np.empty(x.shape[::-1], self._u.dtype).T if operand else None
        target = (0, 0, 0) if by_x is None else _place(by_x)
        parts = {-1: (np.zeros_like(self._u), np.zeros_like(self._v))}

        def work(first: int, last: int, vectors: int, width: int) -> None:
            own = parts[first] = np.zeros_like(self._u), np.zeros_like(self._v)
            arrays = _place(x), _place(grad), target
            gradient_columns(*sides, *arrays, self.shape, own, first, last, vectors, width)

        self._over_columns(work, x.shape[1], 3)
        # In the order of the columns, whichever thread was first.
        ordered = [parts[first] for first in sorted(parts)]
        by_u, by_v = (sum(same[1:], same[0]) for same in zip(*ordered, strict=True))
        return by_x, by_u, by_v

    def _product(
        self,
        sides: tuple[Any, ...],
        x: Array,
        shape: tuple[int, int],
        by_columns: bool,
        plus: Array | None = None,
    ) -> Array:
        m, count, dtype = shape[0], x.shape[1], self._u.dtype
        y = np.empty((count, m), dtype).T if by_columns else np.empty((m, count), dtype)
        start = self._zeros[:m] if plus is None else plus
        memory = _memory(x), _memory(y)

        def work(first: int, last: int, vectors: int, width: int) -> None:
            multiply_columns(*sides, start, *memory, shape, first, last, vectors, width)

        self._over_columns(work, count, 1)
        return y

    def _over_columns(self, work: Any, count: int, passes: int) -> None:
        """Run `work` on ranges of columns, as wide as registers allow, shared among threads."""
        vectors, width = column_group(count, self._u.dtype)
        whole, total = count // width, count * passes * self._work
        # The environment, which says how many threads there are, is not read for small products.
        most = total // THREAD_MULTIPLICATIONS + 1
        threads = min(self.threads or num_threads(), most) if most > 1 else 1
        shared_out(lambda a, b: work(a * width, b * width, vectors, width), whole, threads)
        if whole * width < count:
            work(whole * width, count, *column_group(count - whole * width, self._u.dtype))


def _sizes(spans: Array) -> tuple[Array, Array]:
    """Rows and columns of blocks."""
    return spans[:, 1] - spans[:, 0], spans[:, 3] - spans[:, 2]


def _memory(array: Array) -> tuple[Array, int, int]:
    """All numbers of an array in the order of memory, and bytes from row to row and column."""
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = np.ascontiguousarray(array)
    # Quicker than to ask for the address.
    row, column = array.strides
    return array.ravel("K"), row, column


def _place(array: Array) -> tuple[int, int, int]:
    """Address of an array in memory, and bytes from row to row and from column to column."""
    row, column = array.strides
    return int(array.__array_interface__["data"][0]), row, column
