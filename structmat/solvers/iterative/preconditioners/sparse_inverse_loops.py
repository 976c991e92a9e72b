"""Compiled loops of sparse approximate inverses: small blocks of a kernel, and their last rows.

Import this module where it is used: it imports Numba where that is installed.
"""

import numpy as np

from structmat.project.compiled import compiled
from structmat.sources.compiled_kernels import kernel_value


@compiled
def kernel_blocks(
    code: int, scale: float, X: np.ndarray, near: np.ndarray, shift: float, out: np.ndarray
) -> None:
    """Write K[J, J] + shift I to `out`, (b, s, s), for J each row of `near`, (b, s).

    The lower triangles alone. Places of -1 stand at the end of a row, and are left out.
    """
    for t in range(near.shape[0]):
        for a in range(near.shape[1]):
            i = near[t, a]
            if i < 0:
                break
            for b in range(a):
                j = near[t, b]
                r2 = 0.0
                for k in range(X.shape[1]):
                    step = X[i, k] - X[j, k]
                    r2 += step * step
                out[t, a, b] = kernel_value(code, r2, scale)
            out[t, a, a] = kernel_value(code, 0.0, scale) + shift


@compiled
def last_rows(blocks: np.ndarray, size: np.ndarray, out: np.ndarray) -> int:
    """Write the last row of L^-1, for L L^H each of the blocks (b, s, s), to `out`, (b, s).

    Lower triangles of the blocks count, of the leading `size` rows of each; L takes their place.
    Returns the number of the first block that is not positive definite, and -1 if all are. Its
    pivot stands in the first place of its row then.
    """
    for t in range(blocks.shape[0]):
        m = size[t]
        A, row = blocks[t], out[t]
        for i in range(m):
            for j in range(i):
                total = A[i, j]
                for k in range(j):
                    total -= A[i, k] * np.conj(A[j, k])
                A[i, j] = total / A[j, j]
            pivot = A[i, i].real
            for k in range(i):
                pivot -= (A[i, k] * np.conj(A[i, k])).real
            if not pivot > 0.0:
                row[0] = pivot
                return t
            A[i, i] = np.sqrt(pivot)
        # The last row y of L^-1 has y L = e.
        for j in range(m - 1, -1, -1):
            total = A[j, j] * 0.0
            if j == m - 1:
                total = total + 1.0
            for k in range(j + 1, m):
                total -= row[k] * A[k, j]
            row[j] = total / A[j, j]
    return -1
