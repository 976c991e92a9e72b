"""Size of an inverse, by a few solves."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Condition number above which single precision gives way to double.
SINGLE_LIMIT = 1e5
#: Most steps of the search; nearly all end within three.
STEPS = 5


class Solver(Protocol):
    """Factors of a square matrix as an estimate reads them."""

    def solve(self, b: NDArray) -> NDArray:
        """S^-1 b for columns b."""

    def solve_adjoint(self, b: NDArray) -> NDArray:
        """S^-H b for columns b."""


def single_dtype(dtype: Any) -> np.dtype:
    """The real or complex dtype of single precision.

    Examples
    --------
    >>> single_dtype(np.complex128)
    dtype('complex64')
    """
    return np.dtype(np.complex64 if np.dtype(dtype).kind == "c" else np.float32)


def inverse_norm(factors: Solver, n: int, dtype: Any) -> float:
    """Lower bound of the largest column sum of |S^-1|, rarely far below it; the same each time.

    Hager's search for the column, with Higham's second start (Higham 1988, algorithm 4.1).
    """
    if n == 0:
        return 0.0
    x, best, seen = np.full((n, 1), 1 / n, dtype), 0.0, -1
    for _ in range(STEPS):
        y = factors.solve(x)
        found = float(np.abs(y).sum(dtype=np.float64))
        if not np.isfinite(found):
            return np.inf
        if found <= best:
            break
        best = found
        wide = y.astype(np.result_type(dtype, np.float64))
        size = np.maximum(np.abs(wide), np.finfo(wide.dtype).tiny)
        signs = np.where(y == 0, 1, wide / size).astype(dtype)
        z = np.abs(factors.solve_adjoint(signs))
        at = int(z.argmax())
        if at == seen:
            break
        x, seen = np.zeros((n, 1), dtype), at
        x[at] = 1
    turns = (1 - 2 * (np.arange(n) % 2)) * (1 + np.arange(n) / max(n - 1, 1))
    y = factors.solve(turns[:, None].astype(dtype))
    return max(best, 2 * float(np.abs(y).sum(dtype=np.float64)) / (3 * n))
