"""Products by compiled kernels on NumPy arrays: one vector at a time, or many columns at once.

Both need Numba (extra ``fast``). Single vectors are bound by memory: `VectorFactor` reads
every stored scalar once. Many columns are bound by arithmetic: `TileFactor` keeps sums in
registers, and `TileProduct` takes a panel of columns through both factors of a matrix at
once, so that what stands between them stays in the processor's cache.

Results are the same, bit for bit, whatever the number of threads.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np

from structmat.kernels.cpu.columns import SHARE, TileFactor, TileProduct
from structmat.kernels.cpu.row_groups import Strips, aligned
from structmat.kernels.cpu.threads import num_threads, shared_out
from structmat.kernels.cpu.vector_loops import collect_vector, spread_vector, strip_rows
from structmat.kernels.layouts.panels import Pattern, RunPattern

Array = np.ndarray


class VectorFactor:
    """A real sparse factor S, (n, K), that multiplies one vector at a time.

    Parameters
    ----------
    pattern : Pattern
    contents : ndarray, shape (total,)
        float32 or float64.
    order : ndarray of int, optional
        Another order of the columns, where they are runs.
    """

    def __init__(self, pattern: Pattern, contents: Array, order: Array | None = None) -> None:
        self.shape, self._contents = pattern.shape, contents
        self._pattern, self._order = pattern, order
        self._rows = strip_rows(contents.dtype)
        self._threads_worth = contents.size // SHARE + 1

    def _cut(self) -> Strips:
        # Not kept: it takes more memory than the contents.
        return Strips.of(self._pattern, self._rows, self._contents.size, self._order)

    @cached_property
    def _by_strips(self) -> tuple[Array, ...]:
        strips = self._cut()
        return strips.ptr, strips.column, strips.filled(self._contents)

    @cached_property
    def _by_columns(self) -> tuple[Array, ...]:
        strips = self._cut()
        ptr, strip, order = strips.by_columns()
        cells = strips.filled(self._contents)
        return ptr, strip, np.take(cells, order, axis=0, out=aligned(cells.shape, cells.dtype))

    @cached_property
    def _frame(self) -> tuple[int, Array]:
        """How many strips there are, and where every row stands when all have one height.

        No places say that rows stay where they are.
        """
        strips, height = self._cut(), self._rows
        begin, rows = strips.begin, strips.rows
        if np.array_equal(begin, np.arange(begin.size) * height):
            return rows.size, np.zeros(0, np.int64)
        first = np.arange(begin.size) * height - (np.cumsum(rows) - rows)
        return rows.size, np.repeat(first, rows) + np.arange(self.shape[0])

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z, column after column: (K, k) to (n, k)."""
        strips, places = self._frame
        out = np.empty((z.shape[1], strips * self._rows), z.dtype)
        for column, y in zip(_vectors(z), out, strict=True):
            self._shared(spread_vector, (*self._by_strips, column, y), strips)
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


def _vectors(x: Array) -> Any:
    """Columns, each in one piece of memory."""
    return np.ascontiguousarray(x.T)


class ComplexFactor:
    """A complex sparse factor: four real products by its real and its imaginary part.

    Parameters
    ----------
    real, imaginary : VectorFactor or TileFactor
    """

    def __init__(self, real: Any, imaginary: Any) -> None:
        self._parts = real, imaginary

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z: (K, k) to (n, k)."""
        a, b = (part.matmat(_split(z)) for part in self._parts)
        return _joined(a, b, 1)

    def rmatmat(self, y: Array) -> Array:
        """S^H y: (n, k) to (K, k)."""
        a, b = (part.rmatmat(_split(y)) for part in self._parts)
        return _joined(a, b, -1)


def vector_factors(patterns: list[Pattern], contents: list[Array]) -> list[Any]:
    """Factors of one matrix by `VectorFactor`.

    Blocks go by where the columns that they read begin: what a product reads next then
    is in the cache already.
    """
    runs = [pattern.start for pattern in patterns if isinstance(pattern, RunPattern)]
    order = np.argsort(runs[-1], kind="stable") if len(runs) == 2 else None
    pairs = zip(patterns, contents, strict=True)
    return [factor_of(partial(VectorFactor, order=order), p, c) for p, c in pairs]


def factor_of(kind: Callable[..., Any], pattern: Pattern, contents: Array) -> Any:
    """A factor of real or complex contents by `VectorFactor` or `TileFactor`."""
    if contents.dtype.kind != "c":
        return kind(pattern, contents)
    parts = contents.real.copy(), contents.imag.copy()
    return ComplexFactor(*(kind(pattern, part) for part in parts))


def product_of(row: Any, col: Any, through: bool) -> TileProduct | None:
    """Both factors at once, where they are real and multiply panels."""
    if not isinstance(row, TileFactor) or not isinstance(col, TileFactor | None):
        return None
    return TileProduct(row, col, through=through)


def _split(x: Array) -> Array:
    """Real parts of all columns, then imaginary ones."""
    return np.concatenate([x.real, x.imag], axis=1)


def _joined(a: Array, b: Array, sign: int) -> Array:
    """Of (a_r | a_i) and (b_r | b_i): a_r - sign b_i + i (a_i + sign b_r)."""
    k = a.shape[1] // 2
    out = np.empty((a.shape[0], k), np.result_type(a.dtype, np.complex64))
    out.real = a[:, :k] - sign * b[:, k:]
    out.imag = a[:, k:] + sign * b[:, :k]
    return out
