"""Compression to GBLR: a portfolio of searches for rank-1 blocks on cyclic runs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress._gblr_cuts import grid_blocks
from structmat.compress._gblr_residual import Block, DenseResidual, FactoredResidual
from structmat.compress._gblr_run import Run, energy_of, total_cost
from structmat.compress._gblr_spans import span_blocks
from structmat.compress._gblr_starts import dense_blocks, partition_blocks, svd_blocks
from structmat.compress._goal import Goal, Progress
from structmat.compress._svd import Operator, sketch
from structmat.errors import ToleranceError
from structmat.intervals import IntArray
from structmat.matrices.gblr import GBLR

__all__ = ["Blocks", "fit", "fit_implicit", "search"]

#: Allowance of one run, in units of 100 microseconds, for up to so many entries.
WORK, ENTRIES = 2500, 2**18
#: First prices of the runs that start from nothing, relative to energy by cost.
FIRST_PRICES = (1.0, 0.3)
#: How often the best run is loosened and fitted again, and by how much.
CYCLES, LOOSE = 4, 0.25


class Blocks(NamedTuple):
    """Rank-1 blocks with packed contents, as `GBLR` takes them."""

    row_start: IntArray
    row_width: IntArray
    u: NDArray
    col_start: IntArray
    col_width: IntArray
    v: NDArray


class _Start(NamedTuple):
    """Blocks to start from, and the price at which they are about as good as they get."""

    blocks: list[Block]
    price: float


def fit(A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> GBLR:
    """`search`, as a matrix."""
    return GBLR(*search(A, goal, rng=rng, progress=progress), shape=A.shape)


def search(A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> Blocks:
    """Approximate a matrix by a sum of rank-1 blocks on cyclic runs.

    A matrix that is exactly a grid of low-rank tiles, or exactly a sum of few blocks, is
    taken apart by linear algebra. Otherwise the truncated singular value decomposition,
    the best hierarchical partition into truncated tiles, and nothing at all are starts
    for max-subarray power iteration: blocks are added, and all are fitted anew in turn,
    under a falling price for a multiplication. The best result is returned, the starts
    themselves among them, so that it is never worse than the truncated decomposition.

    Parameters
    ----------
    A : ndarray, shape (m, n)
        Finite; float32, float64, complex64 or complex128.
    goal : Goal
        A cap on the cost, or a bound on the error.
    rng : numpy.random.Generator
        The result depends on it and on the input alone, not on the time it takes.
    progress : callable

    Returns
    -------
    Blocks
        Contents in A's dtype.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.zeros((6, 6))
    >>> A[1:3, 2:5] = np.outer([1.0, 2.0], [1.0, 1.0, 3.0])
    >>> blocks = search(A, Goal(max_cost=5), rng=np.random.default_rng(0), progress=print)
    1.0
    >>> blocks.row_start, blocks.row_width, blocks.col_start, blocks.col_width
    (array([1]), array([2]), array([2]), array([3]))
    """
    scale = float(np.abs(A).max(initial=0.0))
    if scale == 0 or (goal.max_cost is not None and goal.max_cost < 2):
        progress(1.0)
        return _pack([], A.dtype)
    if goal.max_error is not None:
        goal = Goal(max_error=goal.max_error / scale)
    portfolio = _Portfolio(A, scale, goal, rng, progress)
    blocks = portfolio.best()
    progress(1.0)
    return _pack([b._replace(u=b.u * A.dtype.type(scale)) for b in blocks], A.dtype)


class _Portfolio:
    """The starts and the runs from them, and the best blocks so far."""

    def __init__(
        self, A: NDArray, scale: float, goal: Goal, rng: np.random.Generator, progress: Progress
    ) -> None:
        self.A, self.scale, self.goal, self.rng = A, A.dtype.type(scale), goal, rng
        self.progress = progress
        self.work = WORK * max(1.0, A.size / ENTRIES)
        self.blocks: list[Block] = []
        self.value = (np.inf, np.inf)

    def best(self) -> list[Block]:
        """Try everything, as long as the matrix is not met exactly."""
        residual = self._fresh()
        total = residual.energy()
        self.exact = total * (8 * float(np.finfo(self.A.dtype).eps)) ** 2 * max(self.A.shape)
        price = total / (self.goal.max_cost or sum(self.A.shape))
        starts = [self._svd(residual.array), self._partition(residual.array)]
        ...
        return self.blocks

    def _fresh(self) -> DenseResidual:
        return DenseResidual(self.A / self.scale)
