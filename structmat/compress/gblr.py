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
from structmat.compress._svd import Operator, sketch, svdvals
from structmat.errors import ToleranceError
from structmat.intervals import IntArray
from structmat.matrices.gblr import GBLR

__all__ = ["Blocks", "fit", "fit_implicit", "search"]

#: Allowance of one run, in units of 100 microseconds, for up to so many entries.
WORK, ENTRIES = 2500, 2**18
#: First prices of the runs that start from nothing, relative to energy by cost.
FIRST_PRICES = (1.0, 0.3)
#: Below this share of the energy, and this much behind the best, starts are not worth a run.
SMOOTH, BEHIND = 1e-6, 100.0
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


def fit_implicit(
    op: Operator, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> GBLR:
    """As `fit`, for a matrix known by its products only."""
    from structmat.compress import low_rank
    matrix = low_rank.fit_implicit(op, goal, rng=rng, progress=progress)
    columns = zip(matrix.U.T, matrix.V.T, strict=True)
    blocks = [Block(0, u, 0, v) for u, v in columns]
    return GBLR(*_pack(blocks, op.dtype), shape=op.shape)


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
        goal = Goal(max_error=goal.max_error / scale * (1 - float(np.finfo(A.dtype).eps) ** 0.5))
    blocks = _Portfolio(A, scale, goal, rng, progress).search()
    progress(1.0)
    return _pack([b._replace(u=b.u * A.dtype.type(scale)) for b in blocks], A.dtype)


class _Portfolio:
    """The starts, the runs from them, and the best blocks so far, of A / scale."""

    def __init__(
        self, A: NDArray, scale: float, goal: Goal, rng: np.random.Generator, progress: Progress
    ) -> None:
        self.A, self.scale, self.goal, self.rng = A, A.dtype.type(scale), goal, rng
        self.progress = progress
        self.work = WORK * max(1.0, A.size / ENTRIES)
        self.total = self._energy([])
        self.rounding = float(np.finfo(A.dtype).eps)
        self.blocks: list[Block] = []
        self.value = (np.inf, np.inf)

    def search(self) -> list[Block]:
        """Try everything, unless linear algebra already has the matrix exactly."""
        price = 1e-3 * self.total / self._likely_cost()
        starts = []
        for exact in (self._grid(), span_blocks(self._scaled(), self.rng)):
            if exact and self._consider(exact) and self._is_exact():
                return self.blocks
            if 0 < total_cost(exact) < 1.2 * self._likely_cost():
                starts.append(_Start(exact, price))
        if self.goal.max_cost is None:
            self._consider(dense_blocks(self._scaled()))
        for start in (self._svd(), self._partition()):
            self._consider(start.blocks)
            starts.append(start)
        if self._is_exact():
            return self.blocks
        starts += [_Start([], part * self.total / self._likely_cost()) for part in FIRST_PRICES]
        self._run_all(starts)
        return self.blocks

    def _run_all(self, starts: list[_Start]) -> None:
        """Anneal from every start, then loosen and anneal the best again and again."""
        count = len(starts) + (CYCLES if self.goal.max_cost is not None else 0)
        best = 0.0
        for done, start in enumerate(starts):
            if self.goal.max_cost is not None and self._is_hopeless(start):
                continue
            run = self._run(start.blocks, done / count, 1 / count)
            price = run.anneal(start.price)
            if self._consider(run.blocks):
                best = price
        if self.goal.max_cost is None or best == 0 or self._is_exact():
            return
        run = self._run(self.blocks, len(starts) / count, 1 / count)
        run.work = run.allowance = 2 * self.work
        for _ in range(CYCLES):
            if run.work > 0:
                best = run.loosen(best, LOOSE)
                self._consider(run.blocks)

    def _run(self, blocks: list[Block], done: float, share: float) -> Run:
        def progress(part: float) -> None:
            self.progress(done + share * part)

        residual = DenseResidual(self._scaled())
        return Run(residual, blocks, self.goal, self.rng, self.work, progress)

    def _consider(self, blocks: list[Block]) -> bool:
        """Keep the blocks if they respect the goal and are better than any before."""
        energy, cost = self._energy(blocks), total_cost(blocks)
        if self.goal.max_cost is not None:
            respected, value = cost <= self.goal.max_cost, (energy, float(cost))
        else:
            respected = energy <= (self.goal.max_error or 0.0) ** 2
            value = (float(cost), energy)
        better = respected and value < self.value
        if better:
            self.blocks, self.value = list(blocks), value
        return better

    def _is_exact(self) -> bool:
        """Whether the best blocks leave nothing but rounding."""
        noise = (4 * self.rounding) ** 2 * max(self.A.shape) * self.total
        return self.goal.max_cost is not None and self.value[0] <= noise

    def _is_hopeless(self, start: _Start) -> bool:
        """Whether a run from there would hardly catch up with the best blocks.

        Adding blocks to nothing gains a share of the energy a block, which is a slow
        way to the small errors that truncation reaches on smooth matrices.
        """
        if not start.blocks:
            return self.value[0] < SMOOTH * self.total
        return self._energy(start.blocks) > BEHIND * self.value[0]

    def _energy(self, blocks: list[Block]) -> float:
        """What the blocks leave of the matrix."""
        residual = DenseResidual(self._scaled())
        for block in blocks:
            residual.change(block, -1)
        return residual.energy()

    def _likely_cost(self) -> float:
        """The cap, or what the best blocks so far cost."""
        if self.goal.max_cost is not None:
            return self.goal.max_cost
        return min(self.value[0], float(self.A.size))

    def _scaled(self) -> NDArray:
        return self.A / self.scale

    def _grid(self) -> list[Block]:
        return grid_blocks(self._scaled(), self._likely_cost())

    def _svd(self) -> _Start:
        array = self._scaled()
        if self.goal.max_cost is not None:
            rank = self.goal.max_cost // sum(array.shape)
        else:
            rank = _rank_for(array, self.goal.max_error or 0.0)
        blocks = svd_blocks(array, rank, self.rng)
        last = energy_of(blocks[-1]) if blocks else self.total
        return _Start(blocks, last / sum(array.shape))

    def _partition(self) -> _Start:
        return _Start(*partition_blocks(self._scaled(), self.goal))


def _rank_for(A: NDArray, max_error: float) -> int:
    """Least rank that meets an error."""
    energy = svdvals(A[None])[0] ** 2
    tail = np.cumsum(energy[::-1])[::-1]
    return int((tail > max_error**2).sum())


def _pack(blocks: list[Block], dtype: Any) -> Blocks:
    def integers(values: list[int]) -> IntArray:
        return np.array(values, np.int64)

    none = [np.zeros(0, dtype)]
    return Blocks(
        integers([b.row for b in blocks]),
        integers([b.u.size for b in blocks]),
        np.concatenate([b.u for b in blocks] or none),
        integers([b.col for b in blocks]),
        integers([b.v.size for b in blocks]),
        np.concatenate([b.v for b in blocks] or none),
    )
