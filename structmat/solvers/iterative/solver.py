"""Solves by iteration, for matrices that have no direct method.

Conjugate gradients where S is hermitian and nothing speaks against its definiteness, MINRES where
it is hermitian alone, GMRES otherwise; each with the preconditioner that promises to end first.

A dense factorization follows where iterations fail, or take longer than it would, and the dense
form has at most `DENSE_ENTRIES` entries.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from structmat import _array
from structmat._array import Array
from structmat._progress import Progress, part, reporting
from structmat.compress.source import DENSE_ENTRIES
from structmat.contract.operand import multiplied
from structmat.errors import SolveError
from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import is_small
from structmat.solvers.direct.dense import DenseFactorization
from structmat.solvers.factorization import Factorization
from structmat.solvers.iterative.known import Known, known_of
from structmat.solvers.iterative.krylov.columns import Reached, times
from structmat.solvers.iterative.krylov.conjugate_gradients import conjugate_gradients
from structmat.solvers.iterative.krylov.gmres import gmres
from structmat.solvers.iterative.krylov.minres import minres
from structmat.solvers.iterative.preconditioners.choice import halves_of, preconditioner_of
from structmat.solvers.iterative.preconditioners.preconditioner import Halves, Preconditioner
from structmat.solvers.iterative.preconditioners.sparse_inverse import Indefinite
from structmat.solvers.verify import REFUSED, double

#: Scalars of the columns that are solved for at once.
COLUMNS_SCALARS = 2**24
#: Steps for each row, and most steps of one solve.
STEPS, MOST_STEPS = 10, 10_000
#: Steps before a dense factorization, at least; the time of a multiplication of a step, as a
#: multiple of one of the factorization.
PATIENCE, DEAR = 100, 10
#: Vectors that a step reads or writes besides its product.
VECTORS = 10
#: A residual below this number of roundings is left to refinement.
ROUNDINGS = 30
#: Largest residual that is taken for one that rounding leaves.
HARDEST = 1e-2


class IterativeFactorization(Factorization):
    """Solves of S x = b by a Krylov method with a preconditioner."""

    def __init__(
        self,
        known: Known,
        tol: float,
        preconditioner: Preconditioner,
        direct: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(known.S, tol)
        self.known, self.preconditioner, self._direct = known, preconditioner, direct
        self._formed: Factorization | None = None
        self._set_definite(known.may_be_definite)

    def _set_definite(self, definite: bool) -> None:
        self._definite = definite
        if definite:
            name = "conjugate gradients"
        else:
            name = "minimal residuals" if self.known.hermitian else "gmres"
        with_ = self.preconditioner.name
        self.method = f"{name}, {with_}" if with_ else name

    def _solve(self, b: Array) -> Array:
        return self._counted(b, adjoint=False)[0]

    def _solve_adjoint(self, b: Array) -> Array:
        return self._counted(b, adjoint=True)[0]

    def _logdet(self) -> Any:
        """That of a direct factorization, where there is one that is not worth its solves."""
        found = NotImplemented if self._direct is None else self._direct()
        if found is NotImplemented and not self._definite and self._may_be_formed:
            found = self._dense()
        return NotImplemented if found is NotImplemented else found._logdet()

    def halves(self) -> Halves:
        """A preconditioner G^H G."""
        if isinstance(self.preconditioner, Halves):
            return self.preconditioner
        return halves_of(self.known.system(self.tol))

    def _counted(self, b: Array, *, adjoint: bool) -> tuple[Array, int]:
        """Solutions for columns (n, k), and the most steps that one of them took."""
        n, k = b.shape
        width = max(1, COLUMNS_SCALARS // max(n, 1))
        parts, steps = [], 0
        with reporting(None, "solving") as report:
            for first in range(0, k, width):
                done = part(report, first / k, min(first + width, k) / k)
                found = self._columns(b[:, first : min(first + width, k)], adjoint, done)
                parts.append(found.x)
                steps = max(steps, found.steps)
        if len(parts) == 1:
            return parts[0], steps
        dtype = self.xp.result_type(*parts)
        return self.xp.concat([self.xp.astype(x, dtype) for x in parts], axis=1), steps

    def _columns(self, b: Array, adjoint: bool, report: Progress) -> Reached:
        """Solutions for some columns, each solved for at norm one.

        By dense factors, where these may follow, or in double precision where single precision
        ends at a residual that is refused.
        """
        if self._formed is not None:
            return self._solved(self._formed, b, adjoint, 0)
        xp = self.xp
        size = _array.to_numpy(xp.linalg.vector_norm(b, axis=0)).astype(np.float64)
        inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
        units = times(b, inverse, xp)
        found = self._run(units, adjoint, report)
        if self._may_be_formed and found.residual.max(initial=0.0) > REFUSED * self.tol:
            return self._solved(self._dense(), b, adjoint, found.steps)
        wide = double(b.dtype, xp)
        if b.dtype != wide and self._refusal(found) is not None:
            again = self._run(xp.astype(units, wide), adjoint, report)
            found = again._replace(steps=found.steps + again.steps)
        refusal = self._refusal(found)
        if refusal is not None:
            raise refusal
        return found._replace(x=times(found.x, size, xp))

    def _run(self, b: Array, adjoint: bool, report: Progress) -> Reached:
        """The method for columns of norm one, or zero."""
        xp, S, M = self.xp, self.matrix, self.preconditioner
        aim = max(self.tol, ROUNDINGS * float(xp.finfo(b.dtype).eps))
        bound = np.full(b.shape[1], aim)
        options: dict[str, Any] = {
            "precondition": M.multiply_adjoint if adjoint else M.multiply,
            "limit": self._limit(b.shape[1]), "report": report, "xp": xp,
        }  # fmt: skip

        def multiply(x: Array) -> Array:
            return multiplied(S, x, adjoint=adjoint)

        if not self.known.hermitian:
            return gmres(multiply, b, bound, **options)
        if self._definite:
            found = conjugate_gradients(multiply, b, bound, **options)
            if found.curvature > 0:
                return found
            self.known.lost(f"p^H S p is {found.curvature:.3g} for a vector p of norm one")
            self._set_definite(False)
        return minres(multiply, b, bound, **options)

    def _limit(self, columns: int) -> int:
        """Most steps; fewer where a dense factorization would take less time than these."""
        n = self.shape[0]
        most = min(max(STEPS * n, 100), MOST_STEPS)
        if not self._may_be_formed:
            return most
        return min(most, patience(n, columns, self.matrix.cost, bases=not self.known.hermitian))

    @property
    def _may_be_formed(self) -> bool:
        """True where a dense factorization may follow: it was not taken at once, and fits."""
        return not is_small(self.matrix) and self.shape[0] ** 2 <= DENSE_ENTRIES

    def _dense(self) -> Factorization:
        """The dense factorization, which does all solves from now on."""
        if self._formed is None:
            self._formed = DenseFactorization(self.matrix, self.tol)
            self.method = self._formed.method
        return self._formed

    def _solved(self, F: Factorization, b: Array, adjoint: bool, steps: int) -> Reached:
        """Solutions by a factorization, after some steps without one."""
        return Reached(F.unmeasured(b, adjoint=adjoint), np.zeros(b.shape[1]), steps)

    def _refusal(self, found: Reached) -> SolveError | None:
        """The error for columns that leave a residual, unless rounding leaves it."""
        worst, xp = float(found.residual.max(initial=0.0)), self.xp
        if worst <= REFUSED * self.tol:
            return None
        length = _array.to_numpy(xp.linalg.vector_norm(found.x, axis=0)).astype(np.float64)
        grown = self._norm * length
        error = float((found.residual / (grown + 1)).max())
        rounding = ROUNDINGS * math.sqrt(self.shape[0]) * float(xp.finfo(found.x.dtype).eps)
        if error <= rounding and worst <= HARDEST:
            return None
        end = "the limit" if found.steps >= self._limit(1) else "where nothing more was gained"
        return SolveError(
            f"{self.method}: residual {worst:.2g} and backward error {error:.2g} after "
            f"{found.steps} steps, {end}; expected a residual of at most "
            f"{REFUSED * self.tol:.2g} (the condition number is {float(grown.max()):.2g} or "
            "more: give factorize a larger shift or a larger tol, or a matrix of a kind with a "
            "direct method)"
        )


def patience(n: int, columns: int, cost: int, *, bases: bool) -> int:
    """Steps that take the time of a dense factorization, n^3 / 3 multiplications.

    Step j of a method with bases takes 4 n j multiplications besides the product.

    Examples
    --------
    >>> patience(2500, 1, 25_000, bases=True), patience(2500, 1, 25_000, bases=False)
    (317, 10416)
    """
    dense = n**3 / (3 * DEAR * max(columns, 1))
    each = cost + VECTORS * n
    steps = dense / max(each, 1)
    if bases:
        steps = 2 * dense / (each + math.sqrt(each**2 + 8 * n * dense))
    return max(PATIENCE, int(steps))


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Factorization:
    """A solver of S = A + shift I by products.

    Matrices that are known by their entries alone, such as `KernelMatrix`, are compressed first.
    """
    return factorize_known(known_of(A, shift, tol), tol)


def factorize_known(
    known: Known, tol: float, direct: Callable[[], Any] | None = None
) -> Factorization:
    """A solver of a matrix whose products and entries are known.

    `direct` makes the factorization that gives the log-determinant, or NotImplemented.

    Examples
    --------
    >>> import structmat
    >>> A = structmat.Diagonal([1.0, 2.0])
    >>> factorize_known(Known(A, A, 0.0), 1e-8)
    <2x2 factorization, conjugate gradients, float64>
    """
    try:
        preconditioner = preconditioner_of(known.system(tol))
    except Indefinite as fault:
        known.lost(f"the block of S around row {fault.row} has a pivot of {fault.pivot:.3g}")
        preconditioner = preconditioner_of(known.system(tol))
    return IterativeFactorization(known, tol, preconditioner, direct)
