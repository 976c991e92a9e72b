"""Peeling: all blocks of an operator from products with random vectors, large blocks first.

Lin, Lu & Ying 2011, "Fast construction of hierarchical matrix representation from matrix-vector
multiplication", for blocks between neighbours; Martinsson 2016, "Compressing rank-structured
matrices via randomized sampling", for their bases. Vectors that are random on every second part,
and zero on the others, multiply all blocks of a level at once, once the larger blocks are
subtracted. So a level takes a number of products that depends on its ranks alone.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress, no_progress
from structmat.compress.goal import Goal
from structmat.compress.operators import DENSE_ENTRIES, Products
from structmat.compress.products.levels import Level, Peeled, stacked, unstacked
from structmat.compress.range import MOST_ENTRIES, array_of
from structmat.errors import ToleranceError
from structmat.project.svd import Explicit, Operator, gaussian

#: Random vectors that tell what a basis misses, and with which a basis begins.
COLUMNS = 8
#: Sides of the smallest parts.
LEAST_SIDE = 16
#: Energy that is missed at most, as a multiple of that outside of all bases.
CARRIED = 8
#: Error of the bases, as a share of that of the whole matrix.
SHARE = 0.25
#: Blocks that miss no more than this share of an error do for it.
ENOUGH = 0.5
#: Leaves under a cap on the cost: their shortest and longest sides, and their share of the cap.
SHORT_LEAF, LONG_LEAF, LEAVES = 8, 64, 0.5
#: Directions of products below this many roundings, times the root of the longer side, are noise.
ROUNDINGS = 4


@dataclass(frozen=True)
class Reach:
    """The aim of peeling: to an error for the whole matrix, or to a rank in every block."""

    #: Absolute Frobenius error.
    error: float = 0.0
    rank: int | None = None
    #: Longest side of the leaves.
    leaf: int = 2 * LEAST_SIDE


def peeled_of(
    op: Operator, goal: Goal, rng: np.random.Generator, progress: Progress = no_progress
) -> Peeled:
    """Blocks of an operator that suffice for a goal; fits of one operator share them."""
    kept: dict[Goal, Peeled] = op.kept.setdefault("peeled", {}) if isinstance(op, Products) else {}
    for known in kept.values():
        if goal.max_error is not None and known.missed <= ENOUGH * goal.max_error:
            return known
    if goal not in kept:
        hermitian = isinstance(op, Products) and op.hermitian
        A = array_of(op, rng)
        peeling = Peeling(
            op if A is None else Explicit(A), _reach(op.shape, goal), rng, hermitian=hermitian
        )
        kept[goal] = peeling.run(progress)
    return kept[goal]


def _reach(shape: tuple[int, int], goal: Goal) -> Reach:
    if goal.max_cost is None:
        return Reach(error=SHARE * (goal.max_error or 0.0))
    longest = max(*shape, 1)
    leaf = int(min(max(LEAVES * goal.max_cost / longest, SHORT_LEAF), LONG_LEAF))
    # A level of rank r costs r (m + n); the levels share the cap, some of them unequally.
    affordable = goal.max_cost // sum(shape)
    levels = max(longest // leaf, 1).bit_length() + 1
    return Reach(rank=max(min(2 * affordable // levels + 4, affordable), 1), leaf=leaf)


class Peeling:
    """The blocks of an operator A (m, n), found level by level.

    Parameters
    ----------
    op : Operator
    reach : Reach
    rng : numpy.random.Generator
    hermitian : bool
        True for A = A^H, where half of the blocks follow from the others.
    """

    def __init__(
        self, op: Operator, reach: Reach, rng: np.random.Generator, *, hermitian: bool
    ) -> None:
        self._op, self._reach, self._rng, self._hermitian = op, reach, rng, hermitian
        self.found = Peeled(op.shape)
        self._square = 0.0  # of what the blocks so far miss
        self._scale = 0.0  # Frobenius norm of A, about
        self._started = COLUMNS

    def run(self, progress: Progress = no_progress) -> Peeled:
        """Peel all levels and the leaves."""
        found, longest, shortest = self.found, max(self.found.shape), min(self.found.shape)
        depth = 0
        while longest >> depth > self._reach.leaf and shortest >> (depth + 1) >= 1:
            depth += 1
        for level in range(1, depth + 1):
            # Blocks of nearly full rank are left to the leaves.
            if 2 * (self._started + COLUMNS) > longest >> level and level > 1:
                break
            found.levels.append(self._level(level, depth))
            progress(0.8 * level / depth)
        found.leaves = self._leaves()
        # Coefficients and leaves carry what larger blocks miss.
        found.missed = float(np.sqrt(CARRIED * self._square))
        return found

    def _level(self, level: int, depth: int) -> Level:
        """Blocks of one level, the upper and the lower ones of each pair."""
        allowed = self._reach.error**2 / (2 * depth)
        # Rows of the first of two parts, and columns of the second.
        upper = self._half(level, 1, allowed)
        lower = _flipped(*upper) if self._hermitian else self._half(level, 0, allowed)
        halves = [upper, lower]
        wide = max(U.shape[2] for U, _ in halves)
        U, V = (np.stack([_widened(half[k], wide) for half in halves], axis=1) for k in (0, 1))
        U, V = (F.reshape(2 * len(F), *F.shape[2:]) for F in (U, V))
        self._started = max(COLUMNS, wide)
        return Level(level, U, V)

    def _half(self, level: int, side: int, allowed: float) -> tuple[NDArray, NDArray]:
        """Bases and coefficients of the blocks whose columns are the parts 2 i + side."""
        basis = self._basis(level, side, allowed)
        rows, cols = self.found.rows(level), self.found.cols(level)
        wide = np.zeros((rows.size - 1, *basis.shape[1:]), basis.dtype)
        wide[1 - side :: 2] = basis
        X = unstacked(wide, rows)
        Z = self._op.rmatmat(X) - self.found.rmatmat(X)
        return basis, stacked(Z, cols)[side::2]

    def _basis(self, level: int, side: int, allowed: float) -> NDArray:
        """Orthonormal columns that reach the blocks, to what is allowed to be missed."""
        polluted = self._square
        fresh = self._images(level, side, self._width(0))
        basis = np.zeros((*fresh.shape[:2], 0), fresh.dtype)
        while True:
            basis, complete = self._extended(basis, fresh, polluted)
            fresh = self._images(level, side, COLUMNS)
            rest = _outside(fresh, basis)
            square = float(np.linalg.norm(rest) ** 2) / COLUMNS
            full = basis.shape[2] >= min(basis.shape[1], self._reach.rank or basis.shape[1])
            if complete or full or square <= allowed + polluted:
                # What larger blocks miss shows in the products with smaller ones.
                self._square += max(square - polluted, 0.0)
                return basis
            self._check_memory(basis.shape[2])
            more = self._width(basis.shape[2]) - COLUMNS
            if more > 0:
                fresh = np.concatenate([fresh, self._images(level, side, more)], axis=2)

    def _check_memory(self, columns: int) -> None:
        """Refuse blocks of a high rank in a matrix that is too large to be formed."""
        too_many = columns * sum(self.found.shape) > MOST_ENTRIES
        if too_many and math.prod(self.found.shape) > DENSE_ENTRIES:
            raise ToleranceError(
                f"blocks of rank {columns} do not suffice, and bases of a higher one take more "
                f"than {MOST_ENTRIES} numbers; allow more, or put rows and columns in an order "
                "in which neighbours are alike (structmat.ordering)"
            )

    def _width(self, columns: int) -> int:
        """Number of random vectors that extend a basis of some columns."""
        wide = self._started if columns == 0 else max(COLUMNS, columns // 2)
        most = self._reach.rank
        return wide if most is None else max(COLUMNS, min(wide, most + COLUMNS - columns))

    def _extended(self, basis: NDArray, new: NDArray, polluted: float) -> tuple[NDArray, bool]:
        """A basis with the directions that new products add; True if these are all noise."""
        rest = _outside(new, basis)
        U, s, _ = np.linalg.svd(rest, full_matrices=False)
        eps = float(np.finfo(new.dtype).eps)
        noise = ROUNDINGS * eps * self._scale * float(np.sqrt(max(self.found.shape)))
        real = s > max(noise, 1e-300)
        # Columns beyond the most of any block are noise in all of them.
        count = int(real.sum(axis=1).max(initial=0))
        U = np.where(real[:, None, :count], U[:, :, :count], 0)
        U = U - basis @ (basis.conj().swapaxes(1, 2) @ U)
        return np.concatenate([basis, U], axis=2), not real.all(axis=1).any()

    def _images(self, level: int, side: int, columns: int) -> NDArray:
        """Products of all blocks of one side with random vectors: (blocks, height, columns)."""
        rows, cols = self.found.rows(level), self.found.cols(level)
        X = gaussian(self._rng, (self.found.shape[1], columns), self._op.dtype)
        part = np.repeat(np.arange(cols.size - 1), np.diff(cols))
        X[part % 2 != side] = 0
        if isinstance(self._op, Products):
            self._op.spend(columns)
        Y = self._op.matmat(X)
        self._scale = max(self._scale, float(np.linalg.norm(Y)) / max(columns, 1) ** 0.5)
        return stacked(Y - self.found.matmat(X), rows)[1 - side :: 2]

    def _leaves(self) -> NDArray:
        """Diagonal blocks of the last level: a product for each column of the widest of them."""
        depth = self.found.depth
        rows, cols = self.found.rows(depth), self.found.cols(depth)
        wide = int(np.diff(cols).max())
        units = np.broadcast_to(np.eye(wide, dtype=self._op.dtype), (cols.size - 1, wide, wide))
        X = unstacked(units, cols)
        return stacked(self._op.matmat(X) - self.found.matmat(X), rows)


def _flipped(U: NDArray, V: NDArray) -> tuple[NDArray, NDArray]:
    """The adjoints V U^H of blocks, with orthonormal columns on their left."""
    Q, upper = np.linalg.qr(V)
    return Q, U @ upper.conj().swapaxes(1, 2)


def _outside(Y: NDArray, basis: NDArray) -> NDArray:
    """The part outside of orthonormal columns, in stacks."""
    for _ in range(2):
        Y = Y - basis @ (basis.conj().swapaxes(1, 2) @ Y)
    return Y


def _widened(stack: NDArray, columns: int) -> NDArray:
    return np.pad(stack, ((0, 0), (0, 0), (0, columns - stack.shape[2])))
