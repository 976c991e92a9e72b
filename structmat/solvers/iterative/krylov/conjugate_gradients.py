"""Conjugate gradients for many right-hand sides: an independent recurrence for each of them.

Hestenes and Stiefel 1952, with a preconditioner; one product of the matrix with all columns a
step. Columns that have converged leave.
"""

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array
from structmat._progress import Progress
from structmat.solvers.iterative.krylov.columns import (
    Apply,
    Columns,
    Reached,
    inner,
    norms,
    quotient,
    times,
)


def conjugate_gradients(
    multiply: Apply,
    b: Array,
    bound: NDArray[np.float64],
    *,
    precondition: Apply,
    limit: int,
    report: Progress,
    xp: ModuleType,
) -> Reached:
    """Solve A x = b for a hermitian positive definite A, until each residual is within its bound.

    Parameters
    ----------
    multiply, precondition : callable
        Products (n, k) with A, and with a positive definite matrix near its inverse.
    b : array, shape (n, k)
    bound : ndarray, shape (k,)
        Bounds of the norms of the residuals.
    limit : int
        Most steps.

    Returns
    -------
    Reached
        Its curvature is zero or negative where A is not positive definite: the recurrences have
        ended there, and x is of no use.

    Notes
    -----
    A step takes one product with each matrix, for all columns, and O(n k) besides. Five arrays
    of the size of b are held.
    """
    ended, size = Columns(b.shape[1], xp), norms(b, xp)
    residual, first = size.copy(), size.max(initial=0.0)
    x, r = xp.zeros_like(b), b
    z = precondition(r)
    p, rho = z, inner(r, z, xp).real
    steps, least = 0, np.inf
    while True:
        done = residual[ended.active] <= bound[ended.active]
        x, (r, p, rho) = ended.retire(done, x, [r, p, rho])
        if not ended.active.size or steps == limit:
            break
        q = multiply(p)
        curvature = inner(p, q, xp).real
        least = min(least, float(quotient(curvature, inner(p, p, xp).real).min()))
        if not least > 0:
            break
        step = quotient(rho, curvature)
        x, r = x + times(p, step, xp), r - times(q, step, xp)
        residual[ended.active] = norms(r, xp)
        z = precondition(r)
        before, rho = rho, inner(r, z, xp).real
        p = z + times(p, quotient(rho, before), xp)
        steps += 1
        report(share(residual, bound, first))
    return Reached(ended.gathered(x), residual, steps, least)


def share(residual: NDArray[np.float64], bound: NDArray[np.float64], first: float) -> float:
    """Share of the way from the first residual to the bounds, by orders of magnitude."""
    last = float(residual.max(initial=0.0))
    aim = float(bound.min(initial=np.inf))
    if not 0 < aim < first or not 0 < last < first:
        return 0.0 if last > aim else 1.0
    return min(1.0, float(np.log(first / last) / np.log(first / aim)))
