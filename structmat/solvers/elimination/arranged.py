"""Factors of a matrix whose rows and columns were scaled and put in another order."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray
from structmat.solvers.elimination.scaling import Scales


class Factors(Protocol):
    """Factors of a square matrix on NumPy: solves for columns (n, k), and the determinant."""

    @property
    def cost(self) -> int:
        """Multiplications of one solve."""

    def solve(self, b: NDArray) -> NDArray:
        """S^-1 b."""

    def solve_adjoint(self, b: NDArray) -> NDArray:
        """S^-H b."""

    def log_determinant(self) -> tuple[Any, float]:
        """Sign and logarithm of the determinant."""


class Arranged:
    """Factors of S by those of S' = (diag(rows) S diag(cols))[order][:, order]."""

    def __init__(
        self, factors: Factors, dtype: Any, scales: Scales | None, order: IntArray | None
    ) -> None:
        self.factors, self.dtype = factors, np.dtype(dtype)
        self.scales, self.order = scales, order

    def solve(self, b: NDArray) -> NDArray:
        """S^-1 b for columns b (n, k)."""
        rows, cols = self.scales or (None, None)
        return self._through(self.factors.solve, b, rows, cols)

    def solve_adjoint(self, b: NDArray) -> NDArray:
        """S^-H b for columns b (n, k)."""
        rows, cols = self.scales or (None, None)
        return self._through(self.factors.solve_adjoint, b, cols, rows)

    def log_determinant(self) -> tuple[Any, float]:
        """Sign and logarithm of the determinant of S."""
        sign, log = self.factors.log_determinant()
        return sign, log - (0.0 if self.scales is None else self.scales.log_determinant())

    def _through(self, solve: Any, b: NDArray, before: Any, after: Any) -> NDArray:
        if 0 in b.shape:
            return b
        x = b.astype(self.dtype) if before is None else (b * before[:, None]).astype(self.dtype)
        if self.order is None:
            x = solve(x)
        else:
            x[self.order] = solve(x[self.order])
        x = x if after is None else x * after[:, None]
        return x.astype(b.dtype, copy=False)
