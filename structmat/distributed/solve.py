"""Solves with a distributed matrix: conjugate gradients on the workers, measured here."""

from typing import Any

import numpy as np

from structmat._array import Array
from structmat._progress import reporting
from structmat.distributed.conjugate_gradients import System, conjugate_gradients
from structmat.distributed.preconditioner import DistributedInverse, distributed_inverse
from structmat.errors import OperationError, SolveError
from structmat.matrices import from_operator
from structmat.solvers.arguments import finite_number, tolerance
from structmat.solvers.factorization import Factorization
from structmat.solvers.iterative.preconditioners.blocks import points_of
from structmat.solvers.iterative.preconditioners.preconditioner import Halves, Unpreconditioned
from structmat.solvers.iterative.preconditioners.sparse_inverse import Indefinite
from structmat.solvers.iterative.solver import MOST_STEPS, ROUNDINGS
from structmat.solvers.shifted import shifted
from structmat.solvers.verify import REFUSED


class DistributedFactorization(Factorization):
    """Solves of S x = b, for S = A + shift I of a distributed A, by conjugate gradients."""

    def __init__(
        self, A: Any, shift: float, tol: float, inverse: DistributedInverse | None
    ) -> None:
        super().__init__(shifted(from_operator(A), shift), tol)
        self._order, self._inverse = A.row_order, inverse
        self._system = System(A.parts, shift, None if inverse is None else inverse.parts)
        self.method = "conjugate gradients" + ("" if inverse is None else f", {inverse.name}")

    def _solve(self, b: Array) -> Array:
        return self._counted(b, adjoint=False)[0]

    def _solve_adjoint(self, b: Array) -> Array:
        return self._counted(b, adjoint=True)[0]

    def _logdet(self) -> Any:
        return NotImplemented  # an estimate, by the products of S and of the halves

    def halves(self) -> Halves:
        """A preconditioner G^H G."""
        return Unpreconditioned() if self._inverse is None else self._inverse

    def _counted(self, b: Array, *, adjoint: bool) -> tuple[Array, int]:
        """Solutions for columns (n, k), and the steps that they took; S is its own adjoint."""
        size = np.linalg.norm(b, axis=0)
        aim = max(self.tol, ROUNDINGS * float(np.finfo(b.dtype).eps))
        with reporting(None, "solving") as report:
            found = conjugate_gradients(
                self._system, b[self._order], aim * size, limit=MOST_STEPS, report=report
            )
        if not found.curvature > 0:
            raise _indefinite(
                f"p^H S p is {found.curvature:.3g} for a vector p of norm one, after "
                f"{found.steps} steps"
            )
        worst = float(np.max(found.residual / np.where(size > 0, size, 1.0), initial=0.0))
        if worst > REFUSED * aim:
            raise SolveError(
                f"{self.method}: residual {worst:.2g} after {found.steps} steps; expected at most "
                f"{REFUSED * aim:.2g} (give a larger shift or a larger tol)"
            )
        x = np.empty_like(found.x)
        x[self._order] = found.x
        return x, found.steps


def factorize(A: Any, shift: Any, tol: Any) -> DistributedFactorization:
    """A solver of S = A + shift I for a Hermitian distributed matrix A.

    Raises
    ------
    OperationError
        If A is not known to be Hermitian.
    SolveError
        If S is seen not to be positive definite.
    """
    shift, tol = finite_number(shift), tolerance(tol, from_operator(A))
    if not A.hermitian or shift.imag:
        raise OperationError(
            f"{A!r} with shift = {shift:.3g} is not known to be Hermitian; expected that for "
            "conjugate gradients (scipy.sparse.linalg.gmres takes A, or factorize A.gather())"
        )
    inverse = None
    if A.source is not None and points_of(A.source) is not None:
        try:
            inverse = distributed_inverse(A.client, A.source, A.row_order, shift, len(A.parts))
        except Indefinite as fault:
            raise _indefinite(
                f"the block of S around row {fault.row} has a pivot of {fault.pivot:.3g}"
            ) from None
    return DistributedFactorization(A, shift, tol, inverse)


def _indefinite(reason: str) -> SolveError:
    return SolveError(
        f"S = A + shift I is not positive definite: {reason}; expected that for conjugate "
        "gradients (give a larger shift, or compress to a smaller tol)"
    )
