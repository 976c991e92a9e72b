"""Compressed rows on NumPy, where they are quicker than panels.

A single vector is memory-bound: BLAS on panels reads each scalar once but starts one
product a panel, SciPy's compressed rows read an index with every scalar, in one call.
With many columns panels win by BLAS unless they are mostly padding, as with runs of one
entry. Which is quicker depends on sizes alone, by the figures below (nanoseconds;
`python -m benchmarks products` measures both sides).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from structmat.kernels.layout import PanelLayout

__all__ = ["CompressedRows"]

# A panel; then one entry of it, by its bytes, once and for each column.
PANEL, PANEL_BYTE, PANEL_BYTE_COLUMN = 4500.0, 0.04, 0.006
# One stored scalar, once, and by its bytes for each column.
SCALAR, SCALAR_BYTE_COLUMN = 0.65, 0.024


@dataclass(frozen=True)
class CompressedRows:
    """A sparse matrix by rows and, for its adjoint, by columns.

    Parameters
    ----------
    rows, columns : csr_array, csc_array
        The matrix and its transpose; they share their memory.
    start, slope : float
        Nanoseconds that it saves over panels: ``start + slope k`` with k columns.
    """

    rows: Any
    columns: Any
    start: float
    slope: float

    def saves_time(self, columns: int) -> bool:
        """Whether it is quicker than panels for so many columns."""
        return self.start + self.slope * columns > 0

    @classmethod
    def of(cls, layout: PanelLayout, contents: np.ndarray) -> "CompressedRows | None":
        """The matrix of a panel layout, or None where panels are always quicker."""
        size, padded = contents.itemsize, sum(entries.size for entries in layout.entries)
        start = PANEL * len(layout.entries) + PANEL_BYTE * size * padded - SCALAR * contents.size
        slope = size * (PANEL_BYTE_COLUMN * padded - SCALAR_BYTE_COLUMN * contents.size)
        # SciPy widens half precision.
        if size < 4 or (start + slope <= 0 and slope <= 0):
            return None
        rows = _rows(layout, contents)
        return cls(rows, rows.T, start, slope)


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
