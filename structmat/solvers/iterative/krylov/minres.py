"""Minimal residuals for hermitian matrices that need not be definite, many columns at once.

Paige and Saunders 1975, with a positive definite preconditioner. The residual itself is carried
along, so that its Euclidean norm is known although another norm is minimised.
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array
from structmat._progress import Progress
from structmat.solvers.iterative.krylov.columns import (
    Apply,
    Reached,
    Residuals,
    inner,
    quotient,
    times,
)


def minres(
    multiply: Apply,
    b: Array,
    bound: NDArray[np.float64],
    *,
    precondition: Apply,
    limit: int,
    report: Progress,
    xp: ModuleType,
) -> Reached:
    """Solve A x = b for a hermitian A, until each residual is within its bound.

    Parameters and result are those of `conjugate_gradients`. Eight arrays of the size of b are
    held. A recurrence that ends in an invariant subspace stops where it is.
    """
    residuals = Residuals(b, bound, limit, report, xp)
    x, r, u, before = xp.zeros_like(b), b, b, xp.zeros_like(b)
    v = precondition(u)
    w, w_before = xp.zeros_like(b), xp.zeros_like(b)
    least = 10 * float(xp.finfo(b.dtype).eps)
    of = _Reflections(np.sqrt(np.maximum(inner(u, v, xp).real, 0.0)), least)
    while True:
        done = (residuals.active <= residuals.bound) | of.over
        of.keep(~done)
        state = [r, u, before, v, w, w_before]
        x, (r, u, before, v, w, w_before) = residuals.ended.retire(done, x, state)
        if residuals.is_over:
            break
        # Lanczos: A v = beta_next u_next + alpha u + beta u_before, for v = M u of norm one.
        v = times(v, 1 / of.beta, xp)
        y = multiply(v) - times(before, quotient(of.beta, of.beta_before), xp)
        alpha = inner(v, y, xp).real
        before, u = u, y - times(u, alpha / of.beta, xp)
        direction, v = v, precondition(u)
        turned = of.turn(alpha, np.sqrt(np.maximum(inner(u, v, xp).real, 0.0)))
        direction = direction - times(w_before, turned.far, xp) - times(w, turned.near, xp)
        w_before, w = w, times(direction, quotient(np.ones_like(alpha), turned.own), xp)
        x = x + times(w, turned.step, xp)
        r = times(r, of.s**2, xp) - times(u, quotient(of.phi * of.c, of.beta), xp)
        residuals.note(r)
    return residuals.reached(x)


class _Turned(NamedTuple):
    """A column of the triangles, two, one and none above the diagonal, and the step along it."""

    far: NDArray[np.float64]
    near: NDArray[np.float64]
    own: NDArray[np.float64]
    step: NDArray[np.float64]


class _Reflections:
    """QR factors of growing tridiagonal matrices, one a column of the right-hand side.

    Numbers (k,): the last two entries beside the diagonal, cosine and sine of the last
    reflection, what it leaves behind, and the norm of the residual that is minimised.
    """

    def __init__(self, beta: NDArray[np.float64], least: float) -> None:
        zero = np.zeros_like(beta)
        self.beta, self.beta_before, self.phi = beta, zero, beta
        self.c, self.s, self._delta, self._epsilon = zero - 1, zero, zero, zero
        self._largest, self._least = zero, least
        #: Columns whose residual cannot be made less.
        self.over = beta == 0

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Drop the columns that have ended."""
        for name, value in vars(self).items():
            if name != "_least":
                setattr(self, name, value[kept])

    def turn(self, alpha: NDArray[np.float64], beta: NDArray[np.float64]) -> _Turned:
        """Reflect the next column, (beta_before, alpha, beta)."""
        # What rounding leaves of an invariant subspace counts as zero.
        beta = np.where(beta <= self._least * np.hypot(alpha, self.beta), 0.0, beta)
        self.beta_before, self.beta = self.beta, beta
        far = self._epsilon
        near = self.c * self._delta + self.s * alpha
        corner = self.s * self._delta - self.c * alpha
        self._epsilon, self._delta = self.s * beta, -self.c * beta
        own = np.hypot(corner, beta)
        self._largest = np.maximum(self._largest, own)
        # Where A r is rounding alone, r is least: what a singular matrix leaves. It grows later.
        small = np.hypot(corner, self._delta) <= np.sqrt(self._least) * self._largest
        self.over = small | (beta == 0)
        self.c, self.s = quotient(corner, own), np.where(own > 0, quotient(beta, own), 1.0)
        step, self.phi = self.c * self.phi, self.s * self.phi
        return _Turned(far, near, own, step)
