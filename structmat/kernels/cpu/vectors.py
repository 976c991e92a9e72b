"""Products by compiled kernels on NumPy arrays: one vector at a time, or many columns at once.

Both need Numba (extra ``fast``). Single vectors are bound by memory: `VectorFactor` reads
every stored scalar once. Many columns are bound by arithmetic: `TileFactor` keeps sums in
registers, and `TileProduct` takes a column group through both factors of a matrix, so that
the numbers between them stay in the processor's cache.

Results are the same, bit for bit, with any number of threads.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np

from structmat.kernels.bound import BoundFactor, BoundKernel, Chain
from structmat.kernels.cpu.columns import THREAD_MULTIPLICATIONS, TileFactor, TileProduct
from structmat.kernels.cpu.row_groups import RowGroups, aligned
from structmat.kernels.cpu.threads import num_threads, shared_out
from structmat.kernels.cpu.vector_loops import collect_vector, register_rows, spread_vector
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import Pattern, RunPattern

Array = np.ndarray


class VectorFactor:
    """A real sparse factor S, (n, K), that multiplies one vector at a time.

    Contents are float32 or float64. Columns that are runs may be taken in another order.
    """

    def __init__(self, pattern: Pattern, contents: Array, order: Array | None = None) -> None:
        self.shape, self._contents = pattern.shape, contents
        self._pattern, self._order = pattern, order
        self._rows = register_rows(contents.dtype)
        self._threads_worth = contents.size // THREAD_MULTIPLICATIONS + 1

    def _cut(self) -> RowGroups:
        # Not kept: it takes more memory than the contents.
        return RowGroups.of(self._pattern, self._rows, self._contents.size, self._order)

    @cached_property
    def _by_groups(self) -> tuple[Array, ...]:
        groups = self._cut()
        return groups.ptr, groups.column, groups.filled(self._contents)

    @cached_property
    def _by_columns(self) -> tuple[Array, ...]:
        groups = self._cut()
        ptr, group, order = groups.by_columns()
        cells = groups.filled(self._contents)
        return ptr, group, np.take(cells, order, axis=0, out=aligned(cells.shape, cells.dtype))

    @cached_property
    def _frame(self) -> tuple[int, Array]:
        """Number of row groups, and the place of every row once all have one height.

        An empty array of places means the identity.
        """
        groups, height = self._cut(), self._rows
        begin, rows = groups.begin, groups.rows
        if np.array_equal(begin, np.arange(begin.size) * height):
            return rows.size, np.zeros(0, np.int64)
        first = np.arange(begin.size) * height - (np.cumsum(rows) - rows)
        return rows.size, np.repeat(first, rows) + np.arange(self.shape[0])

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z, column after column: (K, k) to (n, k)."""
        groups, places = self._frame
        out = np.empty((z.shape[1], groups * self._rows), z.dtype)
        for column, y in zip(_vectors(z), out, strict=True):
            self._shared(spread_vector, (*self._by_groups, column, y), groups)
        return (out[:, places] if places.size else out[:, : self.shape[0]]).T

    def rmatmat(self, y: Array) -> Array:
        """S^T y, column after column: (n, k) to (K, k)."""
        out = np.empty((y.shape[1], self.shape[1]), y.dtype)
        for column, z in zip(_vectors(y), out, strict=True):
            arguments = (*self._by_columns, self._frame[1], column, z)
            self._shared(collect_vector, arguments, self.shape[1])
        return out.T

    def _shared(self, kernel: Any, arguments: tuple[Array, ...], count: int) -> None:
        threads = min(num_threads(), self._threads_worth) if self._threads_worth > 1 else 1
        if threads == 1:
            kernel(*arguments, 0, count)
        else:
            shared_out(lambda first, last: kernel(*arguments, first, last), count, threads)


def _vectors(x: Array) -> Array:
    """Columns, each in one piece of memory."""
    return np.ascontiguousarray(x.T)


class ComplexFactor:
    """A complex sparse factor, multiplied by its real and its imaginary part."""

    def __init__(self, real: BoundFactor, imaginary: BoundFactor) -> None:
        self._parts = real, imaginary

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z: (K, k) to (n, k)."""
        a, b = (part.matmat(_split(z)) for part in self._parts)
        return _joined(a, b, 1)

    def rmatmat(self, y: Array) -> Array:
        """S^H y: (n, k) to (K, k)."""
        a, b = (part.rmatmat(_split(y)) for part in self._parts)
        return _joined(a, b, -1)


def vector_factors(patterns: list[Pattern], contents: list[Array]) -> list[BoundFactor]:
    """Factors of one matrix by `VectorFactor`.

    Blocks of runs are sorted by the start of the entries that they read: most of what a
    product reads next then is in the cache already.
    """
    runs = [pattern.start for pattern in patterns if isinstance(pattern, RunPattern)]
    order = np.argsort(runs[-1], kind="stable") if len(runs) == 2 else None
    pairs = zip(patterns, contents, strict=True)
    return [factor_of(partial(VectorFactor, order=order), p, c) for p, c in pairs]


def factor_of(
    kind: Callable[[Pattern, Array], BoundFactor], pattern: Pattern, contents: Array
) -> BoundFactor:
    """A factor of real or complex contents by `VectorFactor` or `TileFactor`."""
    if contents.dtype.kind != "c":
        return kind(pattern, contents)
    parts = contents.real.copy(), contents.imag.copy()
    return ComplexFactor(*(kind(pattern, part) for part in parts))


def tile_product(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    """A matrix by `TileFactor`: both factors at once where they are real."""
    pairs = zip(structure.patterns, contents, strict=True)
    row, *rest = (factor_of(TileFactor, p, c) for p, c in pairs)
    col = rest[0] if rest else None
    if isinstance(row, TileFactor) and isinstance(col, TileFactor | None):
        return TileProduct(row, col, through=structure.through)
    return Chain(structure, row, col)


def _split(x: Array) -> Array:
    """Real parts of all columns, then imaginary ones."""
    return np.concatenate([x.real, x.imag], axis=1)


def _joined(a: Array, b: Array, sign: int) -> Array:
    """Join (a_r | a_i) and (b_r | b_i): a_r - sign b_i + i (a_i + sign b_r)."""
    k = a.shape[1] // 2
    out = np.empty((a.shape[0], k), np.result_type(a.dtype, np.complex64))
    out.real = a[:, :k] - sign * b[:, k:]
    out.imag = a[:, k:] + sign * b[:, :k]
    return out
