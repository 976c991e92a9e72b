"""Factors of small dense arrays: Cholesky or LU, with rows and columns scaled first.

On NumPy by LAPACK; on other libraries by the inverse, since the array API has no triangular
solves. An array whose reciprocal condition number is below the rounding error is refused.
"""

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any

import numpy as np
from scipy.linalg.lapack import get_lapack_funcs

from structmat._array import Array, DType, device, from_numpy, is_numpy, namespace, to_numpy
from structmat._array import adjoint as _flipped
from structmat.errors import SolveError
from structmat.solvers.elimination.pivots import of_cholesky, of_lu
from structmat.solvers.results import LogDeterminant
from structmat.solvers.verify import LIMIT, double

#: Single precision gives way to double below this reciprocal condition number.
_SINGLE_ENOUGH = 1e-5

#: Rows and columns whose largest entries are above this number, and below its inverse, stay.
_EVEN = 2.0**-10

Scales = tuple[Array, Array]


def factored(
    A: Array, xp: ModuleType, *, hermitian: bool, name: str, narrow: DType | None = None
) -> "Factors":
    """Factors of a square array (n, n); errors call it by `name`.

    Cholesky factors need a lower triangle with its mirror image: `hermitian` promises it. Factors
    are in the dtype `narrow`, by default that of A, where that is precise enough for the condition
    of A, and otherwise in double precision.

    Examples
    --------
    >>> A = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> factors = factored(A, np, hermitian=True, name="A")
    >>> factors.solve(np.array([[3.0], [4.0]])).round(12)
    array([[1.],
           [1.]])
    """
    narrow, wide = A.dtype if narrow is None else narrow, double(A.dtype, xp)
    with np.errstate(all="ignore"):
        if is_numpy(xp) and not hermitian:
            hermitian = np.array_equal(A, A.conj().T)
        if narrow != wide:
            found = _in_single(xp.astype(A, narrow, copy=False), xp, hermitian, name)
            if found is not None:
                return found
        found = _factors(xp.astype(A, wide, copy=False), xp, hermitian, name)
    limit = 1 / LIMIT
    if not found.rcond > limit:
        raise SolveError(
            f"{name} is numerically singular: its reciprocal condition number is about "
            f"{found.rcond:.2g}; expected more than {limit:.2g} (give a larger shift, or "
            "structmat.lstsq for a least-squares solution)"
        )
    return found


def _in_single(A: Array, xp: ModuleType, hermitian: bool, name: str) -> "Factors | None":
    """Factors in single precision; None where that is too little."""
    try:
        found = _factors(A, xp, hermitian, name)
    except SolveError:
        return None
    return found if found.rcond > _SINGLE_ENOUGH else None


class Factors(ABC):
    """Abstract factors of an array M, of which ``diag(left) M diag(right)`` was factored."""

    rcond: float
    dtype: DType

    def __init__(self, dtype: DType, scales: Scales) -> None:
        self.dtype = dtype
        self.left, self.right = (scale[:, None] for scale in scales)

    @abstractmethod
    def _inner(self, b: Any, *, adjoint: bool) -> Any:
        """A solve with the array that was factored, or with its adjoint."""

    @abstractmethod
    def _inner_logdet(self) -> LogDeterminant:
        """Log-determinant of the array that was factored."""

    def solve(self, b: Array) -> Array:
        """A solution of M x = b for columns b (n, k)."""
        return self.right * self._inner(self.left * b, adjoint=False)

    def solve_adjoint(self, b: Array) -> Array:
        """A solution of M^H x = b for columns b (n, k)."""
        return self.left * self._inner(self.right * b, adjoint=True)

    def logdet(self) -> LogDeterminant:
        """Log-determinant of M."""
        found = self._inner_logdet()
        scaled = sum(float(np.log2(to_numpy(s)).sum()) for s in (self.left, self.right))
        return found._replace(logabsdet=found.logabsdet - scaled * float(np.log(2.0)))


class _Cholesky(Factors):
    """Lower Cholesky factor by LAPACK."""

    def __init__(self, lower: np.ndarray, rcond: float, scales: Scales) -> None:
        super().__init__(lower.dtype, scales)
        self.lower, self.rcond = lower, rcond

    def _inner(self, b: Any, *, adjoint: bool) -> Any:
        (solve,) = get_lapack_funcs(("potrs",), (self.lower,))
        return solve(self.lower, b, lower=True)[0]

    def _inner_logdet(self) -> LogDeterminant:
        return LogDeterminant(*of_cholesky(np.diagonal(self.lower)))


class _Lu(Factors):
    """LU factors with row exchanges by LAPACK."""

    def __init__(self, lu: np.ndarray, pivots: np.ndarray, rcond: float, scales: Scales) -> None:
        super().__init__(lu.dtype, scales)
        self.lu, self.pivots, self.rcond = lu, pivots, rcond

    def _inner(self, b: Any, *, adjoint: bool) -> Any:
        (solve,) = get_lapack_funcs(("getrs",), (self.lu,))
        return solve(self.lu, self.pivots, b, trans=2 if adjoint else 0)[0]

    def _inner_logdet(self) -> LogDeterminant:
        return LogDeterminant(*of_lu(np.diagonal(self.lu), self.pivots))


class _Inverse(Factors):
    """The inverse, for libraries without triangular solves."""

    def __init__(self, inverse: Array, whole: Array, rcond: float, scales: Scales) -> None:
        super().__init__(inverse.dtype, scales)
        self.inverse, self.whole, self.rcond = inverse, whole, rcond

    def _inner(self, b: Any, *, adjoint: bool) -> Any:
        xp = namespace(self.inverse)
        inverse = _flipped(self.inverse, xp) if adjoint else self.inverse
        # Torch multiplies arrays of one dtype alone.
        wide = xp.result_type(inverse.dtype, b.dtype)
        return xp.astype(inverse, wide, copy=False) @ xp.astype(b, wide, copy=False)

    def _inner_logdet(self) -> LogDeterminant:
        sign, logabs = np.linalg.slogdet(to_numpy(self.whole))
        return LogDeterminant(sign.item(), float(logabs))


def _factors(A: Array, xp: ModuleType, hermitian: bool, name: str) -> Factors:
    if not is_numpy(xp) or not A.shape[0]:
        return _by_inverse(A, xp, name)
    if hermitian:
        found = _by_cholesky(A)
        if found is not None:
            return found
    return _by_lu(A, name)


def _by_cholesky(A: np.ndarray) -> _Cholesky | None:
    """Cholesky factors; None for an array that is not positive definite."""
    diagonal = np.diagonal(A).real
    if not (diagonal > 0).all():
        return None
    scale = _power(np.sqrt(diagonal))
    A = scale[:, None] * A * scale
    factor, condition = get_lapack_funcs(("potrf", "pocon"), (A,))
    lower, info = factor(A, lower=True, clean=False)
    if info:
        return None
    rcond = condition(lower, np.linalg.norm(A, 1), uplo="L")[0]
    return _Cholesky(lower, float(rcond), (scale, scale))


def _by_lu(A: np.ndarray, name: str) -> _Lu:
    left, right = _scales(A, np, name)
    A = left[:, None] * A * right
    factor, condition = get_lapack_funcs(("getrf", "gecon"), (A,))
    lu, pivots, info = factor(A)
    if info > 0:
        raise SolveError(
            f"{name} is singular: pivot {info - 1} of its elimination is zero; expected an "
            "invertible matrix (give a shift, or structmat.lstsq for a least-squares solution)"
        )
    rcond = condition(lu, np.linalg.norm(A, 1))[0]
    return _Lu(lu, pivots, float(rcond), (left, right))


def _by_inverse(A: Array, xp: ModuleType, name: str) -> _Inverse:
    left, right = (
        from_numpy(scale.astype(np.float64), xp, device(A)) for scale in _scales(A, xp, name)
    )
    real = xp.float64 if xp.finfo(A.dtype).bits == 64 else xp.float32
    left, right = xp.astype(left, real), xp.astype(right, real)
    A = left[:, None] * A * right
    try:
        inverse = xp.linalg.inv(A) if A.shape[0] else A
    except (np.linalg.LinAlgError, RuntimeError):  # torch has an error of its own
        raise SolveError(
            f"{name} is singular; expected an invertible matrix (give a shift, or structmat.lstsq "
            "for a least-squares solution)"
        ) from None
    rcond = 1.0
    if A.shape[0]:
        sizes = [float(xp.max(xp.sum(xp.abs(M), axis=0))) for M in (A, inverse)]
        rcond = 1.0 / (sizes[0] * sizes[1])
    return _Inverse(inverse, A, rcond, (left, right))


def _scales(A: Array, xp: ModuleType, name: str) -> Scales:
    """Powers of two that bring the largest entry of each row, then of each column, near 1."""
    if not A.shape[0]:
        return np.ones(0), np.ones(0)
    left, right = balancing(A, xp)
    for scale, axis in ((left, "row"), (right, "column")):
        if not np.isfinite(scale).all():
            at = int(np.flatnonzero(~np.isfinite(scale))[0])
            raise SolveError(
                f"{name} is singular: its {axis} {at} is zero; expected an invertible matrix (give "
                "a shift, or structmat.lstsq for a least-squares solution)"
            )
    return left, right


def balancing(A: Array, xp: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    """Powers of two that bring the largest entries of rows and columns of (…, n, n) near 1.

    Both take half of the way at a time, until they meet (Ruiz 2001, RAL-TR-2001-034); infinite
    for zeros.

    Examples
    --------
    >>> D = np.diag([1.0, 2.0**40])
    >>> left, right = balancing(D @ np.array([[2.0, 1.0], [1.0, 2.0]]) @ D, np)
    >>> bool(np.all(left == right)), bool(left[0] > 2.0**30 * left[1])
    (True, True)
    """
    sizes = np.abs(to_numpy(A))
    left, right = (np.ones(A.shape[:-1], sizes.dtype) for _ in range(2))
    for share in (2, 2, 2, 2, 1):
        rows, cols = sizes.max(axis=-1), sizes.max(axis=-2)
        if _is_even(rows) and _is_even(cols):
            break
        steps = _power(rows, share), _power(cols, share)
        left, right = left * steps[0], right * steps[1]
        sizes = steps[0][..., :, None] * sizes * steps[1][..., None, :]
    return left, right


def _is_even(sizes: np.ndarray) -> bool:
    """True for numbers of one size, near 1."""
    return bool(((sizes > _EVEN) & (sizes < 1 / _EVEN)).all())


def _power(sizes: np.ndarray, share: int = 1) -> np.ndarray:
    """Powers of two near the inverses of numbers, or of their roots; infinite for zeros."""
    limit = 120 if sizes.dtype == np.float32 else 1000
    exponents = np.clip(-np.frexp(sizes)[1] // share, -limit, limit)
    return np.where(sizes > 0, np.ldexp(np.ones_like(sizes), exponents), np.inf)
