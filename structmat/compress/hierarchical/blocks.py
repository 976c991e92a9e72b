"""Rectangles of any source, approximated by blocks of its entries.

Small rectangles are evaluated whole and cut to their largest singular values. Of others, rows
at random show which columns are needed, and these which rows (cross approximation, with as many
lines at a time as keep calls few). Lines at random then have to agree.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from structmat.compress.hierarchical.clusters import Pairs
from structmat.compress.hierarchical.evaluate import Evaluator, Factors
from structmat.intervals import IntArray, offsets, ramps
from structmat.project.svd import factored_svd, smallest_rank

#: Entries up to which a rectangle is evaluated whole: 128 rows and columns.
WHOLE = 2**14
#: Rows and columns at random by which a rectangle is checked.
LINES = 12
#: Crosses after which the error must have fallen.
PATIENCE = 3
#: Entries of a call for several whole rectangles.
_CALL = 2**20


class BlockEvaluator(Evaluator):
    """Rectangles of a source, by blocks of its entries."""

    def __init__(self, source: Any, pairs: Pairs) -> None:
        super().__init__(source)
        self._orders = pairs.row_order, pairs.col_order
        wide = np.complex128 if np.dtype(source.dtype).kind == "c" else np.float64
        self._dtype = np.dtype(wide)

    def block(self, rows: IntArray, cols: IntArray) -> NDArray[Any]:
        """Entries at some rows and columns of the ordered matrix, in double precision."""
        found = self.source.block(self._orders[0][rows], self._orders[1][cols])
        return np.asarray(found, self._dtype)

    def factor(self, pairs: IntArray, bounds: NDArray[np.float64], seed: int) -> Factors:
        """Approximate rectangles, each to its squared error."""
        area = (pairs[:, 1] - pairs[:, 0]) * (pairs[:, 3] - pairs[:, 2])
        found: dict[int, tuple[NDArray[Any], ...] | None] = {}
        for some in _together(pairs, np.flatnonzero(area <= WHOLE)):
            self._whole(pairs, some, bounds, found)
        for k in np.flatnonzero(area > WHOLE):
            rng = np.random.default_rng([seed, *pairs[k]])
            found[int(k)] = self._crossed(pairs[k], float(bounds[k]), rng)
        triples = [found[k] for k in range(len(pairs))]
        there = [t for t in triples if t is not None]
        flat = [np.concatenate([np.zeros(0), *(t[i].ravel() for t in there)]) for i in range(3)]
        ranks = np.asarray([-1 if t is None else t[2].size for t in triples], np.int64)
        return Factors(pairs, flat[0], flat[1], flat[2].real, ranks)

    def fill(self, pairs: IntArray, begins: IntArray, triangular: NDArray, out: NDArray) -> None:
        """Write the entries of rectangles to `out`, or lower triangles, by rows."""
        for some in _together(pairs, np.arange(len(pairs))):
            for k, block in self._each(pairs, some):
                flat = block[np.tril_indices(len(block))] if triangular[k] else block.ravel()
                out[begins[k] : begins[k] + flat.size] = flat

    def _each(self, pairs: IntArray, some: IntArray) -> list[tuple[int, NDArray[Any]]]:
        """Entries of rectangles on the same rows, by one call."""
        a, b = pairs[some[0], :2]
        width = pairs[some, 3] - pairs[some, 2]
        cols = np.repeat(pairs[some, 2], width) + ramps(width)
        block, ends = self.block(np.arange(a, b), cols), offsets(width)
        return [
            (int(k), block[:, first:last])
            for k, first, last in zip(some, ends[:-1], ends[1:], strict=True)
        ]

    def _whole(
        self, pairs: IntArray, some: IntArray, bounds: NDArray[np.float64], found: dict[int, Any]
    ) -> None:
        blocks = self._each(pairs, some)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, (_, block) in enumerate(blocks):
            by_shape.setdefault(block.shape, []).append(i)
        for alike in by_shape.values():
            left, values, right = np.linalg.svd(
                np.stack([blocks[i][1] for i in alike]), full_matrices=False
            )
            for i, U, s, V in zip(alike, left, values, right, strict=True):
                k = blocks[i][0]
                found[k] = _in_values(U, s, V, 0.25 * float(bounds[k]))

    def _crossed(
        self, pair: IntArray, bound: float, rng: np.random.Generator
    ) -> tuple[NDArray[Any], ...] | None:
        """Approximate one rectangle by rows and columns; None if too many are needed."""
        a, b, c, d = (int(x) for x in pair)
        p, q = b - a, d - c
        rows, cols = np.arange(a, b), np.arange(c, d)
        U, V = np.zeros((p, 0), self._dtype), np.zeros((q, 0), self._dtype)
        errors: list[float] = []
        agreed = 0
        while U.shape[1] * 2 * (p + q) <= p * q:
            i = np.sort(rng.choice(p, min(LINES, p), replace=False))
            j = np.sort(rng.choice(q, min(LINES, q), replace=False))
            R = self.block(rows[i], cols) - U[i] @ V.conj().T
            C = self.block(rows, cols[j]) - U @ V[j].conj().T
            error = max(_square(R) * p / i.size, _square(C) * q / j.size)
            if error <= 0.25 * bound:
                # Of many checks, one may agree by chance.
                agreed += 1
                if agreed == min(2, len(errors)) or not errors:
                    return _in_values(*factored_svd(U, V), 0.25 * bound)
                continue
            agreed = 0
            errors.append(error)
            if len(errors) > PATIENCE and error > 0.25 * errors[0]:
                return None
            U, V = self._grown((rows, cols), U, V, R, C, bound)
        return None

    def _grown(
        self,
        axes: tuple[IntArray, IntArray],
        U: NDArray[Any],
        V: NDArray[Any],
        R: NDArray[Any],
        C: NDArray[Any],
        bound: float,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Factors with a cross of the columns that some rows need, and the rows these need.

        The columns are made orthonormal and cut on the chosen rows, so that no small pivot is
        divided by (interpolation at rows by QR with pivots, Drmac & Gugercin 2016).
        """
        rows, cols = axes
        j = _pivots(R, 0.01 * bound * len(R) / len(rows))
        more = self.block(rows, cols[j]) - U @ V[j].conj().T
        basis = np.linalg.qr(np.concatenate([more, C], axis=1))
        rank = _numerical_rank(basis.R)
        Q = basis.Q[:, :rank] if rank == basis.Q.shape[1] else _span(more, C)
        i = _pivots(Q.conj().T, 0.0)[: Q.shape[1]]
        line = self.block(rows[i], cols) - U[i] @ V.conj().T
        right = np.linalg.solve(Q[i], line)
        return np.concatenate([U, Q], axis=1), np.concatenate([V, right.conj().T], axis=1)


def _together(pairs: IntArray, some: IntArray) -> list[IntArray]:
    """Numbers of rectangles that have their rows in common, as many as a call may hold."""
    order = some[np.lexsort((pairs[some, 1], pairs[some, 0]))]
    if not order.size:
        return []
    key = pairs[order, :2]
    apart = np.flatnonzero((key[1:] != key[:-1]).any(axis=1)) + 1
    parts = []
    for same in np.split(order, apart):
        area = offsets((pairs[same, 1] - pairs[same, 0]) * (pairs[same, 3] - pairs[same, 2]))
        parts += np.split(same, np.unique(np.searchsorted(area, np.arange(_CALL, area[-1], _CALL))))
    return [part for part in parts if part.size]


def _square(A: NDArray[Any]) -> float:
    return float((np.abs(A) ** 2).sum())


def _pivots(A: NDArray[Any], bound: float) -> IntArray:
    """Columns by QR with pivots, without those that a squared error of `bound` can do without."""
    triangle, pivots = qr(A, mode="r", pivoting=True, check_finite=False)
    left = (np.abs(triangle) ** 2).sum(axis=1)[::-1].cumsum()[::-1]
    return np.asarray(pivots[: max(1, int((left > bound).sum()))])


def _numerical_rank(R: NDArray[Any]) -> int:
    size = np.abs(np.diagonal(R))
    return int((size > 1e-13 * size.max(initial=0.0)).sum())


def _span(*parts: NDArray[Any]) -> NDArray[Any]:
    """An orthonormal basis of what columns span, at least one column."""
    left, values, _ = np.linalg.svd(np.concatenate(parts, axis=1), full_matrices=False)
    return np.asarray(left[:, : max(1, int((values > 1e-13 * values[0]).sum()))])


def _in_values(
    U: NDArray[Any], values: NDArray[Any], Vh: NDArray[Any], bound: float
) -> tuple[NDArray[Any], ...]:
    """U^T and V^T with the roots of the singular values, less those within a squared error."""
    kept = smallest_rank(values, math.sqrt(bound))
    root = np.sqrt(values[:kept])
    return (U[:, :kept] * root).T, root[:, None] * Vh[:kept].conj(), values[:kept]
