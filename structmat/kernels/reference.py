"""Panel products: one primitive, in the array API alone, behind every sparse structure.

A sparse matrix S, shape (m, K), is cut into row panels. Each panel is a dense array
on the columns it touches, so that S @ Z is one BLAS product a panel. Both factors of
a GBLR matrix, both sides of a block-low-rank one and a block-sparse matrix have this
form; they differ in how the panels are laid out over their packed contents.

The floor is one multiplication for each stored scalar and column. What comes on top
is padding (zeros inside a panel) and the copying of the rows of Z that a panel needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, Device, backend_of, conj, integers, is_complex, is_numpy
from structmat.intervals import IntArray, entry_index, offsets
from structmat.kernels.vector import compressed_rows

# With 64 columns, where tiles matter most, a panel costs as much to start as it costs to
# multiply this many entries, and a touched column as much as these to gather its row.
PANEL_OVERHEAD = 1500
COLUMN_OVERHEAD = 8


@dataclass(frozen=True)
class PanelLayout:
    """Where the entries of each panel lie in the packed contents.

    Parameters
    ----------
    bounds : sequence of int
        Panel t holds rows ``bounds[t]`` to ``bounds[t + 1]``.
    columns : sequence of ndarray of int
        The columns that each panel touches, each once.
    entries : sequence of ndarray of int
        For each panel, shape (rows, columns), positions in the packed contents;
        the position one past the end stands for zero.
    num_columns : int
        Columns of the whole matrix.
    """

    bounds: Sequence[int]
    columns: Sequence[IntArray]
    entries: Sequence[IntArray]
    num_columns: int


class Panels:
    """A sparse matrix, filled in and ready to multiply.

    Parameters
    ----------
    layout : PanelLayout
    contents : array, shape (total,)
        Packed entries.
    xp : namespace
    device : device
    """

    def __init__(
        self, layout: PanelLayout, contents: Array, xp: ModuleType, device: Device
    ) -> None:
        self.xp, self.device = xp, device
        self.num_rows, self.num_columns = layout.bounds[-1], layout.num_columns
        self._rows = [
            slice(a, b) for a, b in zip(layout.bounds[:-1], layout.bounds[1:], strict=True)
        ]
        self._columns = [_as_slice(c, xp, device) for c in layout.columns]
        padded = xp.concat([contents, xp.zeros(1, dtype=contents.dtype, device=device)])
        self._panels = [
            xp.reshape(xp.take(padded, integers(e.ravel(), xp, device)), e.shape)
            for e in layout.entries
        ]
        self._by_rows = (
            compressed_rows(layout.columns, layout.entries, contents, layout.num_columns)
            if is_numpy(xp)
            else None
        )
        self._complex = is_complex(contents, xp)
        self._by_columns = None if self._by_rows is None else self._by_rows.T

    def matmat(self, z: Array) -> Array:
        """S @ z: (num_columns, k) to (num_rows, k)."""
        if self._by_rows is not None and z.shape[1] == 1:
            return (self._by_rows @ z[:, 0])[:, None]
        parts = [
            panel @ self._take(z, columns)
            for panel, columns in zip(self._panels, self._columns, strict=True)
        ]
        return self.xp.concat(parts, axis=0)

    def rmatmat(self, y: Array) -> Array:
        """S^H @ y: (num_rows, k) to (num_columns, k)."""
        xp = self.xp
        add_rows = backend_of(xp).add_rows
        # conj(Sᵀ conj(y)) keeps the panels as they are: no conjugated copy of them.
        y = self._conj(y)
        if self._by_rows is not None and y.shape[1] == 1:
            return self._conj((self._by_columns @ y[:, 0])[:, None])
        z = xp.zeros((self.num_columns, y.shape[1]), dtype=y.dtype, device=self.device)
        for panel, rows, columns in zip(self._panels, self._rows, self._columns, strict=True):
            if panel.shape[1]:
                index = columns if not isinstance(columns, slice) else self._range(columns)
                z = add_rows(z, index, xp.matrix_transpose(panel) @ y[rows, :])
        return self._conj(z)

    def _conj(self, x: Array) -> Array:
        return self.xp.conj(x) if self._complex else x

    def _take(self, z: Array, columns: Array | slice) -> Array:
        if isinstance(columns, slice):
            return z[columns, :]
        return self.xp.take(z, columns, axis=0)

    def _range(self, columns: slice) -> Array:
        # NumPy adds to a slice faster than to a list of rows; others need the list.
        if backend_of(self.xp).name in ("numpy", "cupy"):
            return columns
        return integers(np.arange(columns.start, columns.stop), self.xp, self.device)


def _as_slice(columns: IntArray, xp: ModuleType, device: Device) -> Array | slice:
    """Consecutive columns as a slice, others as an index array on the device."""
    if columns.size == 0:
        return slice(0, 0)
    first = int(columns[0])
    if np.array_equal(columns, np.arange(first, first + columns.size)):
        return slice(first, first + columns.size)
    return integers(columns, xp, device)


def run_layout(start: IntArray, width: IntArray, n: int) -> PanelLayout:
    """Layout of an interval factor: column k holds its packed contents on cyclic run k.

    The axis of n rows is cut into tiles of the length that promises the least work:
    small tiles waste little padding, large ones start fewer products.
    """
    tile = _best_tile(start, width, n)
    bounds = [*range(0, n, tile), n] if n else [0, 0]
    columns, entries = [], []
    for a, b in pairwise(bounds):
        ahead = (a - start) % max(n, 1)
        touched = np.flatnonzero((width > 0) & ((ahead < width) | ((start >= a) & (start < b))))
        columns.append(touched)
        entries.append(entry_index(start, width, n, touched, np.arange(a, b)[:, None]))
    return PanelLayout(bounds, columns, entries, len(width))


def _best_tile(start: IntArray, width: IntArray, n: int) -> int:
    candidates = [t for t in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096) if t < n]
    candidates.append(max(n, 1))

    def work(tile: int) -> float:
        touched = _touched_tiles(start, width, n, tile)
        return touched * (tile + COLUMN_OVERHEAD) + PANEL_OVERHEAD * -(-n // tile)

    return min(candidates, key=work)


def _touched_tiles(start: IntArray, width: IntArray, n: int, tile: int) -> int:
    """How many (tile, run) pairs meet."""
    width, start = width[width > 0], start[width > 0]
    last = start + width - 1
    count = -(-n // tile)
    straight = np.minimum(last, n - 1) // tile - start // tile + 1
    wrapped = np.where(last >= n, (last - n) // tile + 1, 0)
    return int(np.minimum(straight + wrapped, count).sum())


def block_layout(
    rows: IntArray, cols: IntArray, block: tuple[int, int], shape: tuple[int, int]
) -> PanelLayout:
    """Layout of a block-sparse matrix with blocks sorted by row, contents (b, p, q)."""
    (p, q), (m, n) = block, shape
    bounds = [*range(0, m, p), m] if m else [0, 0]
    begin = np.searchsorted(rows, np.arange(len(bounds)))
    inside = np.arange(p)[:, None, None] * q + np.arange(q)
    columns, entries = [], []
    for t, (a, b) in enumerate(pairwise(bounds)):
        here = np.arange(begin[t], begin[t + 1])
        column = (cols[here][:, None] * q + np.arange(q)).ravel()
        entry = (here[:, None] * (p * q) + inside).reshape(p, -1)
        columns.append(column[column < n])
        entries.append(entry[: b - a, column < n])
    return PanelLayout(bounds, columns, entries, n)


def stacked_layout(
    sizes: IntArray, tiles: Sequence[tuple[int, int, IntArray]], num_columns: int
) -> PanelLayout:
    """Layout of dense tiles stacked into row panels of the given sizes.

    Each tile is (panel, first entry in the contents, its columns); it is stored by
    rows, so that entry (i, j) of a tile with c columns stands at ``first + i c + j``.
    """
    bounds: NDArray = offsets(sizes) if sizes.size else np.zeros(2, np.int64)
    columns: list[list[IntArray]] = [[] for _ in range(len(bounds) - 1)]
    entries: list[list[IntArray]] = [[] for _ in range(len(bounds) - 1)]
    for panel, first, column in tiles:
        size = int(bounds[panel + 1] - bounds[panel])
        columns[panel].append(column)
        entries[panel].append(
            first + np.arange(size * column.size, dtype=np.int64).reshape(size, column.size)
        )
    empty = np.zeros(0, np.int64)
    return PanelLayout(
        [int(b) for b in bounds],
        [np.concatenate([empty, *c]) for c in columns],
        [
            np.concatenate([np.zeros((int(b - a), 0), np.int64), *e], axis=1)
            for a, b, e in zip(bounds[:-1], bounds[1:], entries, strict=True)
        ],
        num_columns,
    )


def monarch_matmat(left: Array, right: Array, x: Array, xp: ModuleType) -> Array:
    """Monarch product on padded operands: (k p, c) to (l s, c).

    `left` has shape (l, s, r), `right` (k, q, p), with k q = l r. The middle index
    t = a l + j, a < r, belongs to block j of `left`; the output index is i l + j.
    """
    (l, s, r), (k, _, p), c = left.shape, right.shape, x.shape[1]
    middle = xp.reshape(right @ xp.reshape(x, (k, p, c)), (r, l, c))
    out = left @ xp.permute_dims(middle, (1, 0, 2))
    return xp.reshape(xp.permute_dims(out, (1, 0, 2)), (s * l, c))


def monarch_rmatmat(left: Array, right: Array, y: Array, xp: ModuleType) -> Array:
    """Adjoint of `monarch_matmat`: (l s, c) to (k p, c)."""
    (l, s, _), (k, q, p), c = left.shape, right.shape, y.shape[1]
    y = xp.permute_dims(xp.reshape(conj(y, xp), (s, l, c)), (1, 0, 2))
    middle = xp.permute_dims(xp.matrix_transpose(left) @ y, (1, 0, 2))
    out = xp.matrix_transpose(right) @ xp.reshape(middle, (k, q, c))
    return conj(xp.reshape(out, (k * p, c)), xp)


__all__ = [
    "PanelLayout",
    "Panels",
    "block_layout",
    "monarch_matmat",
    "monarch_rmatmat",
    "run_layout",
    "stacked_layout",
]
