"""The front of the room: arguments checked, a factorization chosen, solves by it."""

from typing import Any

from structmat import _array
from structmat.algebra.arguments import as_matrix
from structmat.errors import ShapeError
from structmat.kinds import later
from structmat.matrix import StructuredMatrix
from structmat.solvers.arguments import computing, finite_matrix, finite_number, tolerance
from structmat.solvers.choice import direct
from structmat.solvers.factorization import Factorization
from structmat.solvers.iterative import solver as iterative
from structmat.solvers.results import LogDeterminant


def factorize(
    A: StructuredMatrix, *, shift: complex = 0.0, tol: float | None = None
) -> Factorization:
    """An operator that solves systems with S = A + shift I, by the structure of A.

    Parameters
    ----------
    A : StructuredMatrix, shape (n, n)
        An array, a sparse matrix or a linear operator is taken as well.
    shift : float or complex
        Multiple of the identity that is added. Beside contents on torch also a tensor without
        axes, which solves and determinants pass gradients to.
    tol : float, optional
        Bound of the backward error of every solve, ``|b - S x| / (|S| |x| + |b|)``; by default
        1e-8, or 1e-5 for contents in single precision. At least the rounding of double precision,
        2.2e-16, which right-hand sides in single precision do not reach.

    Returns
    -------
    Factorization

    Raises
    ------
    SolveError
        If S is singular, exactly or numerically, or no method applies.
    ShapeError
        If A is not square.
    InputError
        If the contents hold a NaN or an infinity, or an argument is invalid.

    Notes
    -----
    The kind of A chooses the method. A matrix of at most 2048 rows that no structure helps is
    formed; a larger one is solved by iterations. Where these fail, or take longer than a dense
    factorization, one of up to 2^26 entries (8192 rows) is formed during its first solve, and
    `Factorization.method` is then "dense". A larger `KernelMatrix` or `Entries` is compressed
    first, to an error of at most `tol` of its norm, and of at most four tenths of the shift (the
    whole of it inside of sums and products): S is then the compression with its shift, and so is
    `Factorization.matrix`.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> U = np.random.default_rng(0).standard_normal((500, 3))
    >>> F = structmat.factorize(structmat.LowRank(U, U), shift=0.1)
    >>> F
    <500x500 factorization, woodbury of rank 3, float64>
    >>> b = np.ones(500)
    >>> x = F.solve(b)
    >>> bool(np.allclose(F.matrix @ x, b))
    True
    """
    A = as_matrix(A)
    if _array.has_gradients(A.xp):
        follow = later("structmat.solvers.gradients.recorded:factorize")
        followed: Factorization = follow(A, shift, tol, _factorized)
        return followed
    return _factorized(A, shift, tol)


def _factorized(A: StructuredMatrix, shift: Any, tol: Any) -> Factorization:
    """A factorization of values, which nothing follows."""
    with _array.computing_on(A.xp, A.device):
        A, shift, tol = _checked(A, shift, tol)
    with computing(A):
        found = direct(A, shift, tol)
        if found is NotImplemented:
            found = iterative.factorize(A, shift, tol)
    chosen: Factorization = found
    return chosen


def solve(A: StructuredMatrix, b: Any, *, shift: complex = 0.0, tol: float | None = None) -> Any:
    """A solution x of (A + shift I) x = b, by the structure of A.

    Parameters
    ----------
    A : StructuredMatrix, shape (n, n)
        An array, a sparse matrix or a linear operator is taken as well.
    b : array, shape (n,), (n, k) or (…, n, k)
        Also a sparse or a structured matrix of n rows.
    shift, tol
        As in `factorize`.

    Returns
    -------
    array of the shape of b
        For a `LowRank` matrix b a `LowRank` matrix.

    Raises
    ------
    SolveError
        If A + shift I is singular, exactly or numerically, if no method applies, or if the
        backward error stays above ten times `tol`.
    InputError
        If `b` or the contents of A hold a NaN or an infinity.
    ShapeError
        If A is not square, or the rows of `b` are not n.
    BackendError
        If `b` belongs to another array library or device than A.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((3, 1)))
    >>> structmat.solve(A, np.array([4.0, 4.0, 4.0]), shift=1.0)
    array([1., 1., 1.])
    """
    return factorize(A, shift=shift, tol=tol).solve(b)


def logdet(
    A: StructuredMatrix, *, shift: complex = 0.0, tol: float | None = None, rng: Any = None
) -> LogDeterminant:
    """Sign and logarithm of the determinant of A + shift I.

    Parameters
    ----------
    A : StructuredMatrix, shape (n, n)
        An array, a sparse matrix or a linear operator is taken as well.
    shift, tol
        As in `factorize`.
    rng : int or numpy.random.Generator, optional
        For estimates, where no direct method gives the determinant.

    Returns
    -------
    LogDeterminant
        With the sign as `numpy.linalg.slogdet` gives it. On torch the logarithm is a tensor
        without axes, which passes gradients to the contents and a tensor as shift.

    Raises
    ------
    SolveError
        If A + shift I is singular, exactly or numerically, or no method applies.
    ShapeError
        If A is not square.
    InputError
        If the contents hold a NaN or an infinity.

    Examples
    --------
    >>> import structmat
    >>> structmat.logdet(structmat.Diagonal([1.0, -1.0]))
    LogDeterminant(sign=-1.0, logabsdet=0.0, error=0.0)
    """
    return factorize(A, shift=shift, tol=tol).logdet(rng=rng)


def _checked(A: Any, shift: Any, tol: Any) -> tuple[StructuredMatrix, complex, float]:
    A = finite_matrix(A)
    m, n = A.shape
    if m != n:
        raise ShapeError(
            f"a {m}x{n} matrix has no inverse; expected a square one (structmat.lstsq solves in "
            "the sense of least squares)"
        )
    return A, finite_number(shift), tolerance(tol, A)
