"""Compression to GBLR: a portfolio of searches for rank-1 blocks on cyclic runs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress import block_low_rank
from structmat.compress._gblr_cuts import grid_blocks
from structmat.compress._gblr_implicit import fit_implicit
from structmat.compress._gblr_residual import (
    Block,
    Blocks,
    DenseResidual,
    pack,
    unpack,
)
from structmat.compress._gblr_run import Run, energy_of
from structmat.compress._gblr_spans import span_blocks
from structmat.compress._gblr_starts import dense_blocks, partition_blocks, svd_blocks
from structmat.compress._goal import Goal, Progress, no_progress
from structmat.compress._svd import svdvals
from structmat.matrices.gblr import GBLR
from structmat.matrix import StructuredMatrix

__all__ = ["Blocks", "fit", "fit_implicit", "search"]

#: Allowance of one run, in units of 100 microseconds, for up to so many entries.
WORK, ENTRIES = 2500, 2**18
#: First prices of the runs that start from nothing, relative to energy by cost; only the
#: first one for larger matrices.
FIRST_PRICES = (1.0, 0.3)
#: Below this share of the energy, and this much behind the best, starts are not worth a run.
#: In energy, or in cost where the error is given.
SMOOTH, BEHIND, DEARER = 1e-6, 100.0, 2.0
#: Exact blocks that cost this much more than wanted are still a good start.
NEARLY = 1.2
#: How often the best run is loosened and fitted again, and by how much.
CYCLES, LOOSE = 4, 0.25


class _Start(NamedTuple):
    """Blocks to start from, and the price at which they are about as good as they get."""

    blocks: Blocks
    price: float


def fit(A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> GBLR:
    """`search`, as a matrix."""
    return GBLR(*search(A, goal, rng=rng, progress=progress), shape=A.shape)


def search(A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> Blocks:
    """Approximate a matrix by a sum of rank-1 blocks on cyclic runs.

    A matrix that is exactly a grid of low-rank tiles, or exactly a sum of few blocks, is
    taken apart by linear algebra. Otherwise the truncated singular value decomposition,
    the best hierarchical partition into truncated tiles, the best block-low-rank matrix
    if it is better, and nothing at all are starts for max-subarray power iteration:
    blocks are added, and all are fitted anew in turn, under a falling price for a
    multiplication. The best result is returned, the starts themselves among them, so
    that it is never worse than the truncated decomposition.

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
    largest = float(np.abs(A).max(initial=0.0))
    # A power of two, so that scaling is exact.
    scale = float(np.ldexp(1.0, np.frexp(largest)[1] - 1))
    if largest == 0 or (goal.max_cost is not None and goal.max_cost < 2):
        progress(1.0)
        return pack([], A.dtype)
    if goal.max_error is not None:
        goal = Goal(max_error=goal.max_error / scale)
    blocks = _Portfolio(A, scale, goal, rng, progress).search()
    progress(1.0)
    return blocks._replace(u=blocks.u * A.dtype.type(scale))


class _Portfolio:
    """The starts, the runs from them, and the best blocks so far, of A / scale."""

    def __init__(
        self, A: NDArray, scale: float, goal: Goal, rng: np.random.Generator, progress: Progress
    ) -> None:
        self.A, self.scale, self.goal, self.rng = A, A.dtype.type(scale), goal, rng
        self.progress = progress
        self.work = WORK * max(1.0, A.size / ENTRIES)
        self.rounding = float(np.finfo(A.dtype).eps)
        self.blocks = pack([], A.dtype)
        self.total = self._energy(self.blocks)
        self.doubt = 4 * self.rounding * self.total**0.5
        # Runs and starts aim a little below an error, so that rounding does not undo them.
        self.aim = goal
        if goal.max_error is not None:
            self.aim = Goal(max_error=max(goal.max_error - 2 * self.doubt, 0.0))
        self.value = (np.inf, np.inf)

    def search(self) -> Blocks:
        """Try everything, unless linear algebra already has the matrix exactly."""
        if self.goal.max_error is not None and self.total**0.5 <= self.goal.max_error:
            return self.blocks
        price = 1e-3 * self.total / self._likely_cost()
        starts = []
        for find in (self._grid, self._spans):
            exact = self._pack(find())
            if self._consider(exact) and self._is_exact():
                return self.blocks
            if 0 < _cost(exact) < NEARLY * self._likely_cost():
                starts.append(_Start(exact, price))
        if self.goal.max_cost is None:
            self._consider(self._pack(dense_blocks(self._scaled())))
        for start in (self._svd(), self._partition()):
            self._consider(start.blocks)
            starts.append(start)
        tiled = self._tiled()
        if self._consider(tiled.blocks):
            starts.append(tiled)
        if self._is_exact():
            return self.blocks
        several = FIRST_PRICES if self.A.size <= ENTRIES else FIRST_PRICES[:1]
        average = self.total / self._likely_cost()
        starts += [_Start(self._pack([]), part * average) for part in several]
        self._run_all(starts)
        return self.blocks

    def _run_all(self, starts: list[_Start]) -> None:
        """Anneal from every start, then loosen and anneal the best again and again."""
        before = len(starts)
        count = before + (CYCLES if self.goal.max_cost is not None else 0)
        best = 0.0
        for done in range(before):
            start = starts.pop(0)
            if not self._is_hopeless(start):
                blocks, price, _ = self._anneal(start, self.work, done / count, 1 / count)
                if self._consider(blocks):
                    best = price
        if self.goal.max_cost is None or best == 0 or self._is_exact():
            return
        start, work = _Start(self.blocks, best), 2 * self.work
        for done in range(before, count):
            blocks, price, work = self._anneal(start, work, done / count, 1 / count, LOOSE)
            self._consider(blocks)
            start = _Start(blocks, price)

    def _anneal(
        self, start: _Start, work: float, done: float, share: float, loose: float = 0.0
    ) -> tuple[Blocks, float, float]:
        """One run: its blocks, the price where it ended, and the work left over."""
        if work <= 0:
            return start.blocks, start.price, work

        def progress(part: float) -> None:
            self.progress(done + share * part)

        residual = DenseResidual(self._scaled())
        run = Run(residual, list(unpack(start.blocks)), self.aim, self.rng, work, progress)
        price = run.loosen(start.price, loose) if loose else run.anneal(start.price)
        return self._pack(run.blocks), price, run.work

    def _consider(self, blocks: Blocks) -> bool:
        """Keep the blocks if they respect the goal and are better than any before."""
        energy, cost = self._energy(blocks), _cost(blocks)
        if self.goal.max_cost is not None:
            respected, value = cost <= self.goal.max_cost, (energy, float(cost))
        else:
            # What is left is known up to rounding only, unless it is nothing.
            doubt = self.doubt if energy > 0 else 0.0
            respected = energy**0.5 + doubt <= (self.goal.max_error or 0.0)
            value = (float(cost), energy)
        better = respected and value < self.value
        if better:
            self.blocks, self.value = blocks, value
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
        if self.goal.max_cost is not None:
            energy, behind = self.value[0], self._energy(start.blocks) > BEHIND * self.value[0]
        else:
            energy = (self.goal.max_error or 0.0) ** 2
            behind = _cost(start.blocks) > DEARER * self.value[0]
        return behind if _cost(start.blocks) else energy < SMOOTH * self.total

    def _energy(self, blocks: Blocks) -> float:
        """What the blocks leave of the matrix."""
        residual = DenseResidual(self._scaled())
        for block in unpack(blocks):
            residual.change(block, -1)
        return residual.energy()

    def _likely_cost(self) -> float:
        """The cap, or what the best blocks so far cost."""
        if self.goal.max_cost is not None:
            return self.goal.max_cost
        return min(self.value[0], float(self.A.size))

    def _scaled(self) -> NDArray:
        return self.A / self.scale

    def _pack(self, blocks: list[Block]) -> Blocks:
        return pack(blocks, self.A.dtype)

    def _spans(self) -> list[Block]:
        return span_blocks(self._scaled(), self.rng)

    def _grid(self) -> list[Block]:
        return grid_blocks(self._scaled(), self._likely_cost())

    def _svd(self) -> _Start:
        size = sum(self.A.shape)
        if self.goal.max_cost is not None:
            rank = self.goal.max_cost // size
        else:
            rank = _rank_for(self._scaled(), self.aim.max_error or 0.0)
        found = svd_blocks(self.A, rank, self.rng)
        blocks = [b._replace(u=b.u / self.scale) for b in found]
        last = energy_of(blocks[-1]) if blocks else self.total
        return _Start(self._pack(blocks), last / size)

    def _tiled(self) -> _Start:
        """The best block-low-rank matrix: one size of tile, which partitions do not try."""
        matrix = self._block_low_rank(self.aim)
        cap = self.goal.max_cost
        if cap is not None and matrix.cost > cap:
            # As rank-one blocks a dense tile costs a little more than its area.
            matrix = self._block_low_rank(Goal(max_cost=cap**2 // matrix.cost))
        blocks = Blocks(*(getattr(matrix, name) for name in Blocks._fields))
        worth = [energy_of(block) / block.cost for block in unpack(blocks)]
        return _Start(blocks, min(worth, default=self.total))

    def _block_low_rank(self, goal: Goal) -> StructuredMatrix:
        fitted = block_low_rank.fit(self._scaled(), goal, rng=self.rng, progress=no_progress)
        return fitted.to_kind("gblr")

    def _partition(self) -> _Start:
        blocks, price = partition_blocks(self._scaled(), self.aim)
        return _Start(self._pack(blocks), price)


def _cost(blocks: Blocks) -> int:
    return blocks.u.size + blocks.v.size


def _rank_for(A: NDArray, max_error: float) -> int:
    """Least rank that meets an error."""
    energy = svdvals(A[None])[0] ** 2
    tail = np.cumsum(energy[::-1])[::-1]
    return int((tail > max_error**2).sum())
