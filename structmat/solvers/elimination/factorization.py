"""Solves by the factors of an elimination, which are on NumPy whatever library holds the matrix."""

from collections.abc import Callable
from typing import Any

import numpy as np

from structmat._array import Array, from_numpy, to_numpy
from structmat.matrix import StructuredMatrix
from structmat.solvers.elimination.arranged import Arranged
from structmat.solvers.factorization import Factorization
from structmat.solvers.results import LogDeterminant


class EliminatedFactorization(Factorization):
    """Solves by LU or Cholesky factors of a matrix with few entries, or of tiles.

    Attributes
    ----------
    cost : int
        Multiplications of one solve.
    """

    def __init__(
        self,
        matrix: StructuredMatrix,
        tol: float,
        factors: Arranged,
        *,
        method: str,
        log_error: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(matrix, tol)
        self.factors, self.method, self.log_error = factors, method, log_error
        self.cost: int = factors.factors.cost

    def _solve(self, b: Array) -> Array:
        return self._back(self.factors.solve(to_numpy(b)))

    def _solve_adjoint(self, b: Array) -> Array:
        return self._back(self.factors.solve_adjoint(to_numpy(b)))

    def _back(self, x: np.ndarray) -> Array:
        return from_numpy(x, self.xp, self.device)

    def _logdet(self) -> Any:
        sign, log = self.factors.log_determinant()
        sign = complex(sign) if self.factors.dtype.kind == "c" else float(sign)
        return LogDeterminant(sign, log, 0.0 if self.log_error is None else self.log_error())


def in_double(A: StructuredMatrix) -> StructuredMatrix:
    """The matrix on NumPy in double precision, in which its parts are joined."""
    host = A.to("numpy")
    return host.astype(np.result_type(host.dtype, np.float64))


def is_single(A: StructuredMatrix) -> bool:
    """True for a matrix in less than double precision."""
    return bool(A.xp.finfo(A.dtype).bits < 64)
