"""Condition numbers by few products and solves, to refuse matrices that are as good as singular."""

from typing import Any

import numpy as np

from structmat._array import from_numpy
from structmat._operand import multiplied
from structmat.errors import SolveError
from structmat.solvers.verify import column_norms, double

#: Condition number above which single precision gives way to double.
SINGLE_LIMIT = 1e5
#: Condition number above which a matrix counts as singular.
LIMIT = 1 / float(np.finfo(np.float64).eps)


def condition(F: Any) -> float:
    """A lower bound of the condition number of a factorization's matrix, mostly near it.

    By three products and two solves from one start, the same each time. NaN counts as infinity.

    Examples
    --------
    >>> import structmat
    >>> F = structmat.factorize(structmat.Diagonal([1.0] * 50 + [1e-12]))
    >>> 1e11 < condition(F) <= 1e12
    True
    """
    S, xp = F.matrix, F.xp
    if not S.shape[0]:
        return 1.0
    wide = double(S.dtype, xp)
    start = np.random.default_rng(0).standard_normal((S.shape[0], 1))
    begin = xp.astype(from_numpy(start, xp, S.device), wide)

    def growth(x: Any, apply: Any) -> tuple[Any, float]:
        size = float(column_norms(x, xp)[0])
        x = xp.astype(apply(x / size), wide)
        return x, float(column_norms(x, xp)[0])

    with np.errstate(all="ignore"):
        x, forward = growth(begin, lambda v: multiplied(S, v, adjoint=False))
        x, second = growth(x, lambda v: multiplied(S, v, adjoint=True))
        x, first = growth(begin, F._solve)
        x, last = growth(x, F._solve_adjoint)
        bound = max(forward, second) * max(first, last)
    return bound if np.isfinite(bound) else float("inf")


def check_condition(F: Any) -> None:
    """Refuse a factorization whose matrix is numerically singular.

    Examples
    --------
    >>> import structmat
    >>> check_condition(structmat.factorize(structmat.Diagonal([1.0, 2.0])))
    """
    found = condition(F)
    if not found < LIMIT:
        raise SolveError(
            f"{F.method}: {F.matrix!r} is numerically singular, its condition number is about "
            f"{found:.2g}; expected less than {LIMIT:.2g} (give a larger shift, or structmat.lstsq "
            "for a least-squares solution)"
        )
