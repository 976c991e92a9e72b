"""One vector on NumPy: compressed rows where starting a product a panel costs more.

A single vector is memory-bound. BLAS on panels reads each scalar once, but starts one
product a panel; SciPy's compressed rows read an index with every scalar, in a single
call. Which is faster depends on the size alone, so it is settled once, by the figures
below (nanoseconds; `python -m benchmarks products` measures both sides).
"""

import numpy as np
from scipy.sparse import csr_array

from structmat.kernels.layout import PanelLayout

__all__ = ["compressed_rows"]

NS_PER_PANEL = 4500.0
NS_PER_BYTE_IN_PANELS = 0.045
NS_PER_SCALAR_IN_ROWS = 0.75


def compressed_rows(layout: PanelLayout, contents: np.ndarray) -> csr_array | None:
    """The matrix of a panel layout by compressed rows, or None where panels are faster."""
    columns, entries = layout.columns, layout.entries
    padded = sum(e.size for e in entries)
    in_panels = NS_PER_PANEL * len(entries)
    in_panels += NS_PER_BYTE_IN_PANELS * contents.itemsize * padded
    # SciPy widens half precision; BLAS has none of it either, but NumPy keeps it.
    if contents.itemsize < 4 or in_panels <= NS_PER_SCALAR_IN_ROWS * contents.size:
        return None
    total = contents.shape[0]
    filled = [e < total for e in entries]
    data = contents[np.concatenate([e[f] for e, f in zip(entries, filled, strict=True)])]
    index = [
        np.broadcast_to(c, f.shape)[f].astype(np.int32)
        for c, f in zip(columns, filled, strict=True)
    ]
    counts = np.concatenate([f.sum(axis=1) for f in filled])
    begin = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]).astype(np.int32)
    return csr_array((data, np.concatenate(index), begin), shape=(len(counts), layout.num_columns))
