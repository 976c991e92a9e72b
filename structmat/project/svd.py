"""Truncated singular value decompositions, exact or by sketching, in little memory."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from structmat._array import Array, namespace, to_numpy

#: Most rows or columns that LAPACK decomposes in full, quickly and in little memory.
EXACT_SIDE = 256
#: Most rows or columns of which LAPACK finds all singular values; they take less.
EXACT_VALUES_SIDE = 2048
#: Most rows or columns up to which leading eigenvectors of the Gram matrix cost less than a
#: sketch.
GRAM_SIDE = 4096
#: Most rows or columns up to which all eigenvectors come faster than the leading ones, by
#: divide and conquer, which needs more memory.
DIVIDE_SIDE = 1024
#: Least columns beyond the wanted rank that a sketch carries along.
EXTRA_COLUMNS = 8
#: Random vectors that estimate how much energy a sketch leaves behind.
PROBES = 6
#: Most sweeps of the subspace iteration; a flat spectrum needs most of them.
MOST_SWEEPS = 24
#: Gain of the last sweep, as a share of the energy left over.
LAST_GAIN = 1e-4

Triple = tuple[NDArray, NDArray, NDArray]


class Operator(Protocol):
    """Matrix as a sketch reads it: shape, dtype and products with matrices."""

    shape: tuple[int, int]
    dtype: np.dtype

    def matmat(self, X: NDArray) -> NDArray:
        """A @ X, shape (m, k)."""

    def rmatmat(self, X: NDArray) -> NDArray:
        """A^H @ X, shape (n, k)."""


class Explicit:
    """An array as an `Operator`; conjugates the thin operand instead of the matrix."""

    def __init__(self, A: NDArray) -> None:
        self.A, self.shape, self.dtype = A, A.shape, A.dtype

    def matmat(self, X: NDArray) -> NDArray:
        """A @ X, shape (m, k)."""
        return self.A @ X

    def rmatmat(self, X: NDArray) -> NDArray:
        """A^H @ X, shape (n, k)."""
        return (X.conj().T @ self.A).conj().T


def truncated_svd(A: NDArray, rank: int, rng: np.random.Generator) -> Triple:
    """Best approximation of rank r = min(rank, m, n): U (m, r), s (r,) falling, Vh (r, n).

    Up to 256 rows or columns, LAPACK decomposes the matrix. Above that, subspace iteration
    starts from the leading eigenvectors of the Gram matrix, or from random vectors if few
    are wanted. The Gram matrix alone would lose all singular values below 1e-8 of the
    largest; the iteration works on A itself and restores them.
    """
    m, n = A.shape
    rank = min(rank, m, n)
    if rank == 0:
        return empty_triple(m, n, A.dtype)
    if min(m, n) <= EXACT_SIDE:
        U, s, Vh = np.linalg.svd(A, full_matrices=False)
        return U[:, :rank], s[:rank], Vh[:rank]
    if min(m, n) > GRAM_SIDE and 6 * rank < min(m, n):
        return sketch(Explicit(A), rank, rng)
    if m > n:
        U, s, Vh = truncated_svd(A.conj().T, rank, rng)
        return Vh.conj().T, s, U.conj().T
    return _iterate(Explicit(A), *_gram_start(A, min(rank + EXTRA_COLUMNS, m)), rank, rng)


def sketch(op: Operator, rank: int, rng: np.random.Generator) -> Triple:
    """Near-best approximation as of `truncated_svd`, from products with the matrix alone.

    Randomised subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4),
    repeated until the gain of a sweep is negligible beside the energy left over, which a
    few random vectors estimate. ``op @ Vh^H = U * s`` to rounding, even if the subspace is
    a poor one.
    """
    m, n = op.shape
    rank = min(rank, m, n)
    if rank == 0:
        return empty_triple(m, n, op.dtype)
    columns = min(rank + max(EXTRA_COLUMNS, rank // 8), m, n)
    start = np.linalg.qr(op.matmat(gaussian(rng, (n, columns), op.dtype)))[0]
    return _iterate(op, start, np.zeros(columns), rank, rng)


def _iterate(
    op: Operator, Q: NDArray, values: NDArray, rank: int, rng: np.random.Generator
) -> Triple:
    """Subspace iteration from the columns of Q, whose singular values are about `values`."""
    n_cols = op.shape[1]
    rounding = np.finfo(op.dtype).eps * max(op.shape)
    probe = op.matmat(gaussian(rng, (n_cols, PROBES), op.dtype))
    for _ in range(MOST_SWEEPS):
        P, _upper = np.linalg.qr(op.rmatmat(Q))
        Q, R = np.linalg.qr(op.matmat(P))
        previous, values = values, np.linalg.svd(R, compute_uv=False).astype(np.float64)
        gain = values**2 - previous**2
        # Below the rounding of the largest value no gain is a real one.
        noise = rounding * values[0]
        gain[np.abs(gain) <= noise * np.maximum(values, noise)] = 0
        missed = probe - Q @ (Q.conj().T @ probe)
        left = (values[rank:] ** 2).sum() + (np.abs(missed) ** 2).sum(dtype=np.float64) / PROBES
        if len(R) == min(op.shape) or np.abs(gain[:rank].sum()) <= LAST_GAIN * left:
            break
    X, s, Zh = np.linalg.svd(R)
    return Q @ X[:, :rank], s[:rank], Zh[:rank] @ P.conj().T


def _gram_start(A: NDArray, columns: int) -> tuple[NDArray, NDArray]:
    """Leading left singular vectors and values, to the precision of A A^H."""
    gram = A @ A.conj().T
    m = len(gram)
    if m <= DIVIDE_SIDE:
        square, vectors = np.linalg.eigh(gram)
        square, vectors = square[m - columns :], vectors[:, m - columns :]
    else:
        square, vectors = linalg.eigh(
            gram,
            subset_by_index=(m - columns, m - 1),
            overwrite_a=True,
            check_finite=False,
            driver="evr",
        )
    values = np.sqrt(np.maximum(square[::-1], 0)).astype(np.float64)
    return vectors[:, ::-1], values


def leading_factors(A: Array, rank: int) -> tuple[NDArray, NDArray]:
    """U (m, r) orthonormal and V (n, r) in NumPy, U V^T the best approximation of a real matrix.

    The matrix, of any library, stays on its device, where the eigenvectors of its Gram matrix are
    found in double precision: exact to the rounding of a matrix in single precision. The rank
    is at most `rank`, and that of A.
    """
    xp, (m, n) = namespace(A), A.shape
    if m > n:
        right, left = leading_factors(xp.matrix_transpose(A), rank)
        norms = np.linalg.norm(left, axis=0)
        return left / norms, right * norms
    rank = min(rank, m)
    if rank == 0:
        return np.zeros((m, 0), np.float32), np.zeros((n, 0), np.float32)
    wide = xp.astype(A, xp.float64)
    _, vectors = xp.linalg.eigh(wide @ xp.matrix_transpose(wide))
    U = xp.flip(vectors[:, m - rank :], axis=1)
    U, V = (to_numpy(xp.astype(part, A.dtype)) for part in (U, xp.matrix_transpose(wide) @ U))
    count = numerical_rank(np.linalg.norm(V, axis=0), A.shape)
    return np.ascontiguousarray(U[:, :count]), np.ascontiguousarray(V[:, :count])


def leading_svd(A: NDArray, rank: int, rng: np.random.Generator) -> Triple:
    """Truncated decompositions of a stack of matrices, shape (T, p, q), all of one rank."""
    if min(A.shape[1:]) <= EXACT_SIDE:
        U, s, Vh = np.linalg.svd(A, full_matrices=False)
        return U[:, :, :rank], s[:, :rank], Vh[:, :rank]
    parts = [truncated_svd(tile, rank, rng) for tile in A]
    U, s, Vh = (np.stack(part) for part in zip(*parts, strict=True))
    return U, s, Vh


def svdvals(A: NDArray) -> NDArray[np.float64]:
    """All singular values of a stack of matrices, (T, p, q) to (T, min(p, q)).

    Above 2048 rows and columns those below 1e-8 of the largest are noise.
    """
    if not A.size:
        return np.zeros((A.shape[0], min(A.shape[1:])))
    if min(A.shape[1:]) <= EXACT_VALUES_SIDE:
        return np.linalg.svd(A, compute_uv=False).astype(np.float64)
    if A.shape[1] > A.shape[2]:
        A = A.transpose(0, 2, 1)
    # In double precision: squared in single, all below 3e-4 of the largest would be noise.
    wide = np.result_type(A.dtype, np.float64)
    tiles = (tile.astype(wide, copy=False) for tile in A)
    square = np.stack([np.linalg.eigvalsh(tile @ tile.conj().T) for tile in tiles])
    return np.sqrt(np.maximum(square[:, ::-1], 0)).astype(np.float64)


def numerical_rank(s: NDArray, shape: tuple[int, ...]) -> int:
    """Number of singular values, largest first, that stand out of the rounding."""
    if not s.size:
        return 0
    return int((s > s[0] * np.finfo(s.dtype).eps * max(shape)).sum())


def smallest_rank(s: NDArray, max_error: float, missed: float = 0.0) -> int:
    """Smallest rank whose error stays within a bound; `missed` is that of all singular values.

    Examples
    --------
    >>> smallest_rank(np.array([5.0, 4.0, 3.0]), 3.0), smallest_rank(np.array([5.0, 4.0, 3.0]), 5.0)
    (2, 1)
    """
    tail = missed**2 + np.cumsum(s[::-1].astype(np.float64) ** 2)
    return len(s) - int((tail <= max_error**2).sum())


def factored_svd(U: NDArray, V: NDArray) -> Triple:
    """Singular value decomposition of U V^H, for U (m, r) and V (n, r) of few columns."""
    (P, R), (Q, S) = np.linalg.qr(U), np.linalg.qr(V)
    left, s, right = np.linalg.svd(R @ S.conj().T)
    return P @ left, s, right @ Q.conj().T


def hermitian_part(U: NDArray, V: NDArray) -> tuple[NDArray, NDArray]:
    """Eigenvectors (n, k) and eigenvalues of (U V^H + V U^H) / 2, k at most twice the rank.

    For a Hermitian matrix A, the Hermitian part of U V^H is as near as U V^H is, or nearer.
    """
    Q, R = np.linalg.qr(np.concatenate([U, V], axis=1))
    core = R[:, : U.shape[1]] @ R[:, U.shape[1] :].conj().T
    values, vectors = np.linalg.eigh((core + core.conj().T) / 2)
    return Q @ vectors, values


def gaussian(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> NDArray:
    """Random numbers of variance 1, complex ones for a complex dtype."""
    dtype = np.dtype(dtype)
    X = rng.standard_normal(shape)
    if dtype.kind == "c":
        return ((X + 1j * rng.standard_normal(shape)) / np.sqrt(2)).astype(dtype)
    return X.astype(dtype)


def empty_triple(m: int, n: int, dtype: Any) -> Triple:
    """Decomposition of rank zero: U (m, 0), s (0,), Vh (0, n)."""
    real = np.finfo(dtype).dtype
    return np.zeros((m, 0), dtype), np.zeros(0, real), np.zeros((0, n), dtype)
