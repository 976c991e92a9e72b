"""Compression to GBLR: a portfolio of searches for rank-1 blocks on cyclic runs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress import block_low_rank
from structmat.compress.gblr.anneal import Run, energy_of, most_blocks
from structmat.compress.gblr.exact_grid import grid_blocks
from structmat.compress.gblr.exact_sum import span_blocks
from structmat.compress.gblr.power_iteration import entry_runs
from structmat.compress.gblr.residual import (
    Block,
    Blocks,
    DenseResidual,
    pack,
    squares,
    unpack,
)
from structmat.compress.gblr.starts import dense_blocks, partition_blocks, svd_blocks
from structmat.compress.goal import Goal, Progress, no_progress
from structmat.compress.svd import svdvals
from structmat.matrices.gblr import GBLR
from structmat.matrix import StructuredMatrix

#: Allowance of one run, in units of 100 microseconds, for up to so many entries.
WORK, ENTRIES = 2000, 2**18
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
#: The share of the progress that is reported for the starts.
STARTS = 0.3
#: Starts are held up to so many times the size of the matrix, and runs hold no more.
HELD = 0.5


class _Start(NamedTuple):
    """Blocks to start from, and the price at which they are about as good as they get."""

    blocks: Blocks
    price: float
    #: What they leave of the matrix, in energy.
    energy: float

    @property
    def cost(self) -> int:
        """Multiplications of one product with a vector."""
        return _cost(self.blocks)


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
        The result depends on it and on the input alone, not on the time it takes. Only
        the linear algebra library and its number of threads may change last digits, and
        with them which blocks are found.
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
    >>> rng = np.random.default_rng(0)
    >>> blocks = search(A, Goal(max_cost=5), rng=rng, progress=no_progress)
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
        self.noise = (4 * self.rounding) ** 2 * max(A.shape) * self.total
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
        starts: list[_Start] = []
        scattered = self._is_scattered()
        for done, find in enumerate(() if scattered else (self._grid, self._spans)):
            start = find()
            self._consider(start)
            if start.cost < NEARLY * self._likely_cost():
                self._keep(starts, start)
            self.progress(STARTS * (done + 1) / 6)
        if self._is_exact() or (scattered and self._consider(self._runs())):
            return self.blocks
        best = -1
        for done, make in enumerate((self._partition, self._runs, self._svd, self._tiled)):
            if done == 2 and self.goal.max_cost is None and self.value[0] > self.A.size:
                self._consider(self._start(dense_blocks(self._scaled()), 0.0))
            start = make()
            better = self._consider(start)
            best = done if better else best
            if make != self._runs and (better or make != self._tiled):
                self._keep(starts, start)
            del start
            self.progress(STARTS * (done + 3) / 6)
            # Where rows beat truncated parts, there is nothing of low rank to refine.
            if done == 2 and best == 1 and not self._is_exact():
                return self.blocks
            # Where the whole beats all its partitions, so it does even tiles.
            if done == 2 and best == 2:
                break
        if self._likely_cost() <= HELD * self.A.size and not self._is_exact():
            several = FIRST_PRICES if self.A.size <= ENTRIES else FIRST_PRICES[:1]
            average = self.total / self._likely_cost()
            starts += [self._start([], part * average) for part in several]
            self._run_all(starts)
        return self.blocks

    def _keep(self, starts: list[_Start], start: _Start) -> None:
        """Keep a start if a run may hold its blocks; the best ones where memory is short."""
        if 0 < len(start.blocks.row_start) <= most_blocks(self.A.shape, self.A.dtype):
            starts.append(start)
        by_cost = self.goal.max_cost is None
        while starts and sum(s.cost for s in starts) > HELD * self.A.size:
            worst = [s.cost if by_cost else s.energy for s in starts]
            starts.pop(int(np.argmax(worst)))

    def _run_all(self, starts: list[_Start]) -> None:
        """Anneal from every start, then loosen and anneal the best again and again."""
        before = len(starts)
        count = before + (CYCLES if self.goal.max_cost is not None else 0)
        best: _Start | None = None
        for done in range(before):
            start = starts.pop(0)
            if not self._is_hopeless(start):
                found, _ = self._anneal(start, self.work, done / count, 1 / count)
                if self._consider(found):
                    best = found
            del start
        if self.goal.max_cost is None or best is None or self._is_exact():
            return
        found, best, work = best, None, 2 * self.work
        for done in range(before, count):
            if work <= 0:
                break
            found, work = self._anneal(found, work, done / count, 1 / count, LOOSE)
            self._consider(found)

    def _anneal(
        self, start: _Start, work: float, done: float, share: float, loose: float = 0.0
    ) -> tuple[_Start, float]:
        """One run: its blocks and the price where it ended, and the work left over."""

        def progress(part: float) -> None:
            self.progress(STARTS + (1 - STARTS) * (done + share * part))

        residual = DenseResidual(self._scaled())
        run = Run(residual, list(unpack(start.blocks)), self.aim, self.rng, work, progress)
        price = run.loosen(start.price, loose) if loose else run.anneal(start.price)
        del residual, run.residual
        return self._start(run.blocks, price), run.work

    def _start(self, blocks: list[Block], price: float) -> _Start:
        packed = self._pack(blocks)
        blocks.clear()
        return _Start(packed, price, self._energy(packed))

    def _consider(self, found: _Start) -> bool:
        """Keep the blocks if they respect the goal and are better than any before."""
        energy, cost = found.energy, found.cost
        if self.goal.max_cost is not None:
            # Of what is exact to rounding the cheapest is best.
            missed = energy if energy > self.noise else 0.0
            respected, value = cost <= self.goal.max_cost, (missed, float(cost))
        else:
            # What is left is known up to rounding only, unless it is nothing.
            doubt = self.doubt if energy > 0 else 0.0
            respected = energy**0.5 + doubt <= (self.goal.max_error or 0.0)
            value = (float(cost), energy)
        better = respected and value < self.value
        if better:
            self.blocks, self.value = found.blocks, value
        return better

    def _is_scattered(self) -> bool:
        """Whether runs of entries hold the matrix, but more of them than a grid is worth."""
        nonzero = self.A != 0
        runs = int(nonzero[:, 0].sum() + (nonzero[:, 1:] & ~nonzero[:, :-1]).sum())
        most = self.goal.max_cost if self.goal.max_cost is not None else HELD * self.A.size
        few = runs <= most_blocks(self.A.shape, self.A.dtype)
        return not few and runs + int(nonzero.sum()) <= most

    def _is_exact(self) -> bool:
        """Whether the best blocks leave nothing but rounding."""
        return self.goal.max_cost is not None and self.value[0] <= self.noise

    def _is_hopeless(self, start: _Start) -> bool:
        """Whether a run from there would hardly catch up with the best blocks.

        Adding blocks to nothing gains a share of the energy a block, which is a slow
        way to the small errors that truncation reaches on smooth matrices.
        """
        if self.goal.max_cost is not None:
            energy, behind = self.value[0], start.energy > BEHIND * self.value[0]
        else:
            energy = (self.goal.max_error or 0.0) ** 2
            behind = start.cost > DEARER * self.value[0]
        return behind if start.cost else energy < SMOOTH * self.total

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

    def _exact_price(self) -> float:
        return 1e-3 * self.total / self._likely_cost()

    def _spans(self) -> _Start:
        # Eliminations that overflow leave more than they take, and are not considered.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._start(span_blocks(self._scaled(), self.rng), self._exact_price())

    def _grid(self) -> _Start:
        blocks = grid_blocks(self._scaled(), self._likely_cost())
        return self._start(blocks, self._exact_price())

    def _runs(self) -> _Start:
        blocks, energy = entry_runs(self._scaled(), self.aim)
        return _Start(blocks, self._exact_price(), energy)

    def _svd(self) -> _Start:
        size = sum(self.A.shape)
        if self.goal.max_cost is not None:
            rank = self.goal.max_cost // size
            if rank * size > HELD * self.A.size:
                rank = min(rank, _rank_for(self._scaled(), self.noise**0.5))
        else:
            rank = _rank_for(self._scaled(), self.aim.max_error or 0.0)
        if rank * size > HELD * self.A.size and not self._truncation_helps(rank):
            return self._start([], 0.0)
        found = svd_blocks(self.A, rank, self.rng)
        found = [b._replace(u=b.u / self.scale) for b in found]
        # Beyond the rank of the matrix, singular vectors hold rounding alone.
        found = [block for block in found if energy_of(block) > self.noise]
        last = energy_of(found[-1]) if found else self.total
        return self._start(found, last / size)

    def _truncation_helps(self, rank: int) -> bool:
        """Whether truncation to a high rank beats the best so far; by values alone."""
        if self.goal.max_cost is None:
            return rank * sum(self.A.shape) < self.value[0]
        tail = svdvals(self._scaled()[None])[0][rank:]
        return float(squares(tail).sum()) < self.value[0]

    def _tiled(self) -> _Start:
        """The best block-low-rank matrix: one size of tile, which partitions do not try."""
        cap, aim = self.goal.max_cost, self.aim
        if cap is not None:
            cap = min(cap, int(HELD * self.A.size))
            aim = Goal(max_cost=cap)
        matrix = self._block_low_rank(aim)
        if cap is not None and matrix.cost > cap:
            # As rank-one blocks a dense tile costs a little more than its area.
            fitting = Goal(max_cost=cap**2 // matrix.cost)
            del matrix
            matrix = self._block_low_rank(fitting)
        blocks = Blocks(*(getattr(matrix, name) for name in Blocks._fields))
        worth = [energy_of(block) / block.cost for block in unpack(blocks)]
        return _Start(blocks, min(worth, default=self.total), self._energy(blocks))

    def _block_low_rank(self, goal: Goal) -> StructuredMatrix:
        fitted = block_low_rank.fit(self._scaled(), goal, rng=self.rng, progress=no_progress)
        return fitted.to_kind("gblr")

    def _partition(self) -> _Start:
        blocks, price = partition_blocks(self._scaled(), self.aim)
        return self._start(blocks, price)


def _cost(blocks: Blocks) -> int:
    return blocks.u.size + blocks.v.size


def _rank_for(A: NDArray, max_error: float) -> int:
    """Least rank that meets an error."""
    energy = svdvals(A[None])[0] ** 2
    tail = np.cumsum(energy[::-1])[::-1]
    return int((tail > max_error**2).sum())
