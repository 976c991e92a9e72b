"""Factorization of a matrix that is formed: Cholesky where it is positive definite, or LU."""

from typing import Any

from structmat._array import Array
from structmat.matrix import StructuredMatrix
from structmat.solvers.factorization import Factorization
from structmat.solvers.lapack import factored
from structmat.solvers.shifted import is_hermitian, shifted
from structmat.solvers.verify import double


class DenseFactorization(Factorization):
    """Factors of the dense form of S."""

    method = "dense"

    def __init__(self, S: StructuredMatrix, tol: float) -> None:
        super().__init__(S, tol)
        self.factors = factored(
            S.to_dense(),
            S.xp,
            hermitian=is_hermitian(S),
            name=f"the {S.shape[0]}x{S.shape[1]} matrix",
            # Sums and products that single precision rounds would have another rank.
            in_double=lambda: S.astype(double(S.dtype, S.xp)).to_dense(),
        )

    def _solve(self, b: Array) -> Array:
        return self.factors.solve(b)

    def _solve_adjoint(self, b: Array) -> Array:
        return self.factors.solve_adjoint(b)

    def _logdet(self) -> Any:
        return self.factors.logdet()


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Factorization:
    """Factors of the dense form of A + shift I."""
    return DenseFactorization(shifted(A, shift), tol)
