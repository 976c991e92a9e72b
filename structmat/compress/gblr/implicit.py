"""Compression to GBLR of a matrix that is known by its products only."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress, no_progress
from structmat.compress import low_rank
from structmat.compress.gblr.anneal import Annealing
from structmat.compress.gblr.residual import Block, Blocks, pieces, squares, take
from structmat.compress.goal import Goal
from structmat.compress.operators import Products
from structmat.compress.products import hierarchical
from structmat.compress.range import best_of_rank, range_of
from structmat.errors import ToleranceError
from structmat.matrices.gblr import GBLR
from structmat.project.svd import Operator

#: Allowance of the annealing, in units of about 100 microseconds.
WORK = 20000
#: Rank of the sketch, as a multiple of the rank that truncation affords, and added to that.
RANK_FACTOR, EXTRA_RANK = 2, 8

#: Rank up to which a matrix that has no higher one goes by its sketch alone.
LOW_RANK = 16
#: Factor on the estimate of what the sketch misses.
SAFETY = 1.5


def fit_implicit(op: Operator, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> GBLR:
    """Approximate an operator as `fit` does, on a randomised sketch of it.

    A sketch Y Z^H of twice the rank that truncation could afford stands for the
    matrix; the search starts from the truncation and sees only products. The closer of the
    two to the matrix itself is returned, by products with some random vectors. So is a
    hierarchical matrix from peeling, whose blocks are those of a GBLR matrix, if it is better
    than both; if none meets the error, a `ToleranceError` says so.

    Memory O((m + n) rank + cost). A sketch near half of the smaller side forms the matrix,
    which takes fewer products.
    """
    peeled = _peeled(op, goal, rng)
    # With a matrix at hand, the sketch takes no more products than that did.
    limit: AbstractContextManager[None] = nullcontext()
    if isinstance(op, Products) and peeled is not None:
        limit = op.limited(op.products)
    try:
        with limit:
            found = _from_sketch(op, goal, rng, progress)
    except ToleranceError:
        if peeled is None:
            raise
        return peeled
    return found if peeled is None else _better(op, goal, peeled, found, rng)


def _peeled(op: Operator, goal: Goal, rng: np.random.Generator) -> GBLR | None:
    """The blocks of a hierarchical matrix; None where low rank is exact, or they miss the goal."""
    basis = range_of(op, rng)
    basis.reach(LOW_RANK)
    if basis.complete and basis.dense is None:
        return None
    try:
        matrix = hierarchical.fit_implicit(op, goal, rng=rng, progress=no_progress)
    except ToleranceError:
        return None
    found: GBLR = matrix.to_kind("gblr")
    return found if goal.max_cost is None or found.cost <= goal.max_cost else None


def _from_sketch(op: Operator, goal: Goal, rng: np.random.Generator, progress: Progress) -> GBLR:
    """The truncation, or the search on the sketch."""
    m, n = op.shape
    if goal.max_cost is not None:
        rank = min(goal.max_cost // max(m + n, 1), m, n)
    else:
        rank = low_rank.fit_implicit(op, goal, rng=rng, progress=no_progress).rank
    plain, found = _candidates(op, goal, rank, rng, progress)
    if found is None or (goal.max_cost is not None and found.cost > goal.max_cost):
        return plain
    return _better(op, goal, found, plain, rng)


def _better(op: Operator, goal: Goal, new: GBLR, old: GBLR, rng: np.random.Generator) -> GBLR:
    """The cheaper of two matrices that meet an error, or the closer of two within a cap."""
    if goal.max_cost is None:
        return new if new.cost < old.cost else old
    missed = range_of(op, rng).missed
    return new if missed(new) < missed(old) else old


def _candidates(
    op: Operator, goal: Goal, rank: int, rng: np.random.Generator, progress: Progress
) -> tuple[GBLR, GBLR | None]:
    """The truncation, and its annealed form if the sketch leaves room for one."""
    m, n = op.shape
    U, s, Vh = best_of_rank(op, min(RANK_FACTOR * rank + EXTRA_RANK, m, n), rng)
    # The matrix may have a lower rank than truncation could afford.
    rank = min(rank, len(s))
    left = U * s
    right = Vh.conj().T
    truncated = [Block(0, left[:, k], 0, right[:, k]) for k in range(rank)]
    plain = _matrix(truncated, op)
    inner = _inner_goal(op, goal, U, s, rng)
    if inner is None:
        return plain, None
    search = Annealing(FactoredResidual(left, right), truncated, inner, rng, WORK, progress)
    total = float((s.astype(np.float64) ** 2).sum())
    last = float(s[rank - 1]) ** 2 / (m + n) if rank else total / max(goal.max_cost or 1, 1)
    search.anneal(last)
    return plain, _matrix(search.blocks, op)


def _matrix(blocks: list[Block], op: Operator) -> GBLR:
    return GBLR(*Blocks.of(blocks, op.dtype), shape=op.shape)


def _inner_goal(op: Operator, goal: Goal, U: NDArray, s: NDArray, rng: Any) -> Goal | None:
    """Goal of the search on the sketch; None where the sketch leaves no room."""
    if goal.max_cost is not None:
        return goal if goal.max_cost >= 1 and s.any() else None
    missed = SAFETY * range_of(op, rng).outside(U)
    room = (goal.max_error or 0.0) ** 2 - missed**2
    return Goal(max_error=math.sqrt(room) * (1 - 1e-3)) if room > 0 else None


class FactoredResidual:
    """A residual Y Z^H - (blocks), Y (m, r) and Z (n, r): O((m + n) r + cost) memory."""

    def __init__(self, Y: NDArray, Z: NDArray) -> None:
        self.Y, self.Z = Y, Z
        self.shape: tuple[int, int] = (Y.shape[0], Z.shape[0])
        self.dtype = Y.dtype
        self.levels = 0
        self.array = None
        self._blocks: dict[int, Block] = {}
        self._energy = float((squares(np.linalg.qr(Y, mode="r") @ Z.conj().T)).sum())

    def times(self, start: int, v: NDArray) -> NDArray:
        """R v for v on a run of columns: O((m + width) r + cost)."""
        return self.matmat(_padded(start, v, self.shape[1])[:, None])[:, 0]

    def adjoint_times(self, start: int, u: NDArray) -> NDArray:
        """R^H u for u on a run of rows: O((n + width) r + cost)."""
        return self.rmatmat(_padded(start, u, self.shape[0])[:, None])[:, 0]

    def matmat(self, X: NDArray) -> NDArray:
        """R X: O(((m + n) r + cost) s)."""
        out = self.Y @ (self.Z.conj().T @ X)
        for block in self._blocks.values():
            inner = sum(block.v[p].conj() @ X[on] for on, p in self._cols(block))
            for on, p in self._rows(block):
                out[on] -= block.u[p, None] * inner
        return out

    def rmatmat(self, X: NDArray) -> NDArray:
        """R^H X: O(((m + n) r + cost) s)."""
        out = self.Z @ (self.Y.conj().T @ X)
        for block in self._blocks.values():
            inner = sum(block.u[p].conj() @ X[on] for on, p in self._rows(block))
            for on, p in self._cols(block):
                out[on] -= block.v[p, None] * inner
        return out

    def change(self, block: Block, sign: int) -> None:
        """R <- R + sign * block; only a block that was taken out can be put back."""
        p = take(self.times(block.col, block.v), block.row, block.u.size)
        own = float(squares(block.u).sum() * squares(block.v).sum())
        self._energy += 2 * sign * float(np.vdot(block.u, p).real) + own
        if sign < 0:
            self._blocks[id(block)] = block
        else:
            del self._blocks[id(block)]

    def energy(self) -> float:
        """Squared Frobenius norm of R, carried along with every change."""
        return max(self._energy, 0.0)

    def effort(self, blocks: Sequence[Block]) -> float:
        """Four products a block, each with both factors and all blocks."""
        factors = sum(self.shape) * self.Y.shape[1]
        return len(blocks) * (2 + len(self._blocks) / 2 + factors / 2e5)

    def _rows(self, block: Block) -> Iterator[tuple[slice, slice]]:
        return pieces(block.row, block.u.size, self.shape[0])

    def _cols(self, block: Block) -> Iterator[tuple[slice, slice]]:
        return pieces(block.col, block.v.size, self.shape[1])


def _padded(start: int, contents: NDArray, n: int) -> NDArray:
    """Contents of a run with zeros around them: shape (n,)."""
    full = np.zeros(n, contents.dtype)
    for on, part in pieces(start, contents.size, n):
        full[on] = contents[part]
    return full
