"""A hierarchical factorization of low accuracy: cheap, and a good preconditioner."""

import math
from typing import Any

from structmat.compress import compress
from structmat.errors import SolveError
from structmat.matrices import Hierarchical
from structmat.solvers.hierarchical.direct import HierarchicalFactorization, factored_weak
from structmat.solvers.hierarchical.weak import weak_form
from structmat.solvers.shifted import shifted
from structmat.sources.source import Source

#: Tries for a definite one, each at a quarter of the error.
TRIES = 4


def loose_factorization(
    A: Any, shift: complex, tol: float, *, most: float = math.inf
) -> HierarchicalFactorization | None:
    """Factors near those of S = A + shift I, whose ``_solve(b)`` applies a preconditioner.

    Parameters
    ----------
    A : Hierarchical or Source, shape (n, n)
        A source is compressed first.
    shift : number
        Multiple of the identity.
    tol : float
        Error as a share of the Frobenius norm of A.
    most : float
        Multiplications of the factorization; None is returned where it promises to take more.

    Raises
    ------
    SolveError
        If a node is singular, or if A is Hermitian and the shift positive, but their sum is not
        definite, even at smaller errors.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> points = np.random.default_rng(0).random((600, 2))
    >>> A = structmat.compress(structmat.KernelMatrix(points, "matern32"), "hierarchical",
    ...                        tol=1e-6).matrix
    >>> F = loose_factorization(A, 1.0, 1e-3)
    >>> b = np.ones((600, 1))
    >>> bool(np.linalg.norm(A @ F._solve(b) + F._solve(b) - b) < 0.1 * np.linalg.norm(b))
    True
    """
    if isinstance(A, Source):
        A = compress(A, "hierarchical", tol=tol, rng=0).matrix
    matrix: Hierarchical = A
    error, norm = tol, float(matrix.norm())
    definite = isinstance(shift, float | int) and shift > 0
    for attempt in range(1, TRIES + 1):
        weak = weak_form(matrix, error * norm, most=most)
        if weak is None:
            return None
        S, exact = shifted(matrix, shift), weak.exact
        try:
            recursion = factored_weak(weak, matrix, shift, definite=definite)
            return HierarchicalFactorization(S, matrix, recursion, exact, tol)
        except SolveError:
            if attempt == TRIES or not definite:
                raise
        error /= 4
    raise AssertionError
