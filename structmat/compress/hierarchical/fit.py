"""Compression of sources to hierarchical matrices, by few of their entries."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress, part
from structmat.compress.goal import Goal
from structmat.compress.hierarchical.assemble import assembled, shared_ranks
from structmat.compress.hierarchical.blocks import BlockEvaluator
from structmat.compress.hierarchical.clusters import Pairs, strong_pairs
from structmat.compress.hierarchical.evaluate import CompiledEvaluator, Evaluator, Factors
from structmat.intervals import IntArray
from structmat.matrices.hierarchical import Hierarchical
from structmat.project.compiled import HAS_NUMBA

#: Share of a squared error for singular values that are dropped; the rest is for crosses.
DROPPED = 0.5
#: Entries of a rectangle that is not halved any more but stored dense.
LEAST_HALVED = 2**10


def fit_entries(
    source: Any, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> Hierarchical:
    """Hierarchical matrix near a source, to an absolute error or under a cap on the cost.

    Far rectangles are approximated by few of their rows and columns, near ones are evaluated.
    The error is shared out by what rectangles cost; it is checked on entries or lines at random
    in each, which a rectangle with few nonzero entries may still deceive.
    """
    seed = int(rng.integers(2**62))
    pairs = clusters_of(source)
    evaluator = evaluator_of(source, pairs)
    if goal.max_cost is not None:
        raise NotImplementedError
    found, near = factored(evaluator, pairs, goal.max_error or 0.0, seed, part(progress, 0.0, 0.8))
    weight = 2 if pairs.symmetric else 1
    aim = Goal(max_error=(goal.max_error or 0.0) * math.sqrt(DROPPED))
    ranks = shared_ranks(found, weight, aim, 0)
    matrix = assembled(found, ranks, near, pairs, evaluator, source.shape, np.dtype(source.dtype))
    progress(1.0)
    return matrix


def clusters_of(source: Any) -> Pairs:
    """Far and near rectangles of a source, by its points."""
    (m, n), points, points2 = source.shape, source.points, source.points2
    if points is None:
        points, points2 = _positions(m), None if m == n else _positions(n)
    if points2 is points:
        points2 = None
    return strong_pairs(points, points2, symmetric=bool(source.hermitian and points2 is None))


def _positions(n: int) -> NDArray[np.float64]:
    """Positions in the order of the input as points, for want of others."""
    return (np.arange(n)[:, None] + 0.5) / max(n, 1)


def evaluator_of(source: Any, pairs: Pairs) -> Evaluator:
    """The quickest means of approximating rectangles of a source."""
    if HAS_NUMBA and source.compiled is not None:
        return CompiledEvaluator(source, pairs)
    return BlockEvaluator(source, pairs)


def factored(
    evaluator: Evaluator, pairs: Pairs, error: float, seed: int, progress: Progress
) -> tuple[list[Factors], IntArray]:
    """All far rectangles to an error in all, and the near ones.

    A rectangle whose rank is too high is halved, again and again, or becomes near.
    """
    found: list[Factors] = []
    near, far = [pairs.near], pairs.far
    sides = _sides(far)
    each = error**2 / max(float(pairs.weight @ sides), 1.0)
    while len(far):
        some = evaluator.factored(far, np.asarray(each * _sides(far), np.float64), seed, progress)
        failed = np.concatenate([f.pairs[f.ranks < 0] for f in some])
        found += some
        small = (failed[:, 1] - failed[:, 0]) * (failed[:, 3] - failed[:, 2]) <= LEAST_HALVED
        near.append(failed[small])
        far = _quarters(failed[~small])
    return found, np.concatenate(near)


def _sides(pairs: IntArray) -> IntArray:
    return pairs[:, 1] - pairs[:, 0] + pairs[:, 3] - pairs[:, 2]


def _quarters(pairs: IntArray) -> IntArray:
    """Rectangles cut in halves on both sides, where a side has more than one line."""
    a, b, c, d = pairs.T
    i, j = (a + b + 1) // 2, (c + d + 1) // 2
    rows, cols = ((a, i), (i, b)), ((c, j), (j, d))
    cut = [np.stack([*row, *col], axis=1) for row in rows for col in cols]
    parts = np.concatenate([np.zeros((0, 4), np.int64), *cut])
    return parts[(parts[:, 1] > parts[:, 0]) & (parts[:, 3] > parts[:, 2])]
