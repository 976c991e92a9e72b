"""Compressed rows of SciPy: every stored scalar with its own index.

They need no padding and nothing compiled, which makes them the better choice for runs of
a few entries, and for single vectors where Numba is not installed.
"""

from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array

from structmat.intervals import short_positions
from structmat.kernels.layouts.panels import BlockPattern, PanelLayout, Pattern, RunPattern


class RowsFactor:
    """A sparse factor S, (n, K), by rows and, for its adjoint, by columns."""

    def __init__(self, rows: Any) -> None:
        # The transpose shares the memory of the matrix.
        self._rows, self._columns = rows, rows.T
        self._complex = rows.dtype.kind == "c"

    @classmethod
    def of(cls, pattern: Pattern, contents: np.ndarray) -> "RowsFactor":
        """The factor with these packed contents."""
        if isinstance(pattern, BlockPattern) and pattern.block == (1, 1):
            return cls(_single_entries(pattern, contents))
        if isinstance(pattern, RunPattern):
            return cls(_runs(pattern, contents))
        return cls(_rows(pattern.layout(), contents))

    def matmat(self, z: np.ndarray, *, by_columns: bool = False) -> np.ndarray:
        """S z: (K, k) to (n, k)."""
        return _times(self._rows, z)

    def rmatmat(self, y: np.ndarray) -> np.ndarray:
        """S^H y: (n, k) to (K, k)."""
        # conj(S^T conj(y)) keeps the matrix as it is: no conjugated copy of it.
        if self._complex:
            return _times(self._columns, y.conj()).conj()
        return _times(self._columns, y)


def _times(sparse: Any, x: np.ndarray) -> np.ndarray:
    """Sparse times dense; SciPy is quicker with one vector than with one column."""
    return (sparse @ x[:, 0])[:, None] if x.shape[1] == 1 else sparse @ x


def _single_entries(pattern: BlockPattern, contents: np.ndarray) -> csr_array:
    """Blocks of one row and one column, sorted by row: rows as they are, without panels."""
    begin = np.searchsorted(pattern.rows, np.arange(pattern.shape[0] + 1))
    return csr_array((contents, pattern.cols, begin), shape=pattern.shape)


def _runs(pattern: RunPattern, contents: np.ndarray) -> csr_array:
    """Runs entry by entry, put in order of rows by counting."""
    at = short_positions(pattern.start, pattern.width, pattern.n)
    run = np.repeat(np.arange(pattern.width.size, dtype=at.dtype), pattern.width)
    return coo_array((contents, (at, run)), shape=pattern.shape).tocsr()


def _rows(layout: PanelLayout, contents: np.ndarray) -> csr_array:
    total = contents.shape[0]
    widest = np.iinfo(np.int32).max
    small = np.int32 if max(total, layout.num_columns) <= widest else np.int64
    filled = [entries < total for entries in layout.entries]
    at = [e[f] for e, f in zip(layout.entries, filled, strict=True)]
    index = [
        np.broadcast_to(columns, f.shape)[f].astype(small)
        for columns, f in zip(layout.columns, filled, strict=True)
    ]
    counts = np.concatenate([f.sum(axis=1) for f in filled])
    begin = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]).astype(small)
    shape = (len(counts), layout.num_columns)
    return csr_array((contents[np.concatenate(at)], np.concatenate(index), begin), shape=shape)
