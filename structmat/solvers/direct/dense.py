"""Factorization of a matrix that is formed: Cholesky where it is positive definite, or LU."""

from typing import Any

from structmat._array import Array
from structmat.matrix import StructuredMatrix
from structmat.solvers.arguments import check_formed
from structmat.solvers.direct.lapack import factored
from structmat.solvers.factorization import Factorization
from structmat.solvers.shifted import shifted
from structmat.solvers.verify import double


class DenseFactorization(Factorization):
    """Factors of the dense form of S."""

    method = "dense"

    def __init__(self, S: StructuredMatrix, tol: float) -> None:
        super().__init__(S, tol)
        n, wide = S.shape[0], double(S.dtype, S.xp)
        # Rounding errors of single precision would hide that a matrix is singular.
        dense = S.to_dense() if S.dtype == wide else S._wider(wide).to_dense()
        check_formed(dense, S)
        name = f"the {n}x{n} matrix"
        self.factors = factored(dense, S.xp, hermitian=S.hermitian, name=name, narrow=S.dtype)

    def _solve(self, b: Array) -> Array:
        return self.factors.solve(b)

    def _solve_adjoint(self, b: Array) -> Array:
        return self.factors.solve_adjoint(b)

    def _logdet(self) -> Any:
        return self.factors.logdet()


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Factorization:
    """Factors of the dense form of A + shift I."""
    return DenseFactorization(shifted(A, shift), tol)
