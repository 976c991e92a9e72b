"""Cross approximation: low rank from a few rows and columns, watched on others held back.

Adaptive cross approximation stops where its last step was small, which misses zero rows, copies
and blocks that stand apart. Here some rows and columns are held back: each pivot is the largest
residual among them, and their residual, not the last step, says when to stop.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress.entries.sampled import drawn
from structmat.intervals import IntArray
from structmat.project.svd import factored_svd, smallest_rank

#: Blocks with at most as many entries are evaluated in full.
FULL_ENTRIES = 128 * 128
#: So are larger ones, up to this size, once half as many entries were of no use.
DENSE_ENTRIES = 2**20
#: Watched rows and columns leave this share of a bound for what they do not see.
WATCHED_SHARE = 0.7

#: Function of rows and columns of a block that returns its entries at all pairs.
Block = Callable[[IntArray, IntArray], NDArray]


class Cross(NamedTuple):
    """A = U diag(s) Vh to within `missed`, an estimate of the Frobenius norm of the rest."""

    U: NDArray
    s: NDArray
    Vh: NDArray
    missed: float


def cross(
    block: Block,
    shape: tuple[int, int],
    max_error: float,
    rng: np.random.Generator,
    *,
    most: int | None = None,
    watched: int = 4,
) -> Cross:
    """Approximate a block (m, n) to a Frobenius error, or with at most `most` crosses.

    It evaluates ``(r + watched) (m + n)`` entries for r crosses; all of a small block, or of one
    whose rank is not small.

    Examples
    --------
    >>> A = np.outer(np.arange(1.0, 200.0), np.ones(300))
    >>> found = cross(lambda i, j: A[np.ix_(i, j)], A.shape, 1e-6, np.random.default_rng(0))
    >>> len(found.s)
    1
    """
    m, n = shape
    every = np.arange(m), np.arange(n)
    limit = min(m, n) if most is None else min(most, m, n)
    if m * n <= FULL_ENTRIES or min(m, n) <= watched:
        return _svd(block(*every), max_error)
    factors = _Factors(shape, block(every[0][:1], every[1][:1]).dtype)
    left, fresh = np.ones(m, bool), 0
    watch = _Watch(block, shape, factors, watched, rng)
    while True:
        U, V = factors.U, factors.V
        if watch.missed <= WATCHED_SHARE * max_error or U.shape[1] >= limit:
            # Crosses were chosen by what was watched, so others have to agree.
            if fresh == U.shape[1] or U.shape[1] >= limit:
                break
            watch, fresh = _Watch(block, shape, factors, watched, rng), U.shape[1]
            continue
        if m * n <= DENSE_ENTRIES and 2 * (U.shape[1] + watched) * (m + n) >= m * n:
            return _svd(block(*every), max_error)
        column = watch.column(block, factors)
        u = block(every[0], np.array([column]))[:, 0] - U @ V[column]
        size = np.where(left, np.abs(u), 0.0)
        i = int(size.argmax())
        if size[i] == 0.0:
            break
        v = block(np.array([i]), every[1])[0] - V @ U[i]
        u, left[i] = u / u[i], False
        watch.subtract(u, v)
        factors.add(u, v)
    missed = watch.missed
    return _recompressed(U, V, max(max_error**2 - missed**2, 0.0) ** 0.5, missed)


class _Factors:
    """Factors of the sum of crosses, U V^T, in arrays with room for more."""

    def __init__(self, shape: tuple[int, int], dtype: np.dtype) -> None:
        self._both = [np.zeros((size, 8), dtype, order="F") for size in shape]
        self._rank = 0

    @property
    def U(self) -> NDArray:
        """Columns of the crosses, scaled, (m, r)."""
        return self._both[0][:, : self._rank]

    @property
    def V(self) -> NDArray:
        """Rows of the crosses, (n, r)."""
        return self._both[1][:, : self._rank]

    def add(self, u: NDArray, v: NDArray) -> None:
        """Add a cross u v^T."""
        if self._rank == self._both[0].shape[1]:
            self._both = [np.concatenate([F, np.zeros_like(F)], axis=1) for F in self._both]
            self._both = [np.asfortranarray(F) for F in self._both]
        for F, column in zip(self._both, (u, v), strict=True):
            F[:, self._rank] = column
        self._rank += 1


class _Watch:
    """Residual of a cross approximation on random rows and columns of a block."""

    def __init__(
        self,
        block: Block,
        shape: tuple[int, int],
        factors: _Factors,
        count: int,
        rng: np.random.Generator,
    ) -> None:
        (m, n), self._shape = shape, shape
        U, V = factors.U, factors.V
        self._rows, self._cols = (drawn(size, count, rng) for size in shape)
        self._across = block(self._rows, np.arange(n)) - U[self._rows] @ V.T
        self._down = block(np.arange(m), self._cols) - U @ V[self._cols].T

    @property
    def missed(self) -> float:
        """Estimated Frobenius norm of what is missed."""
        m, n = self._shape
        return max(
            math.sqrt(m / self._rows.size) * float(np.linalg.norm(self._across)),
            math.sqrt(n / self._cols.size) * float(np.linalg.norm(self._down)),
        )

    def column(self, block: Block, factors: _Factors) -> int:
        """The column of the largest residual, or of the largest one in the row of that."""
        across, down = np.abs(self._across), np.abs(self._down)
        if across.max() >= down.max():
            return int(across.argmax()) % self._shape[1]
        i = int(down.argmax()) // down.shape[1]
        row = block(np.array([i]), np.arange(self._shape[1]))[0] - factors.V @ factors.U[i]
        return int(np.abs(row).argmax())

    def subtract(self, u: NDArray, v: NDArray) -> None:
        """Take a cross u v^T away."""
        self._across -= np.outer(u[self._rows], v)
        self._down -= np.outer(u, v[self._cols])


def _svd(A: NDArray, max_error: float) -> Cross:
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    r = smallest_rank(s, max_error)
    return Cross(U[:, :r], s[:r], Vh[:r], float(np.linalg.norm(s[r:])))


def _recompressed(U: NDArray, V: NDArray, max_error: float, missed: float) -> Cross:
    """Singular value decomposition of U V^T, without what the error allows to leave out."""
    left, s, right = factored_svd(U, V.conj())
    r = smallest_rank(s, max_error)
    return Cross(left[:, :r], s[:r], right[:r], math.hypot(missed, *s[r:].tolist()))
