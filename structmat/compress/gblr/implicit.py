"""Compression to GBLR of a matrix that is known by its products only."""

import math

import numpy as np
from numpy.typing import NDArray

from structmat.compress import low_rank
from structmat.compress.gblr.anneal import Run
from structmat.compress.gblr.residual import Block, FactoredResidual, pack
from structmat.compress.goal import Goal, Progress
from structmat.compress.measure import norm, residual
from structmat.compress.svd import Operator, sketch
from structmat.matrices.gblr import GBLR

#: Allowance of the run, in units of about 100 microseconds.
WORK = 20000
#: The sketch has so many times the rank that the goal buys by truncation, and some more.
RICHER, EXTRA = 2, 8


def fit_implicit(op: Operator, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> GBLR:
    """As `fit`, on a randomised sketch of the matrix, which is never formed.

    A sketch Y Z^H of twice the rank that truncation could afford stands for the
    matrix; the search starts from the truncation and sees only products. Whichever of
    the two is closer to the matrix itself is returned.

    Parameters
    ----------
    op : Operator, shape (m, n)
    goal : Goal
    rng : numpy.random.Generator
    progress : callable

    Returns
    -------
    GBLR

    Raises
    ------
    ToleranceError
        If no rank meets the error.

    Notes
    -----
    Memory O((m + n) rank + cost). The final measurement takes a product with each unit
    vector, in portions.
    """
    m, n = op.shape
    if goal.max_cost is not None:
        rank = min(goal.max_cost // max(m + n, 1), m, n)
    else:
        rank = low_rank.fit_implicit(op, goal, rng=rng, progress=lambda _share: None).rank
    plain, found = _candidates(op, goal, rank, rng, progress)
    return found if found is not None and _better(op, goal, found, plain) else plain


def _candidates(
    op: Operator, goal: Goal, rank: int, rng: np.random.Generator, progress: Progress
) -> tuple[GBLR, GBLR | None]:
    """The truncation, and what the search makes of it if the sketch leaves room for one."""
    m, n = op.shape
    left, s, Vh = sketch(op, min(RICHER * rank + EXTRA, m, n), rng)
    left *= s
    right = Vh.conj().T
    truncated = [Block(0, left[:, k], 0, right[:, k]) for k in range(min(rank, len(s)))]
    plain = _matrix(truncated, op)
    inner = _inner_goal(op, goal, s)
    if inner is None:
        return plain, None
    run = Run(FactoredResidual(left, right), truncated, inner, rng, WORK, progress)
    total = float((s.astype(np.float64) ** 2).sum())
    last = float(s[rank - 1]) ** 2 / (m + n) if rank else total / max(goal.max_cost or 1, 1)
    run.anneal(last)
    return plain, _matrix(run.blocks, op)


def _matrix(blocks: list[Block], op: Operator) -> GBLR:
    return GBLR(*pack(blocks, op.dtype), shape=op.shape)


def _inner_goal(op: Operator, goal: Goal, s: NDArray) -> Goal | None:
    """What is asked of the search on the sketch; None where the sketch leaves no room."""
    if goal.max_cost is not None:
        return goal if goal.max_cost >= 2 and s.any() else None
    missed = norm(op) ** 2 - float((s.astype(np.float64) ** 2).sum())
    room = (goal.max_error or 0.0) ** 2 - max(missed, 0.0)
    return Goal(max_error=math.sqrt(room) * (1 - 1e-3)) if room > 0 else None


def _better(op: Operator, goal: Goal, found: GBLR, plain: GBLR) -> bool:
    error = residual(op, found)
    if goal.max_cost is not None:
        return found.cost <= goal.max_cost and error < residual(op, plain)
    return error <= (goal.max_error or 0.0) and found.cost < plain.cost
