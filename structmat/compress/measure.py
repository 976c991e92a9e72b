"""Frobenius norms of matrices and of errors, a few columns at a time."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.compress.svd import Triple
from structmat.matrix import StructuredMatrix

#: Most entries of some columns, and of the unit vectors that give them: 64 MiB in double
#: precision.
COLUMNS_ENTRIES = 2**23
#: Most entries of a structured matrix that one product with the identity writes out.
SMALL_ENTRIES = 2**12


def column_slices(shape: tuple[int, int]) -> Iterator[slice]:
    """Slices of columns whose temporaries stay a small part of the matrix."""
    m, n = shape
    width = (m * n) // (16 * max(m + n, 1))
    width = max(1, min(max(16, width), COLUMNS_ENTRIES // max(m + n, 1)))
    for start in range(0, n, width):
        yield slice(start, min(start + width, n))


def norm(A: Any) -> float:
    """Frobenius norm of an array or an operator, accumulated in double precision."""
    return _root(_columns(A, some) for some in column_slices(A.shape))


def residual(A: Any, B: Any) -> float:
    """Frobenius norm of A - B, for arrays or anything with `matmat`."""
    if isinstance(B, StructuredMatrix) and math.prod(B.shape) <= SMALL_ENTRIES:
        B = B.matmat(np.eye(B.shape[1], dtype=B.dtype))
    return _root(_columns(A, some) - _columns(B, some) for some in column_slices(A.shape))


def svd_residual(A: Any, triple: Triple) -> float:
    """Frobenius norm of A - U diag(s) Vh."""
    U, s, Vh = triple
    left = U * s
    return _root(_columns(A, some) - left @ Vh[:, some] for some in column_slices(A.shape))


def _columns(A: Any, some: slice) -> NDArray:
    if isinstance(A, np.ndarray):
        return A[:, some]
    unit = np.zeros((A.shape[1], some.stop - some.start), A.dtype)
    unit[np.arange(some.start, some.stop), np.arange(unit.shape[1])] = 1
    return A.matmat(unit)


def _root(parts: Iterator[NDArray]) -> float:
    total = 0.0
    for part in parts:
        if part.dtype.kind == "c":
            total += float((part.real.astype(np.float64) ** 2).sum())
            total += float((part.imag.astype(np.float64) ** 2).sum())
        else:
            total += float((part.astype(np.float64) ** 2).sum())
    return float(np.sqrt(total))
