"""Starts of a search: candidates found by linear algebra, or by one pass over the entries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat.compress import block_low_rank
from structmat.compress.gblr.exact_grid import grid_blocks
from structmat.compress.gblr.exact_sum import span_blocks
from structmat.compress.gblr.lines import best_lines, exact_lines
from structmat.compress.gblr.partition import leading_blocks, partition_blocks
from structmat.compress.gblr.residual import Blocks, Candidate, squares
from structmat.compress.gblr.selection import Selection
from structmat.compress.goal import Goal, no_progress
from structmat.compress.svd import svdvals, truncated_svd
from structmat.matrix import StructuredMatrix

#: Most scalars that a start, or all starts together, hold, as a share of the entries.
HELD_SHARE = 0.5


@dataclass(frozen=True)
class Starts:
    """Starts of a search in A / scale.

    Each method works on a scaled copy of its own, so that none is held between them.

    Parameters
    ----------
    A : ndarray, shape (m, n)
    scale : scalar of A's dtype
        A power of two, so that scaling is exact.
    rng : numpy.random.Generator
    best : Selection
        The goal, and the best candidate so far.
    """

    A: NDArray
    scale: np.number
    rng: np.random.Generator
    best: Selection

    def is_scattered(self) -> bool:
        """Whether runs of entries hold the matrix, but more of them than a grid is worth."""
        nonzero, cap = self.A != 0, self.best.goal.max_cost
        runs = int(nonzero[:, 0].sum() + (nonzero[:, 1:] & ~nonzero[:, :-1]).sum())
        most = HELD_SHARE * self.A.size if cap is None else cap
        return runs > self.best.most_blocks and runs + int(nonzero.sum()) <= most

    def grid(self) -> Candidate:
        """Tiles that hold the matrix exactly."""
        price, A = self._exact_price(), self._scaled()
        return Candidate.of(A, grid_blocks(A, self.best.likely_cost), price)

    def spans(self) -> Candidate:
        """Blocks whose sum is the matrix exactly."""
        price, A = self._exact_price(), self._scaled()
        # Eliminations that overflow leave more than they take, and are not considered.
        with np.errstate(over="ignore", invalid="ignore"):
            return Candidate.of(A, span_blocks(A, self.rng), price)

    def partition(self) -> Candidate:
        """The best hierarchical partition into truncated tiles."""
        A = self._scaled()
        return Candidate.of(A, *partition_blocks(A, self.best.aim))

    def lines(self) -> Candidate:
        """The best runs of entries in single rows."""
        price = self._exact_price()
        blocks, energy = best_lines(self._scaled(), self.best.aim)
        return Candidate(blocks, blocks.u.size + blocks.v.size, energy, price)

    def entries(self) -> Candidate:
        """The matrix itself, as runs of its rows or of its columns."""
        A = self._scaled()
        return Candidate.of(A, exact_lines(A), 0.0)

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
            return Candidate.of(self._scaled(), [], 0.0)
        A = self._scaled()
        U, s, Vh = truncated_svd(self.A, rank, self.rng)
        found = leading_blocks(U, s, Vh, int((s > 0).sum()))
        found = [block._replace(u=block.u / self.scale) for block in found]
        # Beyond the rank of the matrix, singular vectors hold rounding alone.
        found = [block for block in found if block.energy > best.noise]
        last = found[-1].energy if found else best.total
        return Candidate.of(A, found, last / size)

    def _truncation_helps(self, rank: int) -> bool:
        """Whether truncation to a high rank beats the best so far; by values alone."""
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
        if cap is not None and matrix.cost > cap:
            # As rank-one blocks a dense tile costs a little more than its area.
            fitting = Goal(max_cost=cap**2 // matrix.cost)
            del matrix
            matrix = self._block_low_rank(fitting)
        blocks = Blocks(*(getattr(matrix, name) for name in Blocks._fields))
        worth = [block.energy / block.cost for block in blocks.unpack()]
        return Candidate.measured(self._scaled(), blocks, min(worth, default=self.best.total))

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
