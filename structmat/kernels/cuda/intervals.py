"""Interval factors on a GPU: CUDA kernels through CuPy, for one vector and small batches.

The source is `intervals.cu`, compiled by CuPy when a kernel is first launched, one
template instance at a time. CuPy is imported by whoever made the contents, never here.
"""

from contextlib import AbstractContextManager
from functools import cache
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, backend_name, backend_of, computing_on, namespace
from structmat._checks import check_runs
from structmat.errors import BackendError, InputError, ShapeError
from structmat.intervals import IntArray, offsets

# Names of the dtypes in the source.
SCALARS = {
    "float32": "float",
    "float64": "double",
    "complex64": "Complex<float>",
    "complex128": "Complex<double>",
}
#: Rows or runs at most: their sums with the size of a block have to fit in 32 bits.
MOST_ROWS = 2**31 - 2**12
#: Blocks of threads that one launch counts.
MOST_BLOCKS = 2**31 - 1
#: Warps, and blocks of threads, that keep a large device busy.
BUSY_WARPS, BUSY_BLOCKS = 4096, 128


class CudaIntervals:
    """An interval factor S, shape (n, K), bound to CUDA kernels.

    Column k holds its packed contents on the cyclic run of `width[k]` rows from
    `start[k]` on. Results do not vary from call to call: nothing is added atomically.

    The runs lie on the host; the contents, packed run after run, are CuPy's, in float32,
    float64, complex64 or complex128. Their number and that of an operand's entries are not
    bounded; n and K have to fit in 32 bits. The namespace `xp` has ``empty``, ``asarray`` and
    ``RawModule``; by default it is that of the contents.

    Notes
    -----
    With scalars of s bytes, k <= 8 columns and W = Σ widths, `rmatmat` reads W s bytes of
    contents, 12 a run of structure, n k s of the operand, and writes K k s. `matmat` reads
    W s bytes of contents, 16 for each pair of a run and a tile of 32 to 128 rows that meet
    (about W / 32 to W / 128 of them, and two more a run), K k s of the operand, and writes
    n k s. Operand, structure and the columns beyond the eighth, which read the contents
    again, are mostly found in caches.

    Examples
    --------
    One run, on the last and first of four rows:

    >>> import cupy  # doctest: +SKIP
    >>> S = CudaIntervals([3], [2], 4, cupy.array([1.0, 2.0]))  # doctest: +SKIP
    >>> S.matmat(cupy.ones((1, 1)))[:, 0]  # doctest: +SKIP
    array([2., 0., 0., 1.])
    """

    def __init__(
        self, start: Any, width: Any, n: int, contents: Array, xp: ModuleType | None = None
    ) -> None:
        self._xp = _cupy(contents) if xp is None else xp
        self._start, self._width = check_runs(start, width, n)
        self.shape = (n, self._width.size)
        if max(self.shape) > MOST_ROWS:
            raise InputError(
                f"shape = {self.shape}; expected at most {MOST_ROWS} rows and runs, which the "
                "kernels number in 32 bits (split the matrix)"
            )
        if str(contents.dtype) not in SCALARS:
            raise InputError(
                f"contents have dtype {contents.dtype}; expected one of {', '.join(SCALARS)} "
                "(convert them by astype)"
            )
        if contents.shape != (self._width.sum(),):
            raise ShapeError(
                f"contents have shape {tuple(contents.shape)}; expected "
                f"({self._width.sum()},), the sum of the widths"
            )
        self._backend, self._device = backend_of(self._xp), contents.device
        with self._computing(), self._backend.caching(self._xp):
            self._contents = _column_major(contents)
        self._scalar, self._size = SCALARS[str(contents.dtype)], contents.itemsize
        self._threads = _threads(self._width)
        self._runs: tuple[Array, Array] | None = None
        self._tiles: dict[int, tuple[Array, Array]] = {}

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S @ z: (K, k) to (n, k), in memory column after column if asked."""
        n, k = self.shape[0], self._columns_of(z, 1)
        with self._computing():
            y = self._empty((k, n)).T if by_columns else self._empty((n, k))
            if y.size:
                self._matmat(_column_major(z), y)
        return y

    def rmatmat(self, y: Array) -> Array:
        """S^H @ y: (n, k) to (K, k), in memory column after column."""
        k = self._columns_of(y, 0)
        with self._computing():
            z = self._empty((k, self.shape[1])).T
            if z.size:
                self._rmatmat(_column_major(y), z)
        return z

    def _matmat(self, z: Array, y: Array) -> None:
        (n, k), size = y.shape, self._size
        columns = _columns_of_block(k)
        rows = next(r for r in (4, 2, 1) if r == 1 or _many_rows(n, r, r * columns * size))
        if rows not in self._tiles:
            begin, pieces = tile_pieces(self._start, self._width, n, 32 * rows)
            self._tiles[rows] = self._placed(begin, pieces)
        begin, pieces = self._tiles[rows]
        tiles = -(-n // (32 * rows))
        most = min(32, 1024 // (rows * columns * size))
        warps = min(most, max(4, _power_of_two(BUSY_WARPS // tiles)))
        self._launch(
            f"matmat<{self._scalar}, {columns}, {rows}>",
            tiles * -(-k // columns),
            32 * warps,
            32 * warps * max(16 + columns * size, rows * columns * size),
            (
                *(self._contents, begin, pieces, np.int32(n)),
                *(z, np.int64(z.strides[1] // size), np.int32(k)),
                *(y, np.int64(y.strides[0] // size), np.int64(y.strides[1] // size)),
            ),
        )

    def _rmatmat(self, y: Array, z: Array) -> None:
        (n, runs), k, size, threads = self.shape, y.shape[1], self._size, self._threads
        if self._runs is None:
            start = self._start.astype(np.int32)
            self._runs = self._placed(offsets(self._width), start)
        columns, block = _columns_of_block(k), max(threads, 256)
        self._launch(
            f"rmatmat<{self._scalar}, {columns}, {threads}>",
            -(-runs // (block // threads)) * -(-k // columns),
            block,
            threads // 32 * columns * size if threads > 32 else 0,
            (
                *(self._contents, *self._runs, np.int32(n), np.int32(runs)),
                *(y, np.int64(y.strides[1] // size), np.int32(k), z),
            ),
        )

    def _columns_of(self, x: Array, axis: int) -> int:
        """Number of columns of an operand whose rows match the factor on that axis."""
        if x.ndim != 2 or x.shape[0] != self.shape[axis]:
            raise ShapeError(
                f"operand of shape {tuple(x.shape)}; expected ({self.shape[axis]}, k) for an "
                f"interval factor of shape {self.shape}"
            )
        if x.shape[1] > MOST_ROWS:
            raise InputError(
                f"operand of {x.shape[1]} columns; expected at most {MOST_ROWS}, which the kernels "
                "number in 32 bits (multiply fewer at a time)"
            )
        if x.dtype != self._contents.dtype:
            raise InputError(
                f"operand of dtype {x.dtype}; expected {self._contents.dtype}, that of the "
                "contents (convert one by astype)"
            )
        if x.device != self._device:
            raise BackendError(
                f"operand on device {x.device}; expected {self._device}, that of the contents "
                "(move one of them)"
            )
        return int(x.shape[1])

    def _computing(self) -> AbstractContextManager[Any]:
        """The context in which new arrays lie beside the contents, and kernels run there."""
        return computing_on(self._xp, self._device)

    def _placed(self, first: Any, second: Any) -> tuple[Array, Array]:
        """Two arrays of the host on the current device, ready for products in any stream."""
        with self._backend.caching(self._xp):
            return self._xp.asarray(first), self._xp.asarray(second)

    def _empty(self, shape: tuple[int, int]) -> Array:
        return self._xp.empty(shape, dtype=self._contents.dtype)

    def _launch(
        self, name: str, blocks: int, threads: int, shared: int, arguments: tuple[Any, ...]
    ) -> None:
        if blocks > MOST_BLOCKS:
            raise InputError(
                f"{name} on a factor of shape {self.shape} takes {blocks} blocks of threads; "
                f"expected at most {MOST_BLOCKS} (multiply fewer columns at a time)"
            )
        _kernel(self._xp, name)((blocks,), (threads,), arguments, shared_mem=shared)


def tile_pieces(
    start: IntArray, width: IntArray, n: int, tile: int
) -> tuple[IntArray, NDArray[np.int32]]:
    """Pieces of runs in the tiles of an axis of n positions, for the blocks of threads.

    A tile has `tile` positions, fewer than 2**15. Tile t meets pieces ``begin[t]`` to
    ``begin[t + 1]``, in the order of runs. A run that comes around to its first tile meets
    that tile in two pieces.

    A piece is four words of 32 bits. The first two are a 64-bit number, the place of the
    tile's first position in the packed contents, as if the run covered it. The third is the
    run. The last holds the first position of the tile that the run covers and, 16 bits
    higher, the one after the last.

    Examples
    --------
    One run on positions 3, 0 and 1, of four in tiles of two:

    >>> begin, pieces = tile_pieces(np.array([3]), np.array([3]), 4, 2)
    >>> begin
    array([0, 1, 2])
    >>> pieces[:, :2].copy().view(np.int64).ravel(), pieces[:, 3] & 0xFFFF, pieces[:, 3] >> 16
    (array([ 1, -1]), array([0, 1], dtype=int32), array([2, 2], dtype=int32))
    """
    # Two straight segments a run: up to the edge, and on from the first position.
    head, begin = np.minimum(width, n - start), offsets(width)[:-1]
    first = np.stack([start, np.zeros_like(start)], axis=1).ravel()
    end = np.stack([start + head, width - head], axis=1).ravel()
    origin = np.stack([begin - start, begin + head], axis=1).ravel()
    filled = np.flatnonzero(end > first)
    count = (end[filled] - 1) // tile - first[filled] // tile + 1
    segment = np.repeat(filled, count)
    inside = np.arange(segment.size) - np.repeat(offsets(count)[:-1], count)
    at = first[segment] // tile + inside
    order = np.argsort(at, kind="stable")
    segment, at = segment[order], at[order]
    pieces = np.empty((at.size, 4), np.int32)
    pieces[:, :2] = (origin[segment] + at * tile)[:, None].view(np.int32)
    pieces[:, 2] = segment // 2
    pieces[:, 3] = np.maximum(first[segment] - at * tile, 0)
    pieces[:, 3] |= (np.minimum(end[segment] - at * tile, tile) << 16).astype(np.int32)
    return np.searchsorted(at, np.arange(-(-n // tile) + 1)), pieces


def _threads(width: IntArray) -> int:
    """Number of threads that share a run: part of a warp, a warp, or a block for few long runs."""
    mean = width.sum() / max(width.size, 1)
    if mean >= 1024 and width.size < BUSY_WARPS:
        return 512
    return 32 if mean > 64 else 8


def _columns_of_block(k: int) -> int:
    """Number of columns for one reading of the contents."""
    return min(8, _power_of_two(k))


def _many_rows(n: int, rows: int, sums: int) -> bool:
    """Tell whether a lane may have `rows` rows: its sums fit, and tiles still fill a device."""
    return sums <= 32 and n >= 32 * rows * BUSY_BLOCKS


def _power_of_two(count: int) -> int:
    """The least power of two that is at least `count`."""
    return 1 << max(count - 1, 0).bit_length()


def _column_major(x: Array) -> Array:
    """An array with contiguous, aligned columns: the given one, or a copy of it."""
    size = x.itemsize
    ready = x.strides[0] == size and x.strides[-1] % size == 0
    # A view as complex numbers may begin between two of them.
    return x if ready and x.data.ptr % size == 0 else x.T.copy().T


def _cupy(contents: Array) -> ModuleType:
    xp = namespace(contents)
    if backend_name(xp) != "cupy":
        raise BackendError(
            f"contents are arrays of {backend_name(xp)}; expected CuPy's (cupy.asarray)"
        )
    return xp


@cache
def _kernel(xp: ModuleType, name: str) -> Any:
    """A kernel by its template instance, such as ``rmatmat<float, 1, 32>``."""
    source = resources.files("structmat.kernels.cuda").joinpath("intervals.cu").read_text("utf-8")
    module = xp.RawModule(code=source, options=("-std=c++17",), name_expressions=(name,))
    return module.get_function(name)
