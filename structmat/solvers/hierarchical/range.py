"""Low rank of a tile, from its products with random vectors.

Products with random vectors span the columns of the tile, as far as those vectors have not been
seen before that tell what is missed (Halko, Martinsson & Tropp 2011, section 4.3). Rows far from
the diagonal see little of it: some rows at a time are first brought to a basis of their own, so
that the tall arrays are multiplied by small ones alone.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.kernels.cpu.blas_threads import shared_out_to_blas
from structmat.project.svd import smallest_rank
from structmat.solvers.hierarchical.tiles import Tile

#: Random vectors that tell what is missed.
WATCHED = 12
#: Shares of a squared error that a span, the bases of rows and of columns, and the singular
#: values that are dropped may miss.
SPANNED, REDUCED, CUT = 0.25, 0.05, 0.6
#: Tiles with fewer entries are formed; those with a side of at most `SHORT` are decomposed.
FORMED, SHORT = 2**18, 32
#: Squared relative error from which on squares of singular values are exact enough.
SQUARED = 1e-12
#: Rows that have a basis of their own, and random vectors of the first try for it.
ROWS, FIRST = 256, 24
#: Columns that are multiplied at a time.
COLUMNS = 128
#: Share of the vectors by which they become more where they were too few, at first.
MORE = 0.15


def low_rank(
    tile: Tile, bound: float, guess: int, rng: np.random.Generator, dtype: Any, threads: int = 1
) -> tuple[NDArray[Any], NDArray[Any]]:
    """U^T (r, p) and V^T (r, q) with ``|T - U V^H|_F**2`` of about `bound` at most.

    `guess` is the number of random vectors of the first try. Results do not depend on the number
    of threads.
    """
    p, q = tile.shape
    if p * q <= FORMED and tile.work > p * q // 4:
        tile = tile.formed(dtype)
    most = min(p, q)
    if most <= SHORT:
        ((_, _, (T,)),) = tile.formed(dtype).pieces
        return _cut(_Rows.plain(np.eye(p, dtype=dtype)), T.conj().T, bound, rng, threads)
    count = min(most, guess) + WATCHED
    Y = _product(tile.times, _signs(rng, (q, count), dtype), p, threads)
    rows = _Rows.of(Y, REDUCED * bound * count, threads)
    small, Q, more = rows.small, np.zeros((len(rows.small), 0), dtype), MORE
    while True:
        Q = _extended(Q, small[:, :-WATCHED])
        left = _rest(Q, small[:, -WATCHED:])
        size = Q.shape[1]
        if _square(left) <= SPANNED * bound * WATCHED or size >= most:
            break
        # The watched vectors, and more, join the span; the last ones are watched.
        count, more = min(most - size, math.ceil(more * size)), 2 * more
        Y = _product(tile.times, _signs(rng, (q, count), dtype), p, threads)
        small = np.concatenate([left, rows.seen(Y)], axis=1)
    basis = rows.with_small(Q)
    Z = _product(tile.adjoint_times, basis.whole(), q, threads)
    return _cut(basis, Z, bound, rng, threads)


def _extended(Q: NDArray[Any], Y: NDArray[Any]) -> NDArray[Any]:
    """Orthonormal columns with those that Y has beyond them."""
    if not Q.shape[1]:
        return np.linalg.qr(Y).Q
    more = Y
    for _ in range(3):
        # A column without anything new becomes one of rounding errors, which are not orthogonal.
        more = np.linalg.qr(_rest(Q, more)).Q
    return np.concatenate([Q, more], axis=1)


def _rest(Q: NDArray[Any], Y: NDArray[Any]) -> NDArray[Any]:
    return Y - Q @ (Q.conj().T @ Y)


def _signs(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """Random signs."""
    bits = np.frombuffer(rng.bytes((shape[0] * shape[1] + 7) // 8), np.uint8)
    signs = np.unpackbits(bits, count=shape[0] * shape[1]).astype(dtype)
    return (2 * signs - 1).reshape(shape)


def _product(times: Any, x: NDArray[Any], rows: int, threads: int) -> NDArray[Any]:
    """A product, some columns at a time."""
    y = np.empty((rows, x.shape[1]), x.dtype)

    def work(first: int, last: int) -> None:
        for k in range(first, last):
            some = slice(k * COLUMNS, (k + 1) * COLUMNS)
            y[:, some] = times(x[:, some])

    shared_out_to_blas(work, -(-x.shape[1] // COLUMNS), threads)
    return y


class _Rows:
    """A tall array as bases of some of its rows at a time, times a small one."""

    def __init__(self, bases: list[NDArray[Any] | None], step: int, small: NDArray[Any]) -> None:
        self._bases, self._step, self.small = bases, step, small

    @classmethod
    def plain(cls, A: NDArray[Any]) -> "_Rows":
        """An array as it is."""
        return cls([None], len(A), A)

    @classmethod
    def of(
        cls, A: NDArray[Any], bound: float, threads: int, mixed: NDArray[Any] | None = None
    ) -> "_Rows":
        """An array to a squared error of `bound`, with columns in general position, or `mixed`."""
        if len(A) <= 2 * ROWS or A.shape[1] < 2 * FIRST:
            return cls.plain(A)
        mixed, count = A if mixed is None else mixed, -(-len(A) // ROWS)
        found: list[tuple[NDArray[Any] | None, NDArray[Any]]] = [(None, A)] * count

        def work(first: int, last: int) -> None:
            for k in range(first, last):
                some = slice(k * ROWS, (k + 1) * ROWS)
                found[k] = _basis(A[some], mixed[some], bound * len(A[some]) / len(A))

        shared_out_to_blas(work, count, threads)
        bases, parts = zip(*found, strict=True)
        return cls(list(bases), ROWS, np.concatenate(parts))

    def seen(self, A: NDArray[Any]) -> NDArray[Any]:
        """The small array of another tall one, by the same bases."""
        parts = []
        for k, Q in enumerate(self._bases):
            own = A[k * self._step : (k + 1) * self._step]
            parts.append(own if Q is None else Q.conj().T @ own)
        return np.concatenate(parts)

    def with_small(self, small: NDArray[Any]) -> "_Rows":
        """The same bases times another small array."""
        return _Rows(self._bases, self._step, small)

    def whole(self) -> NDArray[Any]:
        """The array."""
        parts, first = [], 0
        for Q in self._bases:
            size = min(self._step, len(self.small) - first) if Q is None else Q.shape[1]
            R = self.small[first : first + size]
            parts.append(R if Q is None else Q @ R)
            first += size
        return np.concatenate(parts)


def _basis(
    A: NDArray[Any], mixed: NDArray[Any], bound: float
) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Orthonormal columns Q and Q^H A, or None and A where these would not be fewer."""
    count = FIRST
    while 2 * count <= min(*A.shape, mixed.shape[1]):
        Q = np.linalg.qr(mixed[:, :count]).Q
        R = Q.conj().T @ A
        if _square(A - Q @ R) <= bound:
            return Q, R
        count *= 2
    return None, A


def _cut(
    Q: _Rows, Z: NDArray[Any], bound: float, rng: np.random.Generator, threads: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Factors of Q Z^H for orthonormal Q, less its smallest singular values."""
    square = _square(Z)
    mixed = Z @ _signs(rng, (Z.shape[1], min(Z.shape[1], ROWS // 2)), Z.dtype)
    rows = _Rows.of(Z, REDUCED * bound, threads, mixed)
    small = rows.small
    if bound > SQUARED * square:
        energy, X = np.linalg.eigh(small.conj().T @ small)
        values, X = np.sqrt(energy.clip(0.0))[::-1], X[:, ::-1]
    else:
        _, values, Xh = np.linalg.svd(np.linalg.qr(small, mode="r"))
        X = Xh.conj().T
    kept = smallest_rank(values, math.sqrt(CUT * bound))
    kept = min(kept, int((values > np.finfo(values.dtype).eps * values.max(initial=0.0)).sum()))
    root, X = np.sqrt(values[:kept]), X[:, :kept]
    U = Q.with_small(Q.small @ (X * root)).whole()
    V = rows.with_small(small @ (X / root)).whole()
    return U.T, V.T


def _square(A: NDArray[Any]) -> float:
    return float(np.vdot(A, A).real)
