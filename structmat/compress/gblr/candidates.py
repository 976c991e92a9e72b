"""Candidates: the starts of a search, and the selection among all that it finds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat._progress import no_progress
from structmat.compress import block_low_rank
from structmat.compress.gblr.exact_grid import grid_blocks
from structmat.compress.gblr.exact_sum import span_blocks
from structmat.compress.gblr.lines import best_lines, exact_lines
from structmat.compress.gblr.partition import leading_blocks, partition_blocks
from structmat.compress.gblr.residual import (
    BLOCK_OVERHEAD,
    Block,
    Blocks,
    Candidate,
    most_blocks,
    squares,
)
from structmat.compress.goal import Goal
from structmat.matrix import StructuredMatrix
from structmat.project.svd import svdvals, truncated_svd

#: Most scalars that a start, or all starts together, hold, as a share of the entries.
HELD_SHARE = 0.5
#: Share of the matrix's energy. Where less than that is left by the best candidate, or allowed
#: by the goal, annealing from no blocks hardly catches up.
SMOOTH_ENERGY = 1e-6
#: Cost of exact blocks, as a multiple of the wanted one, up to which annealing starts there.
EXACT_COST = 1.2
#: Energy of a start, as a multiple of the best one's, above which annealing hardly catches up.
HOPELESS_ENERGY = 100.0
#: Cost of a start, as a multiple of the best one's, above which annealing hardly catches up.
HOPELESS_COST = 2.0
#: Most entries of a matrix that a pursuit takes: a few seconds; some thirty times that without
#: Numba.
PURSUED_ENTRIES = 2**20
#: Least energy that a pursuit comes down to, as a share of the matrix's.
PURSUED_ENERGY = 1e-9


class Selection:
    """The best candidate so far that respects a goal; candidates and goal are of A / scale."""

    def __init__(self, A: NDArray, scale: np.number, goal: Goal) -> None:
        nothing = Candidate.of(A, scale, [], 0.0)
        self.goal = self.aim = goal
        #: Number of blocks that annealing may hold.
        self.most_blocks = most_blocks(A)
        self._most_held = HELD_SHARE * A.size
        #: Energy of the matrix.
        self.total = nothing.energy
        rounding = 4 * float(np.finfo(A.dtype).eps)
        #: Energy that may be rounding.
        self.noise = rounding**2 * max(A.shape) * self.total
        self._doubt = rounding * self.total**0.5
        if goal.max_error is not None:
            # A little below, so that rounding does not undo a search.
            self.aim = Goal(max_error=max(goal.max_error - 2 * self._doubt, 0.0))
        #: The best blocks so far.
        self.blocks: Blocks = nothing.blocks
        #: Starts of annealing.
        self.kept: list[Candidate] = []
        #: Energy and cost of the best candidate under a cap, cost and energy for an error.
        self.value = (np.inf, np.inf)
        #: The cap on the cost, or the best candidate's cost.
        self.likely_cost = float(A.size if goal.max_cost is None else goal.max_cost)
        #: True if the best candidate leaves only rounding under a cap on the cost.
        self.exact = False

    def consider(self, found: Candidate) -> bool:
        """Keep a candidate if it respects the goal and is better than all before it."""
        energy, cost = found.energy, float(found.cost)
        if self.goal.max_cost is not None:
            # Among candidates that are exact up to rounding, prefer the cheapest.
            missed = energy if energy > self.noise else 0.0
            respected, value = cost <= self.goal.max_cost, (missed, cost)
        else:
            # The energy is known up to rounding, except that zero is exact.
            doubt = self._doubt if energy > 0 else 0.0
            respected = energy**0.5 + doubt <= (self.goal.max_error or 0.0)
            value = (cost, energy)
        better = respected and value < self.value
        if better:
            self.blocks, self.value = found.blocks, value
            if self.goal.max_cost is not None:
                self.exact = energy <= self.noise
            else:
                self.likely_cost = min(cost, self.likely_cost)
        return better

    def consider_start(self, found: Candidate) -> bool:
        """Consider a candidate, and keep it as a start of annealing."""
        better = self.consider(found)
        self.keep(found)
        return better

    def keep(self, found: Candidate) -> None:
        """Keep a start if annealing may hold its blocks; the best ones where memory is short."""
        if 0 < len(found.blocks.row_start) <= self.most_blocks:
            self.kept.append(found)
        while self.kept and sum(kept.cost for kept in self.kept) > self._most_held:
            by_cost = self.goal.max_cost is None
            worst = [kept.cost if by_cost else kept.energy for kept in self.kept]
            self.kept.pop(int(np.argmax(worst)))

    def is_hopeless(self, start: Candidate) -> bool:
        """True if annealing from a start would hardly catch up with the best candidate.

        Added to nothing, a block gains a share of the energy, which is a slow way to the
        small errors that truncation reaches on smooth matrices.
        """
        if self.goal.max_cost is not None:
            energy, behind = self.value[0], start.energy > HOPELESS_ENERGY * self.value[0]
        else:
            energy = (self.goal.max_error or 0.0) ** 2
            behind = start.cost > HOPELESS_COST * self.value[0]
        return behind if start.cost else energy < SMOOTH_ENERGY * self.total


@dataclass(frozen=True)
class Starts:
    """Starts of a search in A / scale; the scale is a power of two, which makes that exact.

    Each method works on a scaled copy of its own, so that none is held between them.
    """

    A: NDArray
    scale: np.number
    rng: np.random.Generator
    best: Selection

    def is_scattered(self) -> bool:
        """True if runs of entries hold the matrix within the cost, too many for a grid."""
        nonzero, cap = self.A != 0, self.best.goal.max_cost
        runs = int(nonzero[:, 0].sum() + (nonzero[:, 1:] & ~nonzero[:, :-1]).sum())
        most = HELD_SHARE * self.A.size if cap is None else cap
        return runs > self.best.most_blocks and int(nonzero.sum()) <= most

    def is_sparse(self) -> bool:
        """True if the non-zeros are fewer than the likely cost, or than a start may hold."""
        most = min(HELD_SHARE * self.A.size, self.best.likely_cost)
        return bool(np.count_nonzero(self.A) < most)

    def grid(self) -> Candidate:
        """Tiles that hold the matrix exactly."""
        price = self._exact_price()
        blocks = grid_blocks(self._scaled(), self.best.likely_cost)
        return Candidate.of(self.A, self.scale, blocks, price)

    def spans(self) -> Candidate:
        """Blocks whose sum is the matrix exactly."""
        price = self._exact_price()
        # Eliminations that overflow leave more than they take, and are not considered.
        with np.errstate(over="ignore", invalid="ignore"):
            blocks = span_blocks(self._scaled(), EXACT_COST * self.best.likely_cost, self.rng)
            return Candidate.of(self.A, self.scale, blocks, price)

    def partition(self) -> Candidate:
        """The best hierarchical partition into truncated tiles."""
        blocks, price = partition_blocks(self._scaled(), self.best.aim)
        return Candidate.of(self.A, self.scale, blocks, price)

    def lines(self) -> Candidate:
        """The best runs of entries in single rows."""
        price, A = self._exact_price(), self._scaled()
        blocks, energy = best_lines(A, squares(A), self.best.aim)
        return Candidate(blocks, blocks.cost, energy, price)

    def entries(self) -> Candidate:
        """The matrix itself, as runs of its rows or of its columns."""
        return Candidate.of(self.A, self.scale, exact_lines(self._scaled()), 0.0)

    def truncation(self) -> Candidate:
        """The truncated singular value decomposition."""
        best, size = self.best, sum(self.A.shape)
        if (cap := best.goal.max_cost) is not None:
            rank = cap // size
            if rank * size > HELD_SHARE * self.A.size:
                rank = min(rank, _rank_for(self._scaled(), best.noise**0.5))
        else:
            rank = _rank_for(self._scaled(), best.aim.max_error or 0.0)
        if rank * size > HELD_SHARE * self.A.size and not self._truncation_helps(rank):
            return Candidate.of(self.A, self.scale, [], 0.0)
        found = self._truncated(rank)
        last = found[-1].energy if found else best.total
        return Candidate.of(self.A, self.scale, found, last / size)

    def _truncated(self, rank: int) -> list[Block]:
        U, s, Vh = truncated_svd(self.A, rank, self.rng)
        found = leading_blocks(U, s, Vh, int((s > 0).sum()))
        found = [block._replace(u=block.u / self.scale) for block in found]
        # Beyond the rank of the matrix, singular vectors hold rounding alone.
        return [block for block in found if block.energy > self.best.noise]

    def _truncation_helps(self, rank: int) -> bool:
        """Compare truncation to a high rank with the best so far, by singular values alone."""
        if self.best.goal.max_cost is None:
            return rank * sum(self.A.shape) < self.best.value[0]
        tail = svdvals(self._scaled()[None])[0][rank:]
        return float(squares(tail).sum()) < self.best.value[0]

    def tiles(self) -> Candidate:
        """The best block-low-rank matrix: tiles of one size, which partitions do not try."""
        aim, cap = self.best.aim, self.best.goal.max_cost
        if cap is not None:
            cap = min(cap, int(HELD_SHARE * self.A.size))
            aim = Goal(max_cost=cap)
        matrix = self._block_low_rank(aim)
        blocks = Blocks(*(getattr(matrix, name) for name in Blocks._fields))
        worth = [block.energy / block.cost for block in blocks.unpack()]
        price = min(worth, default=self.best.total)
        return Candidate.measured(self.A, self.scale, blocks, price)

    def is_pursued(self) -> bool:
        """True if a pursuit is worth its time: for real matrices, neither very large nor smooth.

        The price of a pursuit falls from the largest entry's energy, a step at a time, so that
        small errors take many steps.
        """
        best, bound = self.best, self.best.goal.max_error
        wanted = best.value[0] if bound is None else bound**2
        return (
            not (best.exact or np.iscomplexobj(self.A))
            and self.A.size <= PURSUED_ENTRIES
            and best.likely_cost <= HELD_SHARE * self.A.size
            and wanted >= PURSUED_ENERGY * best.total
        )

    def pursuit(self) -> Candidate:
        """Blocks whose ends climb to the best price."""
        # Loops are compiled, or loaded, when they are first needed.
        from structmat.project.prices import search

        cap, bound = int(self.best.likely_cost), self.best.aim.max_error or 0.0
        places, contents, price = search(
            self._scaled(), cap, None, None, BLOCK_OVERHEAD, enough=bound**2
        )
        return Candidate.measured(self.A, self.scale, Blocks.at(places, contents), price)

    def _block_low_rank(self, goal: Goal) -> StructuredMatrix:
        fitted = block_low_rank.fit(self._scaled(), goal, rng=self.rng, progress=no_progress)
        return fitted.to_kind("gblr")

    def _scaled(self) -> NDArray:
        return self.A / self.scale

    def _exact_price(self) -> float:
        """Price of blocks that are exact: low, because all energy is taken."""
        return 1e-3 * self.best.total / self.best.likely_cost


def _rank_for(A: NDArray, max_error: float) -> int:
    """Least rank that meets an error."""
    energy = svdvals(A[None])[0] ** 2
    tail = np.cumsum(energy[::-1])[::-1]
    return int((tail > max_error**2).sum())
