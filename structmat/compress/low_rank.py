"""Compression to low rank: the truncated singular value decomposition."""

from collections.abc import Callable

import numpy as np

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.source import svd_residual
from structmat.errors import ToleranceError
from structmat.matrices.low_rank import LowRank
from structmat.project.ranks import low_rank
from structmat.project.svd import (
    EXACT_SIDE,
    Operator,
    Triple,
    numerical_rank,
    sketch,
    truncated_svd,
)

#: Rank of the first try when a tolerance is to be met; doubled until it is.
FIRST_RANK = 32


def fit(A: np.ndarray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> LowRank:
    """Best low-rank approximation of a matrix (m, n) (Eckart & Young).

    The rank is ``max_cost // (m + n)``, or A's rank if that is lower; for an error, the
    smallest one that meets it. If rounding keeps even full rank from meeting the error, a
    `ToleranceError` says so.
    """
    first = min(A.shape) if min(A.shape) <= EXACT_SIDE else FIRST_RANK
    return _fit(A, goal, lambda rank: truncated_svd(A, rank, rng), first, progress)


def fit_implicit(
    op: Operator, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> LowRank:
    """Near-best low-rank approximation of a matrix known by its products only.

    A randomised sketch comes within about 1e-3 of the best error.
    """
    return _fit(op, goal, lambda rank: sketch(op, rank, rng), FIRST_RANK, progress)


def _fit(
    A: np.ndarray | Operator,
    goal: Goal,
    decompose: Callable[[int], Triple],
    first: int,
    progress: Progress,
) -> LowRank:
    """Truncate at the budget's rank, or double the rank until the error is met."""
    m, n = A.shape
    if goal.max_cost is not None:
        triple = decompose(goal.max_cost // max(m + n, 1))
        progress(1.0)
        return low_rank(triple, numerical_rank(triple[1], A.shape))
    rank, max_error = min(first, m, n), goal.max_error or 0.0
    while True:
        triple = decompose(rank)
        error = svd_residual(A, triple)
        if error <= max_error:
            progress(1.0)
            return low_rank(triple, _smallest_rank(triple[1], error, max_error))
        if rank == min(m, n):
            raise ToleranceError(
                f"error {max_error:.3g} wanted, but full rank {rank} reaches only "
                f"{error:.3g} in {A.dtype}; allow more"
            )
        rank = min(2 * rank, m, n)
        progress(rank / (2 * min(m, n)))


def _smallest_rank(s: np.ndarray, error: float, max_error: float) -> int:
    """Smallest rank whose error stays in the bound; `error` is that of all singular values."""
    tail = error**2 + np.cumsum(s[::-1].astype(np.float64) ** 2)
    return len(s) - int((tail <= max_error**2).sum())
