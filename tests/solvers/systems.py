"""Random systems of every kind, and what is true of them in long double."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "reliability"))
from exact import COMPLEX, REAL, dense, sizes, wide

from structmat import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    Dense,
    Diagonal,
    Entries,
    Hierarchical,
    Identity,
    KernelMatrix,
    LowRank,
    Monarch,
    Permutation,
    block,
    kron,
)

DTYPES = ("float32", "float64", "complex64", "complex128")
#: Sizes that a system has; the larger ones less often.
SIZES = (0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 24, 31, 45)
CONTENTS = ("normal", "whole numbers", "huge", "tiny")
CHANGES = (
    "none", "none", "none", "hermitian", "definite", "zero row", "zero column", "equal rows",
    "scaled rows", "scaled columns", "scaled", "evenly scaled",
)  # fmt: skip
SHIFTS = ("none", "none", "one", "large", "small", "negative", "imaginary", "eigenvalue")


def drawer(rng, dtype, sort):
    """A function that draws contents."""
    complex_ = np.dtype(dtype).kind == "c"
    power = {"huge": 140, "tiny": -140}.get(sort, 0) / (10 if np.finfo(dtype).bits == 32 else 1)

    def c(*shape):
        def real():
            if sort == "whole numbers":
                return rng.integers(-2, 3, shape).astype(np.float64)
            return rng.standard_normal(shape) * 10.0**power

        return (real() + 1j * real() if complex_ else real()).astype(dtype)

    return c


def _cuts(rng, n):
    """Sizes that add up to n; some may be zero."""
    inner = np.sort(rng.integers(0, n + 1, rng.integers(0, 4)))
    return np.diff([0, *inner, n])


def low_rank(c, n, rng):
    return LowRank(c(n, r := int(rng.integers(0, max(n, 1) + 1))), c(n, r))


def low_rank_diagonal(c, n, rng):
    r = int(rng.integers(0, n // 3 + 1))
    return LowRank(c(n, r), c(n, r)) + Diagonal(c(n))


def low_rank_band(c, n, rng):
    r = int(rng.integers(0, n // 4 + 1))
    return LowRank(c(n, r), c(n, r)) + gblr_band(c, n, rng)


def block_sparse(c, n, rng):
    p, q = rng.integers(1, 5, 2)
    here = rng.random((-(-n // p), -(-n // q))) < 0.6
    rows, cols = np.nonzero(here)
    return BlockSparse(c(len(rows), p, q), rows, cols, shape=(n, n))


def block_band(c, n, rng):
    p, reach = rng.integers(1, 4, 2)
    at = np.arange(-(-n // p))
    rows, cols = np.nonzero(np.abs(at[:, None] - at) <= reach - 1)
    return BlockSparse(c(len(rows), p, p), rows, cols, shape=(n, n))


def _tiles(c, n, rng, hermitian):
    cut = _cuts(rng, n)
    found = {}
    for i, p in enumerate(cut):
        for j, q in enumerate(cut[: i + 1] if hermitian else cut):
            sort = rng.random()
            if i == j or sort < 0.2:
                found[i, j] = c(p, q)
            elif sort < 0.8:
                rank = int(rng.integers(0, 3))
                found[i, j] = c(p, rank), c(q, rank)
    if hermitian:
        for (i, j), tile in list(found.items()):
            thin = isinstance(tile, tuple)
            across = tile[::-1] if thin else tile.conj().T
            found[j, i] = tile + across if i == j else across
    return BlockLowRank(found, row_sizes=cut, col_sizes=cut)


def block_low_rank(c, n, rng):
    return _tiles(c, n, rng, hermitian=False)


def hermitian_tiles(c, n, rng):
    return _tiles(c, n, rng, hermitian=True)


def uneven_tiles(c, n, rng):
    rows, cols = _cuts(rng, n), _cuts(rng, n)
    found = {
        (i, j): c(p, q) if rng.random() < 0.5 else (c(p, 1), c(q, 1))
        for i, p in enumerate(rows)
        for j, q in enumerate(cols)
    }
    return BlockLowRank(found, row_sizes=rows, col_sizes=cols)


def monarch(c, n, rng):
    """Square factors of k s rows, cut to n, so that it has an inverse as a rule."""
    k = int(rng.integers(1, max(n, 1) + 1))
    s = -(-n // k)
    if rng.random() < 0.5:
        return Monarch(c(k, s, s), c(s, k, k), shape=(n, n))
    rank = int(rng.integers(1, 4))
    return Monarch(c(k, s, k * rank), c(k, k * rank, s), shape=(n, n))


def gblr(c, n, rng):
    K = int(rng.integers(0, 2 * n + 1))
    starts, widths = rng.integers(0, max(n, 1), (2, K)), rng.integers(0, n + 1, (2, K))
    return GBLR(
        starts[0], widths[0], c(widths[0].sum()), starts[1], widths[1], c(widths[1].sum()),
        shape=(n, n),
    )  # fmt: skip


def gblr_band(c, n, rng):
    """Runs near the diagonal, which wrap around in half of the cases."""
    most = max(1, min(4, n))
    start = np.arange(n) if rng.random() < 0.5 else np.arange(max(n - most, 0))
    widths = rng.integers(1, most + 1, (2, len(start))) if n else np.zeros((2, 0), np.int64)
    return GBLR(
        start, widths[0], c(widths[0].sum()), start, widths[1], c(widths[1].sum()), shape=(n, n)
    ) + Diagonal(c(n))


def _halves(rng, first, size, symmetric):
    """Blocks of a matrix by recursion on halves."""
    if size <= 3:
        return [(first, size, first, size, -1)] if size else []
    half = size // 2
    lower = (first + half, size - half, first, half, int(rng.integers(0, 3)))
    upper = (first, half, first + half, size - half, int(rng.integers(0, 3)))
    inner = _halves(rng, first, half, symmetric) + _halves(
        rng, first + half, size - half, symmetric
    )
    return [*inner, lower] if symmetric else [*inner, lower, upper]


def _hierarchical(c, n, rng, symmetric):
    blocks = _halves(rng, 0, n, symmetric)
    u = c(sum(p * max(r, 0) for _, p, _, _, r in blocks))
    v = c(sum(q * max(r, 0) for _, _, _, q, r in blocks))
    leaves = [
        p * (p + 1) // 2 if symmetric and i == j else p * q for i, p, j, q, r in blocks if r < 0
    ]
    order = rng.permutation(n) if rng.random() < 0.5 else None
    return Hierarchical(
        blocks, u, v, c(sum(leaves)), shape=(n, n), symmetric=symmetric,
        row_order=order, col_order=order,
    )  # fmt: skip


def hierarchical(c, n, rng):
    return _hierarchical(c, n, rng, symmetric=False)


def hierarchical_symmetric(c, n, rng):
    return _hierarchical(c, n, rng, symmetric=True)


def kernel(c, n, rng):
    """A kernel of points, some of which nearly coincide in half of the cases."""
    points = rng.random((n, 2))
    if n > 1 and rng.random() < 0.5:
        points[n // 2 :] = points[: n - n // 2] + 10.0 ** rng.uniform(-15, -3)
    name = ("exponential", "matern32", "gaussian")[rng.integers(3)]
    return KernelMatrix(
        points.astype(np.finfo(c().dtype).dtype), name, length=10 ** rng.uniform(-2, 1)
    )


def entries(c, n, rng):
    values = c(n, n)
    return Entries(lambda i, j: values[np.ix_(i, j)], (n, n), dtype=values.dtype)


def dense_matrix(c, n, rng):
    return Dense(c(n, n))


def permutation(c, n, rng):
    return Permutation(rng.permutation(n))


def identity(c, n, rng):
    return c().item() * Identity(n)


def diagonal(c, n, rng):
    return Diagonal(c(n))


def sum_of_many(c, n, rng):
    parts = [gblr_band, block_band, block_sparse, low_rank, permutation, monarch]
    return sum(part(c, n, rng) for part in rng.permutation(parts)[: rng.integers(2, 5)])


def product(c, n, rng):
    order = Permutation(rng.permutation(n))
    inner = (gblr_band, block_band, low_rank_diagonal, block_low_rank)[rng.integers(4)](c, n, rng)
    ways = (
        lambda: order @ inner @ order.H,
        lambda: order @ inner,
        lambda: inner @ block_band(c, n, rng),
        lambda: inner @ inner.H,
    )
    return ways[rng.integers(len(ways))]()


def adjoint(c, n, rng):
    return (product, monarch, sum_of_many)[rng.integers(3)](c, n, rng).H


def kronecker(c, n, rng):
    p = int(rng.integers(1, 5))
    sides = (diagonal, block_band, dense_matrix, gblr_band)
    left, right = (sides[k] for k in rng.integers(0, len(sides), 2))
    return kron(left(c, p, rng), right(c, max(n // p, 1), rng))


def grid(c, n, rng):
    h = n // 2
    return block([
        [block_band(c, h, rng), LowRank(c(h, 1), c(n - h, 1))],
        [LowRank(c(n - h, 1), c(h, 1)), (gblr_band, hierarchical)[rng.integers(2)](c, n - h, rng)],
    ])  # fmt: skip


KINDS = {
    f.__name__.replace("_", " "): f
    for f in (
        low_rank, low_rank_diagonal, low_rank_band, block_sparse, block_band, block_low_rank,
        hermitian_tiles, uneven_tiles, monarch, gblr, gblr_band, hierarchical,
        hierarchical_symmetric, kernel, entries, dense_matrix, permutation, identity, diagonal,
        sum_of_many, product, adjoint, kronecker, grid,
    )
}  # fmt: skip


def changed(A, change, c, rng):
    """The matrix made hermitian, singular, or badly scaled."""
    n = A.shape[0]
    single = np.finfo(A.dtype).bits == 32
    some = rng.integers(0, n) if n else 0

    def uneven():
        return Diagonal((10.0 ** rng.uniform(-12, 12, n)).astype(A.dtype))

    keep = np.ones(n, A.dtype)
    keep[some : some + 1] = 0
    repeated = np.arange(n)
    repeated[some : some + 1] = (some + 1) % max(n, 1)
    ways = {
        "none": lambda: A,
        "hermitian": lambda: A + A.H,
        "definite": lambda: A @ A.H,
        "zero row": lambda: Diagonal(keep) @ A,
        "zero column": lambda: A @ Diagonal(keep),
        "equal rows": lambda: A[repeated, :],
        "scaled rows": lambda: uneven() @ A,
        "scaled columns": lambda: A @ uneven(),
        "scaled": lambda: uneven() @ A @ uneven(),
        "evenly scaled": lambda: (
            (D := Diagonal(2.0 ** rng.integers(-20, 20, n)).astype(A.dtype)) @ A @ D
        ),
    }
    return A if single and "scaled" in change and rng.random() < 0.5 else ways[change]()


@dataclass(frozen=True)
class System:
    """A matrix and a shift, with the exact sum S in long double and the sizes of its terms."""

    A: Any
    shift: complex
    S: np.ndarray
    terms: np.ndarray

    @property
    def single(self):
        return np.finfo(self.A.dtype).bits == 32

    @property
    def tol(self):
        return 1e-5 if self.single else 1e-8


def system(kind, dtype, n, contents, change, shift, seed):
    """The system of a few choices and a seed."""
    rng = np.random.default_rng(seed)
    c = drawer(rng, dtype, contents)
    with np.errstate(all="ignore"):
        A = changed(KINDS[kind](c, n, rng), change, c, rng)
        S, terms = _exact(A, wide), _exact(A, sizes)
        number = _number(shift, S, rng)
        one = np.eye(A.shape[0])
        return System(
            A, number, S + COMPLEX(number) * one if number else S, terms + abs(number) * one
        )


def _exact(A, cast):
    if A.kind in ("kernel", "entries"):
        return cast(A.to_dense())
    if A.children and A.kind in ("sum", "product", "scaled", "adjoint"):
        parts = [_exact(child, cast) for child in A.children]
        if A.kind == "sum":
            return sum(parts)
        if A.kind == "product":
            return _chain(parts)
        return parts[0] * cast(A.alpha) if A.kind == "scaled" else parts[0].conj().T
    return dense(A, cast)


def _chain(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total @ part
    return total


def _number(shift, S, rng):
    size = float(np.abs(S).max(initial=0)) or 1.0
    size = size if np.isfinite(size) and size < 1e306 else 1.0
    inner = (S / size).astype(np.complex128)
    # A single entry less itself is zero, or the rounding error of its terms: no system.
    if shift == "eigenvalue" and len(S) > 1 and np.isfinite(inner).all():
        values = np.linalg.eigvals(inner)
        value = complex(values[rng.integers(len(values))]).real
        # A shift that rounding takes away from most entries makes another matrix of each sum.
        return -value * size if abs(value) > 1e-12 else 0.0
    return {
        "one": 1.0, "large": 30.0 * size, "small": 1e-3 * size, "negative": -0.5 * size,
        "imaginary": 2j * size,
    }.get(shift, 0.0)  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """Determinant and inverse of a matrix by elimination in long double."""

    sign: complex
    logabs: float
    #: First-order change of the log-determinant where every term changes by a fraction of 1.
    sensitivity: float
    #: The same where every entry does: infinite for a singular matrix.
    condition: float


def truth(system):
    """Elimination with complete pivoting, of rows and columns of similar sizes."""
    S, n = system.S, system.S.shape[0]
    rows, cols = np.ones(n, REAL), np.ones(n, REAL)
    for _ in range(3):
        rows, cols = _level(rows, np.abs(S * rows[:, None] * cols)), cols
        cols = _level(cols, np.abs(S * rows[:, None] * cols).T)
    M = (S * rows[:, None] * cols).astype(COMPLEX)
    both, sign, log = np.concatenate([M, np.eye(n, dtype=COMPLEX)], 1), COMPLEX(1), REAL(0)
    places = np.arange(n)
    for k in range(n):
        i, j = np.unravel_index(np.abs(both[k:, k:n]).argmax(), (n - k, n - k))
        pivot = both[k + i, k + j]
        if not abs(pivot) > 1e-19:
            return Truth(0, -np.inf, np.inf, np.inf)
        sign = -sign if (i > 0) != (j > 0) else sign
        both[[k, k + i]] = both[[k + i, k]]
        both[:, [k, k + j]] = both[:, [k + j, k]]
        places[[k, k + j]] = places[[k + j, k]]
        sign, log = sign * pivot / abs(pivot), log + np.log(abs(pivot))
        both[k] /= pivot
        others = np.arange(n) != k
        both[others] -= both[others, k : k + 1] * both[k]
    inverse = np.empty((n, n), COMPLEX)
    inverse[places] = both[:, n:]
    sizes_ = np.abs(inverse).T
    scaled = [np.abs(T) * rows[:, None] * cols for T in (system.terms, S)]
    log -= np.log(rows).sum() + np.log(cols).sum()
    return Truth(complex(sign), float(log), *(float((sizes_ * T).sum()) for T in scaled))


def _level(scale, absolute):
    """Scales by powers of two under which the largest entry of each row is about 1."""
    peaks = absolute.max(axis=1, initial=0)
    return scale * np.where(peaks > 0, 2.0 ** -np.rint(np.log2(np.where(peaks > 0, peaks, 1))), 1)
