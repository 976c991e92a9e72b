"""Low rank from entries: one cross approximation of the whole."""

import numpy as np

from structmat._progress import Progress
from structmat.compress.entries.cross import cross
from structmat.compress.goal import Goal
from structmat.errors import ToleranceError
from structmat.matrices.low_rank import LowRank
from structmat.sources.source import Source

#: Rows and columns that are held back.
WATCHED = 32
#: Crosses beyond the rank of a budget, from which the best are kept.
EXTRA = 10


def fit_entries(
    source: Source, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> LowRank:
    """Near-best low-rank approximation of a source (m, n): about r (m + n) entries for rank r.

    A tolerance that takes more multiplications than the dense matrix is refused.
    """
    m, n = source.shape
    most = None if goal.max_cost is None else goal.max_cost // max(m + n, 1)
    dense = m * n // max(m + n, 1)
    found = cross(
        source.block,
        source.shape,
        goal.max_error or 0.0,
        rng,
        most=dense if most is None else min(2 * most, most + EXTRA),
        watched=WATCHED,
    )
    progress(1.0)
    if most is None and found.missed > (goal.max_error or 0.0):
        raise ToleranceError(
            f"error {goal.max_error:.3g} wanted of a norm of {goal.size:.3g}, but rank {dense}, "
            f"which costs as much as the dense matrix, misses {found.missed:.3g}; expected a "
            "larger error, or 'hierarchical' or 'block_low_rank'"
        )
    r = len(found.s) if most is None else min(most, len(found.s))
    left = found.U[:, :r] * found.s[:r]
    return LowRank(left.astype(source.dtype), found.Vh[:r].conj().T.astype(source.dtype))
