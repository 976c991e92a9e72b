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
    Reached,
    Residuals,
    inner,
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
    residuals = Residuals(b, bound, limit, report, xp)
    x, r = xp.zeros_like(b), b
    z = precondition(r)
    p, rho, least = z, inner(r, z, xp).real, np.inf
    while True:
        done = residuals.active <= residuals.bound
        x, (r, p, rho) = residuals.ended.retire(done, x, [r, p, rho])
        if residuals.is_over:
            break
        q = multiply(p)
        curvature = inner(p, q, xp).real
        least = min(least, float(quotient(curvature, inner(p, p, xp).real).min()))
        if not least > 0:
            break
        step = quotient(rho, curvature)
        x, r = x + times(p, step, xp), r - times(q, step, xp)
        z = precondition(r)
        before, rho = rho, inner(r, z, xp).real
        p = z + times(p, quotient(rho, before), xp)
        residuals.note(r)
    return residuals.reached(x, least)
