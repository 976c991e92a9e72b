"""Products by compiled kernels on NumPy arrays: one vector at a time, or many columns at once.

Both need Numba (extra ``fast``). Single vectors are bound by memory: `VectorFactor` reads
every stored scalar once. Many columns are bound by arithmetic: `TileFactor` keeps sums in
registers, and `TileProduct` takes a panel of columns through both factors of a matrix at
once, so that what stands between them stays in the processor's cache.

Results are the same, bit for bit, whatever the number of threads.
"""

from functools import cached_property
from typing import Any

import numpy as np

from structmat.kernels.cpu_copies import load_panel, store_panel
from structmat.kernels.cpu_tiles import ROWS, collect_panel, panel_columns, spread_panel
from structmat.kernels.cpu_vectors import collect_vector, spread_vector, strip_rows
from structmat.kernels.layout import Pattern
from structmat.kernels.strips import Strips, aligned
from structmat.kernels.threads import num_threads, shared_out

__all__ = ["TileFactor", "TileProduct", "VectorFactor", "factor_of", "product_of"]

#: Multiplications that are worth waking a thread for.
_SHARE = 2_000_000
Array = np.ndarray


class VectorFactor:
    """A real sparse factor S, (n, K), that multiplies one vector at a time.

    Parameters
    ----------
    pattern : Pattern
    contents : ndarray, shape (total,)
        float32 or float64.
    """

    def __init__(self, pattern: Pattern, contents: Array) -> None:
        self.shape, self._contents = pattern.shape, contents
        self._pattern, self._rows = pattern, strip_rows(contents.dtype)
        self._threads_worth = contents.size // _SHARE + 1

    @cached_property
    def _strips(self) -> Strips:
        return Strips.of(self._pattern, self._rows, self._contents.size)

    @cached_property
    def _by_strips(self) -> tuple[Array, ...]:
        return self._strips.ptr, self._strips.column, self._strips.filled(self._contents)

    @cached_property
    def _by_columns(self) -> tuple[Array, ...]:
        ptr, strip, order = self._strips.by_columns()
        cells = self._strips.filled(self._contents)
        return ptr, strip, np.take(cells, order, axis=0, out=aligned(cells.shape, cells.dtype))

    @cached_property
    def _places(self) -> Array:
        """Where every row stands when strips are padded; empty where rows stay in place."""
        begin, rows, height = self._strips.begin, self._strips.rows, self._rows
        if np.array_equal(begin, np.arange(begin.size) * height):
            return np.zeros(0, np.int64)
        first = np.arange(begin.size) * height - (np.cumsum(rows) - rows)
        return np.repeat(first, rows) + np.arange(self.shape[0])

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z, column after column: (K, k) to (n, k)."""
        strips, places = self._strips.rows.size, self._places
        out = np.empty((z.shape[1], strips * self._rows), z.dtype)
        for column, y in zip(_vectors(z), out, strict=True):
            self._shared(spread_vector, (*self._by_strips, column, y), strips)
        return (out[:, places] if places.size else out[:, : self.shape[0]]).T

    def rmatmat(self, y: Array) -> Array:
        """S^T y, column after column: (n, k) to (K, k)."""
        out = np.empty((y.shape[1], self.shape[1]), y.dtype)
        for column, z in zip(_vectors(y), out, strict=True):
            arguments = (*self._by_columns, self._places, column, z)
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
    return [x.reshape(-1)] if x.shape[1] == 1 else np.ascontiguousarray(x.T)


class TileFactor:
    """A real sparse factor S, (n, K), that multiplies panels of many columns.

    Parameters
    ----------
    pattern : Pattern
    contents : ndarray, shape (total,)
        float32 or float64.
    """

    def __init__(self, pattern: Pattern, contents: Array) -> None:
        self.shape, self._pattern, self._contents = pattern.shape, pattern, contents

    @cached_property
    def _strips(self) -> tuple[Array, ...]:
        strips = Strips.of(self._pattern, ROWS, self._contents.size)
        cells = strips.filled(self._contents)
        return strips.begin, strips.rows, strips.ptr, strips.column, cells

    @property
    def work(self) -> int:
        """Multiplications for one column, padding included."""
        return self._strips[-1].size

    def spread(self, middle: Array, place: "_Place") -> None:
        """Write S z for one panel; `middle` has a row more than z, which is overwritten."""
        spread_panel(*self._strips, middle, place.address, place.row, place.vectors)

    def collect(self, middle: Array, place: "_Place") -> None:
        """Write S^T y for one panel to `middle`, which has a row more than that."""
        collect_panel(*self._strips, middle, place.address, place.row, place.vectors)

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z: (K, k) to (n, k), in memory column after column if asked."""
        return TileProduct(self, None, through=True).multiply(z, by_columns=by_columns)

    def rmatmat(self, y: Array) -> Array:
        """S^T y: (n, k) to (K, k)."""
        return TileProduct(self, None, through=True).multiply_adjoint(y)


class _Place:
    """Some columns of an array as a kernel is to read or write them: direct, or by a panel.

    Kernels take rows of whole registers, one after another; anything else goes through
    a panel of its own.
    """

    def __init__(self, array: Array, first: int, panel: Array, count: int) -> None:
        self.array, self.first = array, first
        self.width = min(panel.shape[1], array.shape[1] - first)
        row, column = array.strides
        direct = column == array.itemsize and self.width == panel.shape[1]
        self.panel = None if direct else panel
        self.vectors = count
        self.lanes = panel.shape[1] // count
        self._begin = array.ctypes.data + first * column
        self.address = self._begin if direct else panel.ctypes.data
        self.row = row if direct else panel.strides[0]

    def load(self, panel: Array | None = None) -> None:
        """Fill a panel, by default the place's own, from the array."""
        panel = self.panel if panel is None else panel
        if panel is not None:
            rows, strides = self.array.shape[0], self.array.strides
            load_panel(self._begin, *strides, rows, self.width, panel, self.lanes)

    def store(self, panel: Array | None = None) -> None:
        """Copy a panel, by default the place's own, to the array."""
        panel = self.panel if panel is None else panel
        if panel is not None:
            rows, strides = self.array.shape[0], self.array.strides
            store_panel(panel, self._begin, *strides, rows, self.width, self.lanes)


class TileProduct:
    """The matrix R C^T, or R alone, or R [C^T; I], times panels of columns.

    Parameters
    ----------
    row : TileFactor
        R.
    col : TileFactor or None
        C; None for R alone.
    through : bool
        Whether the operand itself follows C^T x in what R multiplies.
    """

    def __init__(self, row: TileFactor, col: TileFactor | None, *, through: bool) -> None:
        self.row, self.col, self.through = row, col, through
        self._middle = 0 if col is None else col.shape[1]

    def multiply(self, x: Array, *, by_columns: bool = False) -> Array:
        """A x: (n, k) to (m, k), in memory column after column if asked."""
        out = _empty((self.row.shape[0], x.shape[1]), x.dtype, by_columns)
        self._panels(x, out, self._panel)
        return out

    def multiply_adjoint(self, y: Array, *, by_columns: bool = False) -> Array:
        """A^T y: (m, k) to (n, k), in memory column after column if asked."""
        size = self.row.shape[1] - self._middle if self.col is None else self.col.shape[0]
        out = _empty((size, y.shape[1]), y.dtype, by_columns)
        self._panels(y, out, self._adjoint_panel)
        return out

    def _panel(self, middle: Array, source: _Place, target: _Place) -> None:
        if self.col is not None:
            source.load()
            self.col.collect(middle[: self._middle + 1], source)
        if self.through:
            source.load(middle[self._middle :])
        self.row.spread(middle, target)
        target.store()

    def _adjoint_panel(self, middle: Array, source: _Place, target: _Place) -> None:
        source.load()
        self.row.collect(middle, source)
        if self.col is None:
            target.store(middle)
            return
        passed = middle[self._middle : -1].copy() if self.through else None
        self.col.spread(middle[: self._middle + 1], target)
        target.store()
        if passed is not None:
            columns = slice(target.first, target.first + target.width)
            target.array[:, columns] += passed[:, : target.width]

    def _panels(self, x: Array, out: Array, run: Any) -> None:
        """Run over panels of columns, the last ones as narrow as they can be."""
        columns, begins = x.shape[1], []
        first = 0
        while first < columns:
            vectors, width = panel_columns(columns - first, x.dtype)
            begins.append((first, vectors, width))
            first += width

        def work(low: int, high: int) -> None:
            memory: dict[int, tuple[Array, ...]] = {}
            for first, vectors, width in begins[low:high]:
                if width not in memory:
                    rows = (self.row.shape[1] + 1, x.shape[0], out.shape[0])
                    memory[width] = tuple(aligned((size, width), x.dtype) for size in rows)
                middle, before, after = memory[width]
                run(middle, _Place(x, first, before, vectors), _Place(out, first, after, vectors))

        work_of_all = columns * (self.row.work + (self.col.work if self.col else 0))
        threads = min(num_threads(), work_of_all // _SHARE + 1)
        shared_out(work, len(begins), threads)


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


def factor_of(kind: type, pattern: Pattern, contents: Array) -> Any:
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


def _empty(shape: tuple[int, int], dtype: Any, by_columns: bool) -> Array:
    return np.empty(shape[::-1], dtype).T if by_columns else np.empty(shape, dtype)


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
