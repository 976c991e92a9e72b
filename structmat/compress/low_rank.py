"""Compression to low rank: the truncated singular value decomposition."""

from collections.abc import Callable

import numpy as np

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.range import best_of_rank, range_of
from structmat.compress.source import svd_residual
from structmat.errors import ToleranceError
from structmat.matrices.low_rank import LowRank
from structmat.project.ranks import low_rank
from structmat.project.svd import (
    EXACT_SIDE,
    Operator,
    Triple,
    numerical_rank,
    smallest_rank,
    truncated_svd,
)

#: Rank of the first try when a tolerance is to be met; doubled until it is.
FIRST_RANK = 32
#: Share of the allowed error that the basis of an operator may miss; truncation has the rest.
MISSED = 0.5


def fit(A: np.ndarray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> LowRank:
    """Best low-rank approximation of a matrix (m, n) (Eckart & Young).

    The rank is ``max_cost // (m + n)``, or A's rank if that is lower; for an error, the
    smallest one that meets it. If rounding keeps even full rank from meeting the error, a
    `ToleranceError` says so.
    """
    first = min(A.shape) if min(A.shape) <= EXACT_SIDE else FIRST_RANK
    return _fit(A, goal, lambda rank: truncated_svd(A, rank, rng), first, progress)


def _fit(
    A: np.ndarray,
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
            return low_rank(triple, smallest_rank(triple[1], max_error, error))
        if rank == min(m, n):
            raise ToleranceError(
                f"error {max_error:.3g} wanted, but full rank {rank} reaches only "
                f"{error:.3g} in {A.dtype}; allow more"
            )
        rank = min(2 * rank, m, n)
        progress(rank / (2 * min(m, n)))


def fit_implicit(
    op: Operator, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> LowRank:
    """Near-best low-rank approximation of a matrix known by its products only.

    A randomised basis grows until products with further random vectors show that it misses
    little. It takes about 2 r products for a matrix of rank r, whatever its size, and 2 r more
    for each sweep that the last singular values need. Where the rank is near half of the
    smaller side, the matrix is formed, with fewer products.
    """
    if goal.max_cost is not None:
        triple = best_of_rank(op, goal.max_cost // max(sum(op.shape), 1), rng)
        progress(1.0)
        return low_rank(triple, numerical_rank(triple[1], op.shape))
    basis, max_error = range_of(op, rng), goal.max_error or 0.0
    if basis.dense is None:
        basis.reach_error(MISSED * max_error)
    if basis.dense is not None:
        return fit(basis.dense, goal, rng=rng, progress=progress)
    triple, missed = basis.triple(basis.columns), basis.left
    progress(1.0)
    return low_rank(triple, smallest_rank(triple[1], max_error, missed))
