"""Orthonormal bases of what an operator reaches, which grow block by block.

A randomised range finder (Halko, Martinsson & Tropp 2011, section 4): products with Gaussian
vectors extend the basis, and the next such products first tell how much it misses. All fits of an
operator share one basis, so that a second fit, or a lower tolerance, goes on from the first.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.compress.operators import DENSE_ENTRIES, SAMPLE, Products
from structmat.errors import ToleranceError
from structmat.project.svd import Operator, Triple, empty_triple, gaussian, truncated_svd

#: Least columns beyond the wanted rank that a basis carries along.
EXTRA_COLUMNS = 8
#: Directions of products below this many roundings, times the root of the longer side, are noise.
ROUNDINGS = 4
#: A matrix is formed for a basis of more than this part of the shorter side.
FORMED = 4
#: Most numbers of a basis whose matrix is too large to be formed: 1 GiB in double precision.
MOST_ENTRIES = 2**27
#: Most products that form a matrix where blocks are wanted.
SMALL = 256
#: Unit vectors that are multiplied at once to form a matrix.
COLUMNS_AT_ONCE = 128
#: Most sweeps of the subspace iteration.
MOST_SWEEPS = 12
#: Gain of the last sweep, as a share of the energy left over.
LAST_GAIN = 1e-3


class Range:
    """Q (m, k) with orthonormal columns, and A^H Q (n, k), of an operator A (m, n)."""

    def __init__(self, op: Operator, rng: np.random.Generator) -> None:
        self._op, self._rng = op, rng
        m, n = op.shape
        self.Q, self.rows = np.zeros((m, 0), op.dtype), np.zeros((n, 0), op.dtype)
        #: True if what is left of the matrix is rounding.
        self.complete = min(m, n) == 0
        #: The matrix itself, where forming it took no more products.
        self.dense: NDArray | None = None
        # Products with random vectors that the basis does not depend on.
        self._vectors, self._fresh = (
            op.sample() if isinstance(op, Products) else self._images(SAMPLE)
        )
        self._scale = _column_norm(self._fresh)

    @property
    def columns(self) -> int:
        """Number of columns of the basis."""
        return self.Q.shape[1]

    @property
    def left(self) -> float:
        """Frobenius norm of A - Q Q^H A, estimated by products that Q does not depend on."""
        if self.complete:
            return 0.0
        self._draw(SAMPLE)
        return _column_norm(self._residual())

    def outside(self, U: NDArray) -> float:
        """Frobenius norm of A - U U^H A for orthonormal U, estimated likewise."""
        if self.dense is not None:
            return float(np.linalg.norm(self.dense - U @ (U.conj().T @ self.dense)))
        if self.complete and U.shape[1] >= self.columns:
            return 0.0
        self._draw(2 * SAMPLE)
        return _column_norm(self._fresh - U @ (U.conj().T @ self._fresh))

    def missed(self, B: Any) -> float:
        """Frobenius norm of A - B, estimated by products that the basis does not depend on."""
        self._draw(2 * SAMPLE)
        return _column_norm(self._fresh - B.matmat(self._vectors))

    def share(self, B: Any) -> float:
        """Multiple of B nearest to A, from 0 to 1, estimated by the same products."""
        self._draw(2 * SAMPLE)
        image = B.matmat(self._vectors)
        square = float(np.linalg.norm(image)) ** 2
        found = float(np.vdot(image, self._fresh).real) / square if square else 1.0
        return min(max(found, 0.0), 1.0)

    def grow(self, columns: int) -> None:
        """Extend the basis by at most this number of columns."""
        self._draw(columns)
        new = self._residual()[:, :columns]
        rest = self._vectors[:, columns:], self._fresh[:, columns:]
        added, upper = np.linalg.qr(new)
        left, s, _ = np.linalg.svd(upper)
        # A block of noise has singular values about the root of its columns.
        noise = self._noise * np.sqrt(max(new.shape[1], 1))
        added = added @ left[:, : int((s > noise).sum())]
        added = _orthogonal(added, self.Q)
        self.complete = added.shape[1] < min(new.shape)
        self.Q = np.concatenate([self.Q, added], axis=1)
        self.rows = np.concatenate([self.rows, self._op.rmatmat(added)], axis=1)
        self._vectors, self._fresh = rest
        self.complete |= self.columns >= min(self._op.shape)

    def form(self) -> None:
        """Form the matrix by products with unit vectors, on its shorter side."""
        m, n = self._op.shape
        found = np.empty((m, n), self._op.dtype)
        for first in range(0, min(m, n), COLUMNS_AT_ONCE):
            some = np.arange(first, min(first + COLUMNS_AT_ONCE, m, n))
            unit = np.zeros((min(m, n), some.size), self._op.dtype)
            unit[some, some - first] = 1
            if n <= m:
                found[:, some] = self._op.matmat(unit)
            else:
                found[some] = self._op.rmatmat(unit).conj().T
        self.dense, self.complete = found, True

    def reach(self, columns: int, *, sweeps: bool = False) -> None:
        """Extend the basis to a number of columns, or to all of the matrix.

        Sweeps that are to follow take more products than forming the matrix, from fewer columns.
        """
        if sweeps and 2 * FORMED * columns > min(self._op.shape) > SMALL and self._may_form:
            self.reach(min(columns, 2 * SAMPLE))
            if not self.complete:
                self._spend(min(self._op.shape))
                self.form()
        while not self.complete and self.columns < columns:
            self._step(columns - self.columns)

    def reach_error(self, error: float) -> None:
        """Extend the basis until it misses no more than `error`, by its estimate."""
        while not self.complete and self.left > error:
            self._step(max(SAMPLE, self.columns // 2))

    def _step(self, columns: int) -> None:
        short, after = min(self._op.shape), self.columns + columns
        if short > 2 * SAMPLE and FORMED * after > short and self._may_form:
            self._spend(short)
            self.form()
            return
        if after * sum(self._op.shape) > MOST_ENTRIES:
            raise ToleranceError(
                f"a rank above {self.columns} is needed, whose factors take more than "
                f"{MOST_ENTRIES} numbers; allow more, or try 'hierarchical' or 'block_low_rank'"
            )
        self._spend(2 * columns)
        self.grow(min(columns, max(SAMPLE, self.columns), short - self.columns))

    @property
    def _may_form(self) -> bool:
        return math.prod(self._op.shape) <= DENSE_ENTRIES

    def _spend(self, products: int) -> None:
        if isinstance(self._op, Products):
            self._op.spend(products)

    def triple(self, rank: int) -> Triple:
        """Singular value decomposition of Q Q^H A, truncated; the matrix's own if it is formed."""
        if self.dense is not None:
            return truncated_svd(self.dense, rank, self._rng)
        P, upper = np.linalg.qr(self.rows)
        X, s, Zh = np.linalg.svd(upper.conj().T, full_matrices=False)
        return self.Q @ X[:, :rank], s[:rank], Zh[:rank] @ P.conj().T

    def refined(self, rank: int) -> Triple:
        """Near-best approximation of a rank below `columns`: sweeps of subspace iteration.

        They end once the gain of a sweep is negligible beside the energy left over, or patience
        with a fit beside others does.
        """
        if self.complete:
            return self.triple(rank)
        self._draw(SAMPLE)
        probe, op, Q, rows = self._fresh, self._op, self.Q, self.rows
        values = np.linalg.svd(np.linalg.qr(rows, mode="r"), compute_uv=False)
        for sweep in range(MOST_SWEEPS):
            rows = op.rmatmat(Q) if sweep else rows
            P, _ = np.linalg.qr(rows)
            Q, upper = np.linalg.qr(op.matmat(P))
            previous, values = values, np.linalg.svd(upper, compute_uv=False)
            gain = float((values[:rank] ** 2 - previous[:rank] ** 2).sum(dtype=np.float64))
            missed = _column_norm(probe - Q @ (Q.conj().T @ probe)) ** 2
            left = float((values[rank:] ** 2).sum(dtype=np.float64)) + missed
            patient = not isinstance(op, Products) or op.products + 2 * Q.shape[1] <= op.patience
            if gain <= LAST_GAIN * left or not patient:
                break
        X, s, Zh = np.linalg.svd(upper)
        return Q @ X[:, :rank], s[:rank], Zh[:rank] @ P.conj().T

    def _draw(self, columns: int) -> None:
        """Have at least a number of products that the basis does not depend on."""
        missing = columns - self._fresh.shape[1]
        if missing > 0:
            X, Y = self._images(missing)
            self._vectors = np.concatenate([self._vectors, X], axis=1)
            self._fresh = np.concatenate([self._fresh, Y], axis=1)
            self._scale = max(self._scale, _column_norm(self._fresh))

    def _images(self, columns: int) -> tuple[NDArray, NDArray]:
        """Random vectors and their products."""
        X = gaussian(self._rng, (self._op.shape[1], columns), self._op.dtype)
        return X, self._op.matmat(X)

    @property
    def _noise(self) -> float:
        eps = float(np.finfo(self._op.dtype).eps)
        return ROUNDINGS * eps * self._scale * float(np.sqrt(max(self._op.shape)))

    def _residual(self) -> NDArray:
        return self._fresh - self.Q @ (self.Q.conj().T @ self._fresh)


def range_of(op: Operator, rng: np.random.Generator) -> Range:
    """The basis that all fits of an operator share."""
    kept = op.kept if isinstance(op, Products) else {}
    if "range" not in kept:
        kept["range"] = Range(op, rng)
    found: Range = kept["range"]
    return found


def formed(op: Products) -> NDArray | None:
    """The matrix itself if a fit formed it; None otherwise."""
    basis: Range | None = op.kept.get("range")
    return None if basis is None else basis.dense


def array_of(op: Operator, rng: np.random.Generator, *, form: bool = False) -> NDArray | None:
    """The matrix itself if it is formed, small, or to be formed; None otherwise."""
    basis = range_of(op, rng)
    if basis.dense is None and (form or min(op.shape) <= SMALL):
        basis.form()
    return basis.dense


def best_of_rank(op: Operator, rank: int, rng: np.random.Generator) -> Triple:
    """Near-best approximation of rank r = min(rank, m, n): U (m, r), s (r,) falling, Vh (r, n)."""
    basis, rank = range_of(op, rng), min(rank, *op.shape)
    if rank == 0:
        return empty_triple(*op.shape, op.dtype)
    basis.reach(rank + max(EXTRA_COLUMNS, rank // 8), sweeps=True)
    return basis.refined(rank)


def known_of_rank(op: Products, rank: int, rng: np.random.Generator) -> Triple | None:
    """Approximation of a rank from the products that were taken; None if they do not suffice."""
    basis = range_of(op, rng)
    known = basis.complete or basis.columns >= rank + EXTRA_COLUMNS
    return basis.triple(rank) if known else None


def _orthogonal(new: NDArray, Q: NDArray) -> NDArray:
    """Columns orthogonal to those of Q to rounding, and to one another."""
    return np.linalg.qr(new - Q @ (Q.conj().T @ new))[0]


def _column_norm(Y: NDArray) -> float:
    """Root mean square of the norms of columns."""
    return float(np.linalg.norm(Y) / np.sqrt(max(Y.shape[1], 1)))
