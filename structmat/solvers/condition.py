"""Condition numbers and errors by a few products and solves, before a factorization is trusted."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, onenormest

from structmat import _array
from structmat._array import from_numpy, to_numpy
from structmat.contract.operand import multiplied
from structmat.errors import SolveError
from structmat.solvers.verify import LIMIT, column_norms, double


class Probe(NamedTuple):
    """Lower bound of a condition number, and the backward error of one solve."""

    condition: float
    error: float


def probe(F: Any) -> Probe:
    """Test a factorization on one start, the same each time: by three products and two solves.

    The bound is mostly near the condition number. NaN counts as infinity.

    Examples
    --------
    >>> import structmat
    >>> found = probe(structmat.factorize(structmat.Diagonal([1.0] * 50 + [1e-12])))
    >>> 1e11 < found.condition <= 1e12, found.error < 1e-15
    (True, True)
    """
    S, xp = F.matrix, F.xp
    if not S.shape[0]:
        return Probe(1.0, 0.0)
    wide = double(S.dtype, xp)
    start = np.random.default_rng(0).standard_normal((S.shape[0], 1))
    v = xp.astype(from_numpy(start / np.linalg.norm(start), xp, S.device), wide)

    def size(x: Any) -> float:
        return float(column_norms(x, xp)[0])

    with np.errstate(all="ignore"):
        x = xp.astype(F.unmeasured(v), wide)
        reached = multiplied(S, x, adjoint=False)
        length, image = size(x), multiplied(S, v, adjoint=False)
        if not length > 0:  # the inverse underflows, or is no inverse
            return Probe(float("inf"), float("inf"))
        again = xp.astype(F.unmeasured(x / length, adjoint=True), wide)
        largest = size(image)
        turned = size(multiplied(S, image / largest, adjoint=True)) if largest > 0 else 0.0
        norm = _largest(size(reached) / length, largest, turned)
        condition = norm * _largest(length, size(again))
        error = size(reached - v) / (norm * length + 1)
    return Probe(*(value if np.isfinite(value) else float("inf") for value in (condition, error)))


def _largest(*values: float) -> float:
    return max(values) if all(map(np.isfinite, values)) else float("inf")


def estimate(F: Any) -> float:
    """Lower bound of the condition number in the 1-norm, by products and unmeasured solves.

    Of S and of its inverse by the power method of Hager, as LAPACK's gecon takes it (Higham 1988,
    ACM Trans. Math. Softw. 14), which is SciPy's with one column. The same each time.

    Examples
    --------
    >>> import structmat
    >>> estimate(structmat.factorize(structmat.Diagonal([1.0, -4.0])))
    4.0
    """
    if not F.shape[0]:
        return 1.0
    S = F.matrix
    products = _on_host(F, lambda x, adjoint: multiplied(S, x, adjoint=adjoint))
    solves = _on_host(F, lambda x, adjoint: F.unmeasured(x, adjoint=adjoint))
    with np.errstate(all="ignore"):
        bound = float(onenormest(products, t=1) * onenormest(solves, t=1))
    return bound if np.isfinite(bound) else float("inf")


def _on_host(F: Any, apply: Callable[[Any, bool], Any]) -> LinearOperator:
    """Products of columns of any library as an operator of NumPy's, in double precision."""
    xp, wide = F.xp, double(F.matrix.dtype, F.xp)

    def product(x: np.ndarray, adjoint: bool) -> np.ndarray:
        x = x.reshape(F.shape[0], -1)
        columns = xp.astype(from_numpy(np.ascontiguousarray(x), xp, F.device), wide)
        return to_numpy(xp.astype(apply(columns, adjoint), wide))

    turned = _array.is_complex(F.matrix, xp)
    return LinearOperator(
        F.shape,
        matvec=partial(product, adjoint=False),
        rmatvec=partial(product, adjoint=True),
        matmat=partial(product, adjoint=False),
        rmatmat=partial(product, adjoint=True),
        dtype=np.complex128 if turned else np.float64,
    )


def check_condition(F: Any) -> None:
    """Refuse a factorization whose matrix is numerically singular.

    Examples
    --------
    >>> import structmat
    >>> check_condition(structmat.factorize(structmat.Diagonal([1.0, 2.0])))
    """
    found = probe(F).condition
    if not found < LIMIT:
        raise singular(F, found)


def singular(F: Any, condition: float) -> SolveError:
    """The error of a matrix that is numerically singular."""
    return SolveError(
        f"{F.method}: {F.matrix!r} is numerically singular, its condition number is about "
        f"{condition:.2g}; expected less than {LIMIT:.2g} (give a larger shift, or structmat.lstsq "
        "for a least-squares solution)"
    )
