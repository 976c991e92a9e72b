"""Solves measured by one product, refined while that helps, and refused above ten tolerances."""

from types import ModuleType
from typing import Any

import numpy as np

from structmat._array import Array, DType, computing_on, device, from_numpy, is_complex, to_numpy
from structmat.contract.operand import multiplied
from structmat.errors import InputError, SolveError
from structmat.matrix import StructuredMatrix
from structmat.solvers.results import Solution
from structmat.sources.source import Source

#: Most steps of refinement of one solve.
_STEPS = 4
#: A step that leaves more than this fraction of the error is the last.
_SLOW = 0.5
#: Condition number above which a matrix counts as singular. The rounding of its entries takes a
#: singular matrix as far from all others as a few units of the last place.
LIMIT = 1 / (16 * float(np.finfo(np.float64).eps))
#: A solution that leaves more than this part of the right-hand side is none, if the matrix is
#: numerically singular.
_LEFT = 0.5
#: An error above this number of tolerances is refused.
REFUSED = 10
#: Products for the lower bound of a spectral norm.
_NORM_STEPS = 4
#: Smallest divisor.
_TINY = float(np.finfo(np.float64).tiny)
#: Right-hand sides between these absolute values are not scaled.
_SMALL, _LARGE = 2.0**-30, 2.0**30


def double(dtype: DType, xp: ModuleType) -> DType:
    """The real or complex dtype of double precision, in which residuals are computed."""
    return xp.complex128 if xp.isdtype(dtype, "complex floating") else xp.float64


def verified(F: Any, b: Array, *, adjoint: bool, exact: bool = False) -> Solution:
    """The solution for columns b (n, k) by a factorization F, measured and refined.

    Residuals are those of the columns that are returned, in double precision. Refinement ends
    once they are below `F.tol`, or where it gains nothing: of a matrix with a large condition
    number only the backward error is small, and that counts. Unless `exact`, a small residual
    stands for a small backward error, and spares the norm of S.
    """
    xp, narrow = F.xp, b.dtype
    if 0 in b.shape:
        return Solution(xp.zeros_like(b), 0.0, 0.0, 0, F.method)
    wide = double(narrow, xp)
    with np.errstate(all="ignore"):
        b = xp.astype(b, wide, copy=False)
        b, scale = in_range(b, xp)
        try:
            found = _refined(F, b, narrow, adjoint=adjoint, exact=exact)
        except SolveError:
            check_products(F.matrix)
            raise
        x = found.x if scale is None else found.x * scale
        x = xp.astype(x, narrow, copy=False)
    if not bool(xp.all(xp.isfinite(x))):
        raise SolveError(
            f"{F.method}: the solution overflows {narrow}; expected finite numbers (scale the "
            "right-hand side, or use double precision)"
        )
    return Solution(x, found.residual, found.backward_error, found.iterations, F.method)


def in_range(b: Array, xp: ModuleType) -> tuple[Array, Array | None]:
    """Columns of moderate size, and their scales or None; those that are not finite raise."""
    peaks = to_numpy(xp.max(xp.abs(b), axis=0))
    if not np.isfinite(peaks).all():
        column = int(np.flatnonzero(~np.isfinite(peaks))[0])
        raise InputError(
            f"column {column} of the right-hand side has a NaN or an infinity (or overflows); "
            "expected finite numbers (find them with numpy.isfinite)"
        )
    inside = (peaks == 0) | ((peaks > _SMALL) & (peaks < _LARGE))
    if inside.all():
        return b, None
    powers = 2.0 ** np.clip(np.frexp(np.where(inside, 1.0, peaks))[1], -1022, 1022)
    scale = from_numpy(powers, xp, device(b))
    return b / scale, scale


def _refined(F: Any, b: Array, narrow: DType, *, adjoint: bool, exact: bool) -> Solution:
    """The best of a few steps, for columns b in double precision and x in `narrow`."""
    xp, sizes = F.xp, column_norms(b, F.xp)
    own = narrow if F.neutral else _own(F.dtype, b, xp)
    rest, x, steps = b, xp.zeros((), dtype=b.dtype, device=F.device), 0
    best: Solution | None = None
    for step in range(_STEPS + 1):
        change, taken = _step(F, xp.astype(rest, own, copy=False), b.dtype, adjoint=adjoint)
        x = x + change
        steps = step if taken is None else steps + taken
        rest = b - multiplied(F.matrix, x, adjoint=adjoint)
        measured = _errors(F, x, rest, sizes, exact=exact)
        if best is not None and not measured[0] < _SLOW * best.residual:
            break
        best = Solution(x, *measured, steps, F.method)
        if measured[0] <= F.tol:
            break
    assert best is not None
    if narrow != b.dtype:  # the result is rounded, so its error is another one
        x = xp.astype(xp.astype(best.x, narrow), b.dtype)
        rest = b - multiplied(F.matrix, x, adjoint=adjoint)
        best = Solution(x, *_errors(F, x, rest, sizes, exact=exact), best.iterations, F.method)
    if not best.backward_error <= REFUSED * F.tol:
        remedy = (
            "the matrix may be close to singular: give factorize a larger shift, a larger tol, or "
            "double precision"
        )
        if best.backward_error <= float(xp.finfo(narrow).eps):
            remedy = (
                f"that is the rounding of {narrow}: give factorize a larger tol, or a right-hand "
                "side in double precision"
            )
        raise SolveError(
            f"{F.method}: backward error {best.backward_error:.2g} after {best.iterations} steps; "
            f"expected at most {REFUSED * F.tol:.2g}, {REFUSED} tol ({remedy})"
        )
    if best.residual > _LEFT:
        _check_growth(F, column_norms(best.x, xp) / np.maximum(sizes, _TINY))
    return best


def _check_growth(F: Any, growth: np.ndarray) -> None:
    """Refuse solutions that are so long beside right-hand sides as singular matrices make them."""
    condition = F._norm * _largest(growth)
    if not condition < LIMIT:
        raise SolveError(
            f"{F.method}: the matrix is numerically singular, its condition number is at least "
            f"{condition:.2g}; expected less than {LIMIT:.2g} (give factorize a larger shift, or "
            "structmat.lstsq for a least-squares solution)"
        )


def _step(F: Any, b: Array, wide: DType, *, adjoint: bool) -> tuple[Array, int | None]:
    """A solve that is not measured, and the steps of an iterative method."""
    count = getattr(F, "_counted", None)
    x, steps = (
        (F.unmeasured(b, adjoint=adjoint), None) if count is None else count(b, adjoint=adjoint)
    )
    return F.xp.astype(x, wide, copy=False), steps


def _own(dtype: DType, rest: Array, xp: ModuleType) -> DType:
    """Dtype in which a factorization solves: its own, complex if the right-hand side is."""
    return xp.result_type(dtype, xp.complex64) if is_complex(rest, xp) else dtype


def column_norms(x: Array, xp: ModuleType) -> np.ndarray:
    """Euclidean norms of columns, on the host in double precision; squares may overflow."""
    with np.errstate(all="ignore"):
        found = np.asarray(to_numpy(xp.linalg.vector_norm(x, axis=0)), np.float64)
    if np.isfinite(found).all() and found.all():
        return found
    sizes = np.abs(to_numpy(x)).astype(np.float64)
    peaks = sizes.max(axis=0, initial=0.0)
    with np.errstate(all="ignore"):
        scaled = np.linalg.norm(sizes / np.where(peaks > 0, peaks, 1.0), axis=0)
        return np.asarray(scaled * peaks)


def _errors(
    F: Any, x: Array, rest: Array, sizes: np.ndarray, *, exact: bool
) -> tuple[float, float]:
    """Largest residual and backward error of the columns; NaN counts as infinity."""
    left, lengths = column_norms(rest, F.xp), column_norms(x, F.xp)
    residual = _largest(left / np.maximum(sizes, _TINY))
    # |S x| is a lower bound of |S| |x|, and enough where the residual is small.
    reached = np.maximum(sizes - left, 0.0)
    if exact or not residual <= F.tol:
        reached = np.maximum(reached, F._norm * lengths)
    return residual, _largest(left / np.maximum(reached + sizes, _TINY))


def _largest(values: np.ndarray) -> float:
    value = float(values.max())
    return value if np.isfinite(value) else float("inf")


def norm_bound(S: StructuredMatrix) -> float:
    """A lower bound of the spectral norm of S by a few products, the same each time.

    Examples
    --------
    >>> import structmat
    >>> 2.99 < norm_bound(structmat.Diagonal([1.0, -3.0])) <= 3.0
    True
    """
    xp, v = S.xp, _start(S)
    bound, adjoint = 0.0, False
    with np.errstate(all="ignore"):
        for _ in range(_NORM_STEPS):
            size = float(column_norms(v, xp)[0])
            if not (np.isfinite(size) and size > 0):
                break
            v = multiplied(S, v / size, adjoint=adjoint)
            bound, adjoint = max(bound, float(column_norms(v, xp)[0])), not adjoint
    return bound


def _start(S: StructuredMatrix) -> Array:
    """A vector (n, 1) for products with S, the same each time."""
    start = np.random.default_rng(0).standard_normal((S.shape[1], 1))
    return S.xp.astype(from_numpy(start, S.xp, S.device), double(S.dtype, S.xp))


def check_products(S: StructuredMatrix) -> None:
    """Refuse a matrix whose product with a vector of norm one has a NaN or an infinity.

    Sources are left out: their products are dear, and their entries are checked elsewhere.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> check_products(structmat.LowRank(np.full((3, 1), 1e200), np.full((3, 1), 1e200)))
    Traceback (most recent call last):
    structmat.errors.SolveError: products with <3x3 LowRank, ...
    """
    if 0 in S.shape or has_source(S):
        return
    with np.errstate(all="ignore"), computing_on(S.xp, S.device):
        start = _start(S)
        product = multiplied(S, start / float(column_norms(start, S.xp)[0]), adjoint=False)
    if not bool(S.xp.all(S.xp.isfinite(product))):
        raise SolveError(
            f"products with {S!r} have a NaN or an infinity: its contents overflow in them, or an "
            "operator gives such numbers; expected finite ones (divide the matrix and the "
            "right-hand side by one number, or mend the operator)"
        )


def has_source(A: StructuredMatrix) -> bool:
    """True for a matrix with a source in it, whose entries cost more than products.

    A source by a function of the user's cannot move to NumPy either.
    """
    return isinstance(A, Source) or any(map(has_source, A.children))
