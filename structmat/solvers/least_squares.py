"""Least squares for matrices of any shape and rank, with the error of each solution measured.

Thin factors, diagonals and matrices that are small enough to form have a pseudoinverse; square
matrices with a direct method are solved by it; LSMR does all others.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from structmat._array import Array, adjoint, adjoint_times, has_gradients, is_numpy
from structmat._progress import no_progress
from structmat.algebra.arguments import as_matrix
from structmat.contract.operand import matrix_product, multiplied, vector_product
from structmat.errors import SolveError
from structmat.kinds import later
from structmat.matrices import Dense, Diagonal, LowRank
from structmat.matrix import StructuredMatrix
from structmat.solvers.arguments import (
    check_device,
    check_formed,
    computing,
    finite_matrix,
    right_hand_side,
    tolerance,
)
from structmat.solvers.choice import DENSE_ROWS, structured
from structmat.solvers.direct.thin import thin_form
from structmat.solvers.iterative.krylov.least_squares import lsmr
from structmat.solvers.verify import (
    REFUSED,
    check_products,
    column_norms,
    double,
    in_range,
    norm_bound,
)

#: A matrix of more entries is not formed, nor one with both sides longer than `DENSE_ROWS`.
_FORMED_ENTRIES = 2**24
#: Steps of LSMR as multiples of the shorter side.
_STEPS = 4


def lstsq(A: StructuredMatrix, b: Any, *, tol: float | None = None) -> Array:
    """The x of least norm among those that minimise ``|b - A x|``.

    Parameters
    ----------
    A : StructuredMatrix, shape (m, n)
        Of any shape and rank. An array, a sparse matrix or a linear operator is taken as well.
    b : array, shape (m,), (m, k) or (…, m, k)
    tol : float, optional
        Bound of the error: of ``|A^H r| / (|A| |r|)`` for the residual ``r = b - A x``, or of
        ``|r| / (|A| |x| + |b|)`` where that is less. By default 1e-8, or 1e-5 for contents in
        single precision. At least the rounding of double precision, 2.2e-16.

    Returns
    -------
    array, shape (n,), (n, k) or (…, n, k)

    Raises
    ------
    SolveError
        If the error stays above ten times `tol`.
    InputError
        If `b` or the contents of A hold a NaN or an infinity.
    ShapeError
        If the rows of `b` are not m.
    BackendError
        If `b` belongs to another array library or device than A.

    Notes
    -----
    Singular values count as zero below max(m, n) rounding errors of the largest, as in
    `numpy.linalg.lstsq`. Matrices that are too large to form are solved by LSMR (Fong & Saunders
    2011, SIAM J. Sci. Comput. 33), whose steps grow with the condition number.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> A = structmat.LowRank(np.ones((4, 1)), np.ones((2, 1)))
    >>> structmat.lstsq(A, np.array([1.0, 2.0, 3.0, 4.0]))
    array([1.25, 1.25])
    """
    A = as_matrix(A)
    b = right_hand_side(b, A)
    check_device(b, A)
    make: Any = Pseudoinverse
    if has_gradients(A.xp):
        make = later("structmat.solvers.gradients.least_squares:RecordedPseudoinverse")
    with computing(A):
        run = make(A, tol)
    product = vector_product if b.ndim < 2 else matrix_product
    return product(run, b, adjoint=False)


class Pseudoinverse:
    """The pseudoinverse of a matrix as a factor of products; each is measured."""

    def __init__(self, A: StructuredMatrix, tol: float | None) -> None:
        A = finite_matrix(A)
        tol = tolerance(tol, A)
        self.A, self.tol, self.shape = A, tol, A.shape[::-1]
        self.xp, self.device = A.xp, A.device
        self.dtype, self.neutral = A.dtype, A.neutral
        self.solve = _method(A, tol)

    def _wider(self, dtype: Any) -> "Pseudoinverse":
        return self

    def _multiply(self, b: Array) -> Array:
        """Solutions (n, k) for columns b (m, k)."""
        A, xp, narrow = self.A, self.xp, b.dtype
        if 0 in (*A.shape, b.shape[1]):
            return xp.zeros((A.shape[1], b.shape[1]), dtype=narrow, device=self.device)
        with computing(A):
            b, scale = in_range(xp.astype(b, double(narrow, xp), copy=False), xp)
            x = xp.astype(xp.astype(self.solve(b), narrow), b.dtype)
            error = self._error(x, b)
            x = xp.astype(x if scale is None else x * scale, narrow)
        if not error <= REFUSED * self.tol or not bool(xp.all(xp.isfinite(x))):
            check_products(A)
            raise SolveError(
                f"least squares with {A!r}: error {error:.2g}; expected at most "
                f"{REFUSED * self.tol:.2g}, {REFUSED} tol (give a larger tol, or double precision)"
            )
        return x

    def _error(self, x: Array, b: Array) -> float:
        """Largest of the columns' errors: of the normal equations, or of the system if less."""
        A, xp = self.A, self.xp
        rest = b - multiplied(A, x, adjoint=False)
        left, norm = column_norms(rest, xp), norm_bound(A)
        slope = column_norms(multiplied(A, rest, adjoint=True), xp)
        system = norm * column_norms(x, xp) + column_norms(b, xp)
        errors = [
            top / np.where(under > 0, under, 1.0)
            for top, under in ((slope, norm * left), (left, system))
        ]
        return float(np.minimum(*errors).max())


def _method(A: StructuredMatrix, tol: float) -> Callable[[Array], Array]:
    """A function that solves for columns in double precision."""
    thin = thin_form(A)
    if thin is not None:
        return _by_thin_factors(thin, A)
    if isinstance(A, Diagonal):
        return _by_diagonal(A)
    if A.shape[0] == A.shape[1]:
        try:
            F = structured(A, 0.0, tol)
        except SolveError:  # singular
            F = NotImplemented
        if F is not NotImplemented:
            solve: Callable[[Array], Array] = F.matmat
            return solve
    if isinstance(A, Dense) or (
        min(A.shape) <= DENSE_ROWS and A.shape[0] * A.shape[1] <= _FORMED_ENTRIES
    ):
        return _by_dense_form(A)
    return partial(_by_steps, A, tol)


def _by_thin_factors(low_rank: LowRank, A: StructuredMatrix) -> Callable[[Array], Array]:
    xp, wide = A.xp, double(A.dtype, A.xp)
    left, right = (xp.linalg.qr(xp.astype(F, wide)) for F in (low_rank.U, low_rank.V))
    inverse = _pseudoinverse(left[1] @ adjoint(right[1], xp), A)
    return lambda b: right[0] @ (inverse @ adjoint_times(left[0], b, xp))


def _by_diagonal(A: Diagonal) -> Callable[[Array], Array]:
    xp, d = A.xp, A.xp.astype(A.d, double(A.dtype, A.xp))
    sizes = xp.abs(d)
    keep = sizes > _cutoff(A) * float(xp.max(sizes)) if A.shape[0] else sizes > 0
    one = xp.ones_like(d)
    inverse = xp.where(keep, one / xp.where(keep, d, one), 0 * one)
    return lambda b: inverse[:, None] * b


def _by_dense_form(A: StructuredMatrix) -> Callable[[Array], Array]:
    dense = check_formed(A.xp.astype(A.to_dense(), double(A.dtype, A.xp)), A)
    if is_numpy(A.xp):
        return lambda b: np.linalg.lstsq(dense, b, rcond=_cutoff(A))[0]
    inverse = _pseudoinverse(dense, A)
    return lambda b: inverse @ b


def _pseudoinverse(M: Array, A: StructuredMatrix) -> Array:
    """Pseudoinverse of an array that has the singular values of A."""
    xp = A.xp
    if not M.shape[0] * M.shape[1]:
        return adjoint(M, xp)
    u, s, vh = xp.linalg.svd(M, full_matrices=False)
    keep = int(xp.sum(xp.astype(s > _cutoff(A) * s[0], xp.int64)))
    return (adjoint(vh, xp)[:, :keep] / s[:keep]) @ adjoint(u[:, :keep], xp)


def _cutoff(A: StructuredMatrix) -> float:
    """Singular values below this fraction of the largest count as zero, as in NumPy."""
    return max(A.shape) * float(A.xp.finfo(A.dtype).eps)


def _by_steps(A: StructuredMatrix, tol: float, b: Array) -> Array:
    multiply, adjoint = (partial(multiplied, A, adjoint=turned) for turned in (False, True))
    limit = _STEPS * min(A.shape)
    found = lsmr(multiply, adjoint, b, tol, limit=limit, report=no_progress, xp=A.xp)
    return found.x
