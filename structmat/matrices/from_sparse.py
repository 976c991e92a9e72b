"""SciPy's sparse matrices as structured ones, so that sums and products stay structured."""

from typing import Any

import numpy as np

from structmat.matrices.block_sparse import BlockSparse
from structmat.matrices.diagonal import Diagonal, Identity
from structmat.matrix import StructuredMatrix


def from_sparse(S: Any) -> StructuredMatrix:
    """A sparse matrix of SciPy as `Identity`, `Diagonal` or `BlockSparse`; exact.

    `S` has two dimensions. Blocks are those of the BSR format, or else single entries, so the
    cost is the number of stored entries.

    Examples
    --------
    >>> import scipy.sparse
    >>> from_sparse(scipy.sparse.eye_array(3)).kind
    'identity'
    >>> from_sparse(scipy.sparse.random_array((4, 3), density=0.5, rng=0)).cost
    6
    """
    rows = S.tobsr(copy=True) if S.format == "bsr" else S.tocsr(copy=True)
    rows.sum_duplicates()
    m, n = S.shape
    at = np.repeat(np.arange(rows.indptr.size - 1), np.diff(rows.indptr))
    blocks = rows.data if rows.data.ndim == 3 else rows.data[:, None, None]
    if blocks.dtype.kind == "b":
        blocks = blocks.astype(np.float64)
    if m == n and blocks.shape[1:] == (1, 1) and np.array_equal(at, rows.indices):
        d = np.zeros(n, blocks.dtype)
        d[at] = blocks[:, 0, 0]
        # An identity takes the dtype of what it meets, so it would lose a complex one.
        return Identity(n) if d.dtype.kind != "c" and (d == 1).all() else Diagonal(d)
    return BlockSparse(blocks, at, rows.indices, shape=(m, n))
