"""How far an approximation is from a matrix, in column panels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.compress.svd import Triple

#: Most entries of a panel and of the unit vectors behind it: 64 MiB in double precision.
PANEL_ENTRIES = 2**23


def panels(shape: tuple[int, int]) -> Iterator[slice]:
    """Column panels whose temporaries stay a small part of the matrix."""
    m, n = shape
    width = (m * n) // (16 * max(m + n, 1))
    width = max(1, min(max(16, width), PANEL_ENTRIES // max(m + n, 1)))
    for start in range(0, n, width):
        yield slice(start, min(start + width, n))


def norm(A: Any) -> float:
    """Frobenius norm of an array or an operator, accumulated in double precision."""
    return _root(_columns(A, panel) for panel in panels(A.shape))


def residual(A: Any, B: Any) -> float:
    """Frobenius norm of A - B, for arrays or anything with `matmat`."""
    return _root(_columns(A, panel) - _columns(B, panel) for panel in panels(A.shape))


def svd_residual(A: Any, triple: Triple) -> float:
    """Frobenius norm of A - U diag(s) Vh."""
    U, s, Vh = triple
    left = U * s
    return _root(_columns(A, panel) - left @ Vh[:, panel] for panel in panels(A.shape))


def _columns(A: Any, panel: slice) -> NDArray:
    if isinstance(A, np.ndarray):
        return A[:, panel]
    unit = np.zeros((A.shape[1], panel.stop - panel.start), A.dtype)
    unit[np.arange(panel.start, panel.stop), np.arange(unit.shape[1])] = 1
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
