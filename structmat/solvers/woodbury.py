"""Woodbury: a base that is factorized, plus a product of thin factors, S = B + U V^H.

The inverse is ``B^-1 - B^-1 U C^-1 V^H B^-1`` with the capacitance ``C = I + V^H B^-1 U`` of as
many rows as the rank, and the determinant is that of B times that of C.
"""

from typing import Any

from structmat._array import Array, DType, adjoint, adjoint_times, identity
from structmat.errors import SolveError
from structmat.matrices import LowRank, Sum
from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import direct
from structmat.solvers.condition import SINGLE_LIMIT, check_condition, condition
from structmat.solvers.factorization import Factorization
from structmat.solvers.lapack import factored
from structmat.solvers.shifted import shifted
from structmat.solvers.terms import terms_of
from structmat.solvers.verify import double


class WoodburyFactorization(Factorization):
    """A factorization of the base, thin factors, and factors of the capacitance."""

    method = "woodbury"

    def __init__(
        self, S: StructuredMatrix, base: Factorization, low_rank: LowRank, tol: float
    ) -> None:
        super().__init__(S, tol)
        self.base, self.rank = base, low_rank.rank
        self._set(low_rank, S.dtype)
        wide = double(S.dtype, self.xp)
        if wide != S.dtype and not condition(self) < SINGLE_LIMIT:
            self._set(low_rank, wide)
        check_condition(self)

    def _set(self, low_rank: LowRank, dtype: DType) -> None:
        xp = self.xp
        self.U, self.V = xp.astype(low_rank.U, dtype), xp.astype(low_rank.V, dtype)
        self.solved = xp.astype(self.base._solve(self.U), dtype)
        one = identity(self.V.shape[1], dtype, xp, self.device)
        self.capacitance = factored(
            one + adjoint(self.V, xp) @ self.solved,
            xp,
            hermitian=self.U is self.V,
            name=f"the capacitance matrix of rank {self.rank}",
        )

    def _solve(self, b: Array) -> Array:
        xp = self.xp
        y = xp.astype(self.base._solve(b), self.U.dtype)
        return y - self.solved @ self.capacitance.solve(adjoint_times(self.V, y, xp))

    def _solve_adjoint(self, b: Array) -> Array:
        xp = self.xp
        b = xp.astype(b, self.U.dtype)
        inner = self.capacitance.solve_adjoint(adjoint_times(self.solved, b, xp))
        return self.base._solve_adjoint(b - self.V @ inner)

    def _logdet(self) -> Any:
        base = self.base._logdet()
        return base if base is NotImplemented else base.times(self.capacitance.logdet())


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """Factorization of a sum with terms of low rank, or of low rank with a shift."""
    base, base_shift, low_rank = terms_of(A, shift)
    n = A.shape[0]
    if low_rank is None or 2 * low_rank.rank >= max(n, 1):
        return NotImplemented
    if base.kind == "scaled" and isinstance(A, LowRank) and shift == 0:
        raise SolveError(
            f"a {n}x{n} matrix of rank {low_rank.rank} at most is singular; expected a shift, "
            "or structmat.lstsq for a least-squares solution"
        )
    if isinstance(base, Sum):
        return NotImplemented
    inner = direct(base, base_shift, tol)
    if inner is NotImplemented:
        return NotImplemented
    return WoodburyFactorization(shifted(A, shift), inner, low_rank, tol)
