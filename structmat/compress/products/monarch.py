"""Compression of operators to Monarch matrices, by products with pieces of both axes."""

import math

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress import monarch
from structmat.compress.goal import Goal
from structmat.compress.monarch import Layout
from structmat.compress.range import array_of, range_of
from structmat.compress.source import DENSE_ENTRIES
from structmat.compress.tiles import sizes
from structmat.errors import ToleranceError
from structmat.matrices.monarch import Monarch
from structmat.project.svd import Operator, gaussian

#: Random vectors beyond the rank of a tile.
EXTRA = 4


def fit_implicit(
    op: Operator, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> Monarch:
    """Tiles of one rank between about sqrt(m) hands of rows and sqrt(n) pieces of columns.

    Random vectors on one piece of the columns multiply all its tiles, and those on one hand of
    the rows all of that hand: about (k + 2 l) (r + 4) products for k pieces, l hands and rank r.
    Two sketches make each tile (Tropp, Yurtsever, Udell & Cevher 2017, arXiv 1609.00048). Where
    forming the matrix takes fewer products, it is formed, and all layouts are tried.
    """
    A = array_of(op, rng)
    if A is None and goal.max_cost is not None:
        monarch.check_cap(*op.shape, goal)
        layout = _layout(op.shape, goal.max_cost)
        rank = max(goal.max_cost // layout.cost(1), 1)
        A = _cheaper(op, layout, rank, rng)
    if A is not None:
        return monarch.fit(A, goal, rng=rng, progress=progress)
    if goal.max_cost is not None:
        found = _Sketched(op, layout, rank, rng).truncated(goal)
        assert found is not None
        # Coefficients from sketches are too large where much of the matrix is missed.
        return Monarch(found.L * range_of(op, rng).share(found), found.R, shape=op.shape)
    layout, rank = _layout(op.shape, None), EXTRA
    while True:
        A = _cheaper(op, layout, 2 * rank, rng)
        if A is not None:
            return monarch.fit(A, goal, rng=rng, progress=progress)
        found = _Sketched(op, layout, 2 * rank, rng).truncated(goal, most=rank)
        if found is not None:
            return found
        rank *= 2
        if 2 * rank + EXTRA > min(layout.height, layout.width):
            raise ToleranceError(
                f"error {goal.max_error:.3g} wanted, but tiles of rank {rank // 2} do not reach "
                "it; allow more, or try 'hierarchical'"
            )


def _layout(shape: tuple[int, int], cap: int | None) -> Layout:
    """Hands and pieces near the roots of both sides; fewer of them under a low cap."""
    m, n = shape
    hands, pieces = (min(sizes(s, 1, s), key=lambda b: abs(math.log(b * b / s))) for s in shape)
    while True:
        width = -(-n // pieces)
        layout = Layout(hands, -(-n // width), -(-m // hands), width)
        if cap is None or layout.cost(1) <= cap or hands * pieces == 1:
            return layout
        hands, pieces = max(hands // 2, 1), max(pieces // 2, 1)


def _cheaper(op: Operator, layout: Layout, rank: int, rng: np.random.Generator) -> NDArray | None:
    """The matrix itself where forming it takes fewer products, and little memory."""
    products = (layout.k + 2 * layout.l) * (rank + EXTRA)
    if products < min(op.shape) or math.prod(op.shape) > DENSE_ENTRIES:
        return None
    return array_of(op, rng, form=True)


class _Sketched:
    """Decompositions of all tiles (hand, piece) of a layout, of some rank, by products."""

    def __init__(self, op: Operator, layout: Layout, rank: int, rng: np.random.Generator) -> None:
        self._layout, self._shape, self._dtype = layout, op.shape, op.dtype
        m, n = op.shape
        l, k = layout.l, layout.k
        columns = min(rank + EXTRA, layout.height, layout.width)
        # Rows of hand j are j, j + l, ...; a padded axis makes all hands and pieces equal.
        padded = np.zeros((layout.height, l, k, columns), op.dtype)
        for c in range(k):
            X = np.zeros((n, columns), op.dtype)
            some = slice(c * layout.width, min((c + 1) * layout.width, n))
            X[some] = gaussian(rng, (some.stop - some.start, columns), op.dtype)
            padded.reshape(-1, k, columns)[:m, c] = op.matmat(X)
        self.U = np.linalg.qr(padded.transpose(1, 2, 0, 3))[0]  # (l, k, height, columns)
        self.s = np.zeros((l, k, columns))
        self.Vh = np.zeros((l, k, columns, layout.width), op.dtype)
        for j in range(l):
            self._solve(op, j, rng)

    def _solve(self, op: Operator, j: int, rng: np.random.Generator) -> None:
        """Coefficients of the tiles of one hand, from products of the adjoint."""
        layout, (m, n) = self._layout, self._shape
        columns = self.s.shape[2]
        own = np.arange(j, m, layout.l)
        count = min(2 * columns, layout.height)
        test = gaussian(rng, (own.size, count), self._dtype)
        X = np.zeros((m, count), self._dtype)
        X[own] = test
        Z = np.zeros((layout.k * layout.width, count), self._dtype)
        Z[:n] = op.rmatmat(X)
        image = Z.reshape(layout.k, layout.width, count).conj().swapaxes(1, 2)
        middle = test.conj().T @ self.U[j][:, : own.size]
        X, self.s[j], self.Vh[j] = np.linalg.svd(
            np.linalg.pinv(middle, rcond=1e-12) @ image, full_matrices=False
        )
        self.U[j] = self.U[j] @ X

    def truncated(self, goal: Goal, most: int | None = None) -> Monarch | None:
        """All tiles at the rank of the goal; None if it is above `most`."""
        energy = (self.s**2).sum(axis=(0, 1))
        found = monarch.project(self._layout, energy, goal, self._dtype)
        if most is not None and (found.rank > most or found.missed > (goal.max_error or 0.0) ** 2):
            return None
        rank, layout = found.rank, self._layout
        root = np.sqrt(self.s[:, :, None, :rank]).astype(self._dtype)
        L = (self.U[..., :rank] * root).transpose(0, 2, 1, 3)
        R = (self.Vh[:, :, :rank] * root.swapaxes(2, 3)).transpose(1, 2, 0, 3)
        return Monarch(
            L.reshape(layout.l, layout.height, layout.k * rank),
            R.reshape(layout.k, rank * layout.l, layout.width),
            shape=self._shape,
        )
