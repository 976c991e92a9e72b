"""Products by compiled kernels on NumPy arrays: one vector at a time, or many columns at once.

Both need Numba (extra ``fast``). Single vectors are bound by memory: `VectorFactor` reads
every stored scalar once. Many columns are bound by arithmetic: `TileFactor` keeps sums in
registers, and `TileProduct` takes a column group through both factors of a matrix, so that
the numbers between them stay in the processor's cache.

Results are the same, bit for bit, with any number of threads.
"""

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np

from structmat.kernels.bound import BoundFactor, BoundKernel, Chain, Orders
from structmat.kernels.cpu.columns import TileFactor, TileProduct
from structmat.kernels.cpu.crew import board_for
from structmat.kernels.cpu.row_groups import RowGroups, first_address
from structmat.kernels.cpu.threads import num_threads
from structmat.kernels.cpu.vector_loops import (
    BOUNDS,
    CACHE_BYTES,
    CELLS,
    FAR,
    INDEX,
    PADDED,
    PIECES,
    PLACES,
    PTR,
    ROWS,
    register_rows,
)
from structmat.kernels.cpu.vector_steps import multiply_vectors
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import Pattern, RunPattern

Array = np.ndarray
#: Bytes of cells from which on one more thread pays. A helper costs about 5 microseconds, to be
#: asked and to move operands between cores, in which one thread reads half as many bytes.
THREAD_BYTES = 700_000
#: Bytes of a piece of work, at least, and number of pieces of a factor at most.
_PIECE_BYTES, _MOST_PIECES = 32_768, 64
#: Cells that take as long as the start of a row group or column.
_CELLS_TO_START = 4


class _Step:
    """One direction of a factor as compiled kernels take it: the address of a few words."""

    def __init__(
        self, ptr: Array, index: Array, cells: Array, frame: tuple[int, int, Array], grain: int
    ) -> None:
        rows, padded, places = frame
        pieces = min(max(cells.nbytes // _PIECE_BYTES, 1), _MOST_PIECES)
        # A group, or column, costs something by itself.
        cost = ptr + _CELLS_TO_START * np.arange(ptr.size)
        cuts = np.searchsorted(cost, cost[-1] * np.arange(1, pieces) // pieces)
        bounds = np.concatenate([[0], cuts // grain * grain, [ptr.size - 1]])
        words = np.zeros(PADDED + 1, np.int64)
        for place, array in ((PTR, ptr), (INDEX, index), (CELLS, cells), (BOUNDS, bounds)):
            words[place] = first_address(array)
        words[[FAR, PIECES]] = cells.nbytes > CACHE_BYTES, pieces
        words[[PLACES, ROWS, PADDED]] = first_address(places) if places.size else 0, rows, padded
        # The words hold addresses: the arrays stay as long as they do.
        self._arrays = ptr, index, cells, places, bounds, words
        self.address, self.bytes = first_address(words), cells.nbytes


class _Passage:
    """A passage of vectors through one factor or two: the arguments of `multiply_vectors`.

    Results have `rows` rows, and `count` numbers are collected on the way to the second step.
    """

    def __init__(
        self,
        rows: int,
        collect: _Step | None,
        spread: _Step | None,
        count: int = 0,
        through: int = 0,
    ) -> None:
        self._steps = steps = [collect, spread]
        first, second = (0 if step is None else step.address for step in steps)
        self._arguments = first, second, count, through
        self._rows = rows
        #: Threads that are worth their start.
        self._threads = sum(s.bytes for s in steps if s is not None) // THREAD_BYTES + 1

    def multiply(self, x: Array, threads: int = 0) -> Array:
        """Products of the columns of `x` on some threads, in memory column after column."""
        out = np.empty((x.shape[1], self._rows), x.dtype)
        board, parts = 0, 1
        if self._threads > 1:
            board, parts = board_for(min(self._threads, threads or num_threads()))
        multiply_vectors(board, parts, *self._arguments, np.ascontiguousarray(x.T), out)
        return out.T


class VectorFactor:
    """A real sparse factor S, (n, K), that multiplies one vector at a time.

    Contents are float32 or float64. Columns that are runs may be taken in another order, and
    row i of the factor may lie at ``rows[i]``.
    """

    def __init__(
        self,
        pattern: Pattern,
        contents: Array,
        order: Array | None = None,
        rows: Array | None = None,
    ) -> None:
        self.shape, self._contents = pattern.shape, contents
        self._pattern, self._order, self._at = pattern, order, rows
        self._rows = register_rows(contents.dtype)

    def _cut(self) -> RowGroups:
        # Not kept: it takes more memory than the contents.
        return RowGroups.of(self._pattern, self._rows, self._contents.size, self._order)

    @cached_property
    def spread(self) -> _Step:
        """The factor by row groups."""
        groups = self._cut()
        cells = groups.filled(self._contents)
        return _Step(groups.ptr, groups.column, cells, self._frame(groups), 1)

    @cached_property
    def collect(self) -> _Step:
        """The factor by columns."""
        groups = self._cut()
        ptr, group, order = groups.by_columns()
        cells = groups.filled(self._contents, order)
        return _Step(ptr, group, cells, self._frame(groups), self._rows)

    def _frame(self, groups: RowGroups) -> tuple[int, int, Array]:
        """Rows, rows once all groups have one height, and the place of every row then.

        An empty array of places means the identity.
        """
        begin, rows, height = groups.begin, groups.rows, self._rows
        padded, count = rows.size * height, self.shape[0]
        even = np.array_equal(begin, np.arange(begin.size) * height)
        if even and self._at is None:
            return count, padded, np.zeros(0, np.int64)
        first = np.arange(begin.size) * height - (np.cumsum(rows) - rows)
        places = np.repeat(first, rows) + np.arange(count)
        if self._at is not None:
            places[self._at] = places.copy()
        return count, padded, places

    def with_rows_at(self, rows: Array | None) -> "VectorFactor":
        """The same factor whose row i lies at ``rows[i]``."""
        return VectorFactor(self._pattern, self._contents, self._order, rows)

    @cached_property
    def _forwards(self) -> _Passage:
        return _Passage(self.shape[0], None, self.spread)

    @cached_property
    def _backwards(self) -> _Passage:
        return _Passage(self.shape[1], self.collect, None)

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z, column after column: (K, k) to (n, k)."""
        return self._forwards.multiply(z)

    def rmatmat(self, y: Array) -> Array:
        """S^T y, column after column: (n, k) to (K, k)."""
        return self._backwards.multiply(y)


class VectorProduct:
    """The matrix R C^T, or R alone, or, `through`, R [C^T; I], for one vector at a time.

    At most `threads` threads multiply; 0 stands for `num_threads`.
    """

    index = Orders()

    def __init__(
        self, row: VectorFactor, col: VectorFactor | None, *, through: bool, threads: int = 0
    ) -> None:
        self._row, self._col, self._through, self.threads = row, col, through, threads

    def lists(self, x: Array) -> bool:
        """Tell whether rows and columns can be put elsewhere: not where x meets R itself."""
        return self._col is not None and not self._through

    def listed(self, index: Orders) -> "VectorProduct":
        """The product by the same contents with rows and columns at other places."""
        row, col = self._row.with_rows_at(index.rows), self._col
        col = None if col is None else col.with_rows_at(index.cols)
        return VectorProduct(row, col, through=self._through, threads=self.threads)

    @cached_property
    def _forwards(self) -> _Passage:
        row, col = self._row, self._col
        if col is None:
            return _Passage(row.shape[0], None, row.spread)
        return _Passage(row.shape[0], col.collect, row.spread, col.shape[1], int(self._through))

    @cached_property
    def _backwards(self) -> _Passage:
        row, col = self._row, self._col
        if col is None:
            return _Passage(row.shape[1], row.collect, None)
        return _Passage(col.shape[0], row.collect, col.spread, row.shape[1], -int(self._through))

    def multiply(self, x: Array, *, by_columns: bool = False, plus: Array | None = None) -> Array:
        """A x, column after column: (n, k) to (m, k); `plus`, (m,), is added to every column."""
        y = self._forwards.multiply(x, self.threads)
        if plus is not None:
            y += plus[:, None]
        return y

    def multiply_adjoint(self, y: Array, *, by_columns: bool = False) -> Array:
        """A^T y, column after column: (m, k) to (n, k)."""
        return self._backwards.multiply(y, self.threads)


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


def vector_product(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    """A matrix by `VectorFactor`: both factors at once where they are real.

    Blocks of runs are sorted by the start of the entries that they read: most of what a
    product reads next then is in the cache already.
    """
    patterns = structure.patterns
    runs = [pattern.start for pattern in patterns if isinstance(pattern, RunPattern)]
    order = np.argsort(runs[-1], kind="stable") if len(runs) == 2 else None
    pairs = zip(patterns, contents, strict=True)
    row, *rest = (factor_of(partial(VectorFactor, order=order), p, c) for p, c in pairs)
    col = rest[0] if rest else None
    if isinstance(row, VectorFactor) and isinstance(col, VectorFactor | None):
        return VectorProduct(row, col, through=structure.through)
    return Chain(structure, row, col)


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
