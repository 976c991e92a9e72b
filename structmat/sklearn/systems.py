"""Solves of kernel ridge regression: by factors of the structure, or by iterations."""

from typing import NamedTuple

import numpy as np

from structmat._progress import no_progress
from structmat.compress.entries.pivoted_cholesky import pivoted_cholesky
from structmat.errors import SolveError
from structmat.matrices.low_rank import LowRank
from structmat.sklearn.checks import Real
from structmat.solvers.choice import DENSE_ROWS
from structmat.solvers.front import factorize
from structmat.solvers.iterative.krylov.conjugate_gradients import conjugate_gradients
from structmat.sources.kernel_matrix import KernelMatrix

#: Coordinates up to which far points make blocks of low rank that pay.
FEW_COORDINATES = 3
#: Pivots of the preconditioner, and most steps of the iteration.
PIVOTS, STEPS = 512, 1000
#: What the pivots leave of the trace, in multiples of alpha, up to which a few steps are enough.
NEAR = 100.0
#: Rows in which residuals are measured.
ROWS = 256
#: Compressions that are tried, each closer than the one before.
TRIES = 3


class Solved(NamedTuple):
    """Solution W of (K + alpha I) W = Y, and what is known of it."""

    weights: Real
    #: Norms of the residuals over those of Y, by some rows of K itself; the largest column's.
    residual: float
    method: str


def solved(K: KernelMatrix, alpha: float, Y: Real, tol: float) -> Solved:
    """Solve (K + alpha I) W = Y, shape (n, t), to residuals of about `tol` times the norms of Y.

    Few points make a dense matrix. Smooth kernels, which some pivots represent, and points of many
    coordinates are multiplied as they are, entry by entry, in preconditioned steps. Other points
    make hierarchical factors.

    Raises
    ------
    SolveError
        If the residuals stay above ten times `tol`.
    """
    n, d = K.points.shape
    pivots = pivoted_cholesky(K, PIVOTS, np.random.default_rng(0)) if n > DENSE_ROWS else None
    if pivots is not None and (d > FEW_COORDINATES or pivots.left.sum() <= NEAR * alpha):
        found = _by_iteration(K, alpha, Y, tol, pivots.F)
    else:
        found = _by_structure(K, alpha, Y, tol)
    if not found.residual <= 10 * tol:
        raise SolveError(
            f"the residual is {found.residual:.2g} at alpha = {alpha:g}, by {found.method}; "
            f"expected at most {tol:.2g} (take a larger alpha, a shorter length, or "
            "KernelFeatures with Ridge)"
        )
    return found


def _by_structure(K: KernelMatrix, alpha: float, Y: Real, tol: float) -> Solved:
    """Factors of a compression, which gets closer until its solution solves K's own system."""
    closer = tol
    for _ in range(TRIES):
        F = factorize(K, shift=alpha, tol=closer)
        W = np.asarray(F.solve(Y))
        found = Solved(W, residual(K, alpha, W, Y), F.method)
        if found.residual <= tol:
            break
        closer *= 0.25 * tol / found.residual
    return found


def _by_iteration(K: KernelMatrix, alpha: float, Y: Real, tol: float, F: Real) -> Solved:
    """Conjugate gradients with the inverse of F^T F + alpha I, F of some pivots of K.

    Source: Díaz, Epperly, Frangella, Tropp & Webber, "Robust, randomized preconditioning for
    kernel ridge regression", 2023 (arXiv 2304.12465), section 3.
    """
    near = factorize(LowRank(F.T, F.T), shift=alpha)
    found = conjugate_gradients(
        lambda X: K @ X + alpha * X,
        Y,
        tol * np.linalg.norm(Y, axis=0),
        precondition=near.solve,
        limit=STEPS,
        report=no_progress,
        xp=np,
    )
    method = f"conjugate gradients, {found.steps} step{'s' * (found.steps != 1)}"
    return Solved(found.x, residual(K, alpha, found.x, Y), method)


def residual(K: KernelMatrix, alpha: float, W: Real, Y: Real) -> float:
    """Norm of Y - (K + alpha I) W over that of Y, by some rows; the largest of all columns."""
    rows = np.sort(np.random.default_rng(0).permutation(len(Y))[:ROWS])
    block = K.block(rows, np.arange(len(Y)))
    left = (
        np.linalg.norm(Y[rows] - block @ W - alpha * W[rows], axis=0) * (len(Y) / len(rows)) ** 0.5
    )
    sizes = np.linalg.norm(Y, axis=0)
    return float((left / np.where(sizes > 0, sizes, 1.0)).max(initial=0.0))
