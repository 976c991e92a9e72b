"""Blocks between the halves of each part of a matrix, level after level, in stacks.

Level l cuts both axes into 2^l parts. Its blocks are those of each part with its neighbour, the
other half of the same part one level up. All blocks of a level have one shape, with zeros beyond
the smaller ones, so that a level is multiplied by two batched products.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray


def bounds(size: int, level: int) -> IntArray:
    """Starts of the 2^level parts of an axis, and its end.

    Examples
    --------
    >>> bounds(10, 2)
    array([ 0,  2,  5,  7, 10])
    """
    return np.arange(2**level + 1) * size // 2**level


def stacked(X: NDArray, begin: IntArray) -> NDArray:
    """Parts of the rows of X (n, k), in a stack (parts, longest, k); zeros beyond the shorter."""
    sizes = np.diff(begin)
    at = begin[:-1, None] + np.arange(int(sizes.max(initial=0)))
    inside = np.arange(at.shape[1]) < sizes[:, None]
    stack = X[np.where(inside, at, 0)] if X.shape[0] else np.zeros((*at.shape, X.shape[1]), X.dtype)
    stack[~inside] = 0
    return stack


def unstacked(stack: NDArray, begin: IntArray) -> NDArray:
    """Parts of a stack as the rows of one matrix (n, k)."""
    inside = np.arange(stack.shape[1]) < np.diff(begin)[:, None]
    rows: NDArray = stack[inside]
    return rows


def neighbours(stack: NDArray) -> NDArray:
    """A stack in which each part has changed places with its neighbour."""
    parts, *rest = stack.shape
    return stack.reshape(parts // 2, 2, *rest)[:, ::-1].reshape(parts, *rest)


@dataclass(frozen=True)
class Level:
    """Blocks U[i] V[i]^H of the rows of part i and the columns of its neighbour.

    U (parts, height, r) has orthonormal columns, or zeros; V is (parts, width, r).
    """

    level: int
    U: NDArray
    V: NDArray


@dataclass
class Peeled:
    """The known parts of a matrix (m, n): levels of blocks, the coarsest first, and its leaves."""

    shape: tuple[int, int]
    levels: list[Level] = field(default_factory=list)
    #: Diagonal blocks of the last level, (parts, height, width); None while they are unknown.
    leaves: NDArray | None = None
    #: Estimated Frobenius norm of what the blocks miss.
    missed: float = 0.0

    @property
    def depth(self) -> int:
        """Level of the leaves."""
        return self.levels[-1].level if self.levels else 0

    def rows(self, level: int) -> IntArray:
        """Starts of the parts of the rows, and their end."""
        return bounds(self.shape[0], level)

    def cols(self, level: int) -> IntArray:
        """Starts of the parts of the columns, and their end."""
        return bounds(self.shape[1], level)

    def matmat(self, X: NDArray) -> NDArray:
        """Product of all blocks off the diagonal with X (n, k)."""
        Y = np.zeros((self.shape[0], X.shape[1]), X.dtype)
        for part in self.levels:
            inner = part.V.conj().swapaxes(1, 2) @ neighbours(stacked(X, self.cols(part.level)))
            Y += unstacked(part.U @ inner, self.rows(part.level))
        return Y

    def rmatmat(self, Y: NDArray) -> NDArray:
        """Product of their adjoint with Y (m, k)."""
        X = np.zeros((self.shape[1], Y.shape[1]), Y.dtype)
        for part in self.levels:
            inner = part.U.conj().swapaxes(1, 2) @ stacked(Y, self.rows(part.level))
            X += unstacked(neighbours(part.V @ inner), self.cols(part.level))
        return X

    def diagonal(self, level: int) -> NDArray:
        """Diagonal blocks of a level, written out: (parts, height, width)."""
        assert self.leaves is not None
        found = self.leaves
        for part in reversed(self.levels[level:]):
            found = self._joined(part, found)
        return found

    def _joined(self, part: Level, inner: NDArray) -> NDArray:
        """Diagonal blocks one level up: two of them, and the blocks between."""
        rows, cols = self.rows(part.level), self.cols(part.level)
        high, wide = (np.diff(self_begin[::2]) for self_begin in (rows, cols))
        whole = np.zeros((high.size, int(high.max()), int(wide.max())), inner.dtype)
        p, q = np.diff(rows), np.diff(cols)
        between = part.U @ part.V.conj().swapaxes(1, 2)
        for i in range(high.size):
            a, b = 2 * i, 2 * i + 1
            whole[i, : p[a], : q[a]] = inner[a, : p[a], : q[a]]
            whole[i, p[a] : p[a] + p[b], q[a] : q[a] + q[b]] = inner[b, : p[b], : q[b]]
            whole[i, : p[a], q[a] : q[a] + q[b]] = between[a, : p[a], : q[b]]
            whole[i, p[a] : p[a] + p[b], : q[a]] = between[b, : p[b], : q[a]]
        return whole


def singular(part: Level) -> tuple[NDArray, NDArray, NDArray]:
    """Singular value decompositions of the blocks of a level: U, s falling, and V, in stacks."""
    P, upper = np.linalg.qr(part.V)
    X, s, Zh = np.linalg.svd(upper.conj().swapaxes(1, 2), full_matrices=False)
    return part.U @ X, s, P @ Zh.conj().swapaxes(1, 2)
