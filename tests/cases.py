"""The case table: matrices of every kind, each with an independent naive dense twin.

Every builder takes a function ``c(*shape)`` that draws contents, and returns the
matrix and the dense array that it should be, assembled entry by entry or block by
block from the definition alone.
"""

import numpy as np
from scipy.sparse.linalg import aslinearoperator

import structmat
from structmat import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    Dense,
    Diagonal,
    Hierarchical,
    Identity,
    LowRank,
    Monarch,
    Permutation,
    kron,
)
from structmat.matrices import HermitianLowRank, Mirrored, from_operator

DTYPES = ("float32", "float64", "complex64", "complex128")


def contents(dtype, seed=0):
    """A function that draws arrays of a dtype."""
    rng = np.random.default_rng(seed)

    def c(*shape):
        x = rng.standard_normal(shape)
        if np.issubdtype(np.dtype(dtype), np.complexfloating):
            x = x + 1j * rng.standard_normal(shape)
        return x.astype(dtype)

    return c


def naive_low_rank(U, V):
    D = np.zeros((len(U), len(V)), U.dtype)
    for t in range(U.shape[1]):
        D += np.outer(U[:, t], V[:, t].conj())
    return D


def naive_block_sparse(blocks, rows, cols, shape):
    D = np.zeros(shape, blocks.dtype)
    for block, r, s in zip(blocks, rows, cols, strict=True):
        for i in range(block.shape[0]):
            for j in range(block.shape[1]):
                a, b = r * block.shape[0] + i, s * block.shape[1] + j
                if a < shape[0] and b < shape[1]:
                    D[a, b] = block[i, j]
    return D


def naive_block_low_rank(tiles, row_sizes, col_sizes, dtype):
    top, left = np.cumsum([0, *row_sizes]), np.cumsum([0, *col_sizes])
    D = np.zeros((top[-1], left[-1]), dtype)
    for (i, j), tile in tiles.items():
        dense = naive_low_rank(*tile) if isinstance(tile, tuple) else tile
        D[top[i] : top[i + 1], left[j] : left[j + 1]] = dense
    return D


def naive_monarch(L, R, shape):
    (l, s, _r), (k, q, p) = L.shape, R.shape
    D = np.zeros((l * s, k * p), np.result_type(L, R))
    for t in range(k * q):
        for i in range(s):
            for d in range(p):
                D[i * l + t % l, (t // q) * p + d] += L[t % l, i, t // l] * R[t // q, t % q, d]
    return D[: shape[0], : shape[1]]


def naive_gblr(row_start, row_width, u, col_start, col_width, v, shape):
    D = np.zeros(shape, u.dtype)
    a = b = 0
    for l, w, s, x in zip(row_start, row_width, col_start, col_width, strict=True):
        cols = [(s + j) % shape[1] for j in range(x)]
        for i in range(w):
            D[(l + i) % shape[0], cols] += u[a + i] * np.conj(v[b : b + x])
        a, b = a + w, b + x
    return D


def naive_hierarchical(blocks, u, v, dense, shape, row_order, col_order, symmetric):
    D = np.zeros(shape, u.dtype)
    a = b = c = 0
    for top, p, left, q, rank in blocks:
        block = np.zeros((p, q), u.dtype)
        diagonal = symmetric and (top, p) == (left, q)
        for _ in range(rank):
            block += np.outer(u[a : a + p], v[b : b + q].conj())
            a, b = a + p, b + q
        if rank < 0:
            for i in range(p):
                for j in range(i + 1 if diagonal else q):
                    block[i, j] = dense[c].real if diagonal and i == j else dense[c]
                    c += 1
        if diagonal:
            block += np.tril(block, -1).conj().T
        D[top : top + p, left : left + q] += block
        if symmetric and not diagonal:
            D[left : left + q, top : top + p] += block.conj().T
    result = np.zeros_like(D)
    result[np.ix_(row_order, col_order)] = D
    return result


def low_rank(m, n, r):
    def build(c):
        U, V = c(m, r), c(n, r)
        return LowRank(U, V), naive_low_rank(U, V)

    return build


def block_sparse(m, n, p, q, rows, cols):
    def build(c):
        blocks = c(len(rows), p, q)
        matrix = BlockSparse(blocks, rows, cols, shape=(m, n))
        return matrix, naive_block_sparse(blocks, rows, cols, (m, n))

    return build


def block_low_rank(row_sizes, col_sizes, ranks):
    """`ranks` maps a place to a rank, or to None for a dense tile."""

    def build(c):
        tiles = {}
        for (i, j), rank in ranks.items():
            p, q = row_sizes[i], col_sizes[j]
            tiles[i, j] = c(p, q) if rank is None else (c(p, rank), c(q, rank))
        matrix = BlockLowRank(tiles, row_sizes=row_sizes, col_sizes=col_sizes)
        return matrix, naive_block_low_rank(tiles, row_sizes, col_sizes, c().dtype)

    return build


def monarch(left, right, shape=None):
    def build(c):
        L, R = c(*left), c(*right)
        full = shape or (left[0] * left[1], right[0] * right[2])
        return Monarch(L, R, shape=shape), naive_monarch(L, R, full)

    return build


def gblr(m, n, row_start, row_width, col_start, col_width):
    def build(c):
        u, v = c(sum(row_width)), c(sum(col_width))
        parts = (row_start, row_width, u, col_start, col_width, v)
        return GBLR(*parts, shape=(m, n)), naive_gblr(*parts, (m, n))

    return build


def random_gblr(m, n, k, seed):
    def build(c):
        rng = np.random.default_rng(seed)
        runs = (
            rng.integers(0, m, k),
            rng.integers(0, m + 1, k),
            rng.integers(0, n, k),
            rng.integers(0, n + 1, k),
        )
        return gblr(m, n, *runs)(c)

    return build


def hierarchical(shape, blocks, *, row_order=None, col_order=None, symmetric=False):
    def build(c):
        u = c(sum(p * max(r, 0) for _, p, _, _, r in blocks))
        v = c(sum(q * max(r, 0) for _, _, _, q, r in blocks))
        sizes = [
            p * (p + 1) // 2 if symmetric and (i, p) == (j, q) else p * q
            for i, p, j, q, r in blocks
            if r < 0
        ]
        contents = u, v, c(sum(sizes))
        orders = [
            np.arange(n) if order is None else np.asarray(order)
            for n, order in zip(shape, (row_order, col_order), strict=True)
        ]
        matrix = Hierarchical(
            blocks, *contents, shape=shape, row_order=row_order, col_order=col_order,
            symmetric=symmetric,
        )  # fmt: skip
        return matrix, naive_hierarchical(blocks, *contents, shape, *orders, symmetric)

    return build


def dense(m, n):
    def build(c):
        A = c(m, n)
        return Dense(A), A

    return build


def permutation(p):
    def build(c):
        D = np.zeros((len(p), len(p)), c().dtype)
        D[np.arange(len(p)), p] = 1
        return Permutation(np.asarray(p, np.int64)), D

    return build


def identity(n):
    def build(c):
        return Identity(n), np.diag(np.ones(n)).astype(c().dtype)

    return build


def diagonal(n):
    def build(c):
        d = c(n)
        return Diagonal(d), np.diag(d)

    return build


def hermitian_low_rank(n, r):
    def build(c):
        U, d = c(n, r), c(r)
        return HermitianLowRank(U, d), naive_low_rank(U * d.real, U)

    return build


def mirrored(half):
    def build(c):
        T, D = half(c)
        return Mirrored(T), D + D.conj().T

    return build


def combined(combine, *builders):
    """The same combination of matrices and of their dense twins."""

    def build(c):
        matrices, twins = zip(*(builder(c) for builder in builders), strict=True)
        return combine(*matrices), combine(*twins)

    return build


def naive_kron(D, E):
    (m, n), (p, q) = D.shape, E.shape
    K = np.zeros((m * p, n * q), np.result_type(D, E))
    for i in range(m):
        for j in range(n):
            K[i * p : (i + 1) * p, j * q : (j + 1) * q] = D[i, j] * E
    return K


def kronecker(left, right):
    def build(c):
        (A, D), (B, E) = left(c), right(c)
        return kron(A, B), naive_kron(D, E)

    return build


def grid(row_sizes, col_sizes, builders):
    """`builders` maps a place to the builder of a block."""

    def build(c):
        top, left = np.cumsum([0, *row_sizes]), np.cumsum([0, *col_sizes])
        blocks = [[None] * len(col_sizes) for _ in row_sizes]
        D = np.zeros((top[-1], left[-1]), c().dtype)
        for (i, j), builder in builders.items():
            blocks[i][j], D[top[i] : top[i + 1], left[j] : left[j + 1]] = builder(c)
        return structmat.block(blocks), D

    return build


def operator(m, n):
    """An operator of SciPy around an array."""

    def build(c):
        D = c(m, n)
        return from_operator(aslinearoperator(D)), D

    return build


SWAP = [3, 1, 2, 0, 4, 6, 5]

#: Kinds of sources, which hold functions or points: tests/sources has their cases.
SOURCES = {"kernel", "entries"}
CASES = {
    "low_rank": low_rank(7, 5, 2),
    "low_rank-rank-zero": low_rank(4, 6, 0),
    "low_rank-above-full": low_rank(3, 2, 5),
    "low_rank-one-row": low_rank(1, 11, 1),
    "low_rank-no-rows": low_rank(0, 3, 2),
    "low_rank-nothing": low_rank(0, 0, 0),
    "block_sparse": block_sparse(8, 6, 2, 3, [0, 1, 3], [1, 0, 1]),
    "block_sparse-ragged": block_sparse(7, 11, 3, 4, [0, 0, 2, 2], [0, 2, 1, 2]),
    "block_sparse-one-block-larger": block_sparse(3, 2, 5, 4, [0], [0]),
    "block_sparse-no-blocks": block_sparse(5, 4, 2, 2, [], []),
    "block_sparse-no-columns": block_sparse(3, 0, 2, 2, [], []),
    "block_low_rank": block_low_rank([3, 4], [2, 3], {(0, 0): 1, (1, 0): 2, (1, 1): 2}),
    "block_low_rank-dense-tiles": block_low_rank(
        [3, 1, 3], [5, 6], {(0, 1): None, (2, 0): 1, (2, 1): None}
    ),
    "block_low_rank-zero-sizes": block_low_rank(
        [0, 4, 0], [3, 0], {(1, 0): 2, (1, 1): 1, (0, 0): 1}
    ),
    "block_low_rank-rank-zero": block_low_rank([2, 2], [2], {(0, 0): 0}),
    "block_low_rank-no-tiles": block_low_rank([2, 5], [3], {}),
    "block_low_rank-nothing": block_low_rank([], [], {}),
    "monarch": monarch((2, 2, 2), (2, 2, 2)),
    "monarch-rectangular": monarch((2, 4, 3), (3, 2, 2)),
    "monarch-padded": monarch((2, 4, 3), (3, 2, 4), (7, 11)),
    "monarch-rank-two": monarch((2, 3, 4), (2, 4, 3)),
    "monarch-uneven-ranks": monarch((3, 2, 2), (2, 3, 5), (5, 9)),
    "monarch-more-hands": monarch((6, 2, 1), (3, 2, 3)),
    "monarch-no-middle": monarch((2, 2, 0), (3, 0, 2)),
    "gblr": gblr(7, 5, [6, 0, 3], [3, 7, 2], [4, 1, 0], [3, 0, 5]),
    "gblr-one-row-each": gblr(5, 5, [2, 2, 2], [1, 1, 1], [0, 4, 2], [1, 2, 5]),
    "gblr-single": gblr(1, 1, [0], [1], [0], [1]),
    "gblr-no-blocks": gblr(4, 3, [], [], [], []),
    "gblr-no-rows": gblr(0, 3, [0], [0], [2], [2]),
    "gblr-prime": random_gblr(53, 37, 12, 1),
    "gblr-tiles": random_gblr(150, 210, 30, 2),
    "hierarchical": hierarchical(
        (7, 6),
        [[0, 3, 0, 2, -1], [0, 3, 2, 4, 2], [3, 4, 0, 2, 1], [3, 4, 2, 4, -1]],
        row_order=SWAP,
        col_order=[5, 0, 1, 4, 3, 2],
    ),
    "hierarchical-symmetric": hierarchical(
        (7, 7),
        [[0, 3, 0, 3, -1], [3, 2, 0, 3, 2], [3, 2, 3, 2, -1], [5, 2, 0, 5, -1], [5, 2, 5, 2, -1]],
        row_order=SWAP,
        col_order=SWAP,
        symmetric=True,
    ),
    "hierarchical-upper": hierarchical(
        (5, 5), [[0, 3, 3, 2, 1], [0, 3, 0, 3, -1], [3, 2, 3, 2, -1]], symmetric=True
    ),
    "hierarchical-overlap": hierarchical((4, 5), [[0, 4, 1, 3, 1], [2, 2, 0, 5, -1]]),
    "hierarchical-rank-zero": hierarchical((3, 4), [[0, 2, 0, 4, 0], [2, 1, 0, 1, 3]]),
    "hierarchical-no-blocks": hierarchical((4, 3), [], row_order=[3, 1, 0, 2]),
    "hierarchical-no-rows": hierarchical((0, 3), []),
    "hierarchical-nothing": hierarchical((0, 0), [], symmetric=True),
    "dense": dense(5, 3),
    "dense-empty": dense(0, 4),
    "permutation": permutation(SWAP),
    "permutation-empty": permutation([]),
    "identity": identity(6),
    "identity-empty": identity(0),
    "diagonal": diagonal(7),
    "diagonal-empty": diagonal(0),
    "scaled-identity": combined(lambda a: 0.5 * a, identity(4)),
    "sum": combined(lambda a, b: a + b, low_rank(7, 5, 2), gblr(7, 5, [6], [3], [1], [4])),
    "sum-of-three": combined(
        lambda a, b, c: a + b - c,
        monarch((2, 4, 3), (3, 2, 2), (7, 5)),
        low_rank(7, 5, 1),
        block_sparse(7, 5, 2, 2, [1], [1]),
    ),
    "product": combined(
        lambda a, b: a @ b, permutation(SWAP), monarch((2, 4, 3), (3, 2, 2), (7, 5))
    ),
    "product-of-three": combined(
        lambda a, b, c: a @ b @ c,
        block_sparse(6, 7, 3, 3, [0, 1], [2, 0]),
        permutation(SWAP),
        gblr(7, 4, [5], [4], [3], [2]),
    ),
    "scaled": combined(lambda a: 2.5 * a, permutation(SWAP)),
    "product-ordered": combined(
        lambda a, b, c: a @ b @ c,
        permutation(SWAP),
        gblr(7, 5, [6, 0, 3], [3, 7, 2], [4, 1, 0], [3, 0, 5]),
        permutation([2, 0, 1, 4, 3]),
    ),
    "product-ordered-blocks": combined(
        lambda a, b: a @ b,
        block_sparse(7, 11, 3, 4, [0, 0, 2, 2], [0, 2, 1, 2]),
        permutation([10, 3, 1, 2, 0, 4, 6, 5, 9, 8, 7]),
    ),
    "product-ordered-sum": combined(
        lambda a, b, c, d: a @ (b + c) @ d,
        permutation(SWAP),
        monarch((2, 4, 3), (3, 2, 2), (7, 5)),
        gblr(7, 5, [6], [3], [1], [4]),
        permutation([2, 0, 1, 4, 3]),
    ),
    "scaled-product": combined(
        lambda a, b: -(a @ b.conj().T), permutation(SWAP), monarch((2, 4, 3), (3, 2, 4), (5, 7))
    ),
    "adjoint": combined(lambda a: a.conj().T, monarch((2, 4, 3), (3, 2, 2), (7, 5))),
    "kronecker": kronecker(low_rank(3, 2, 2), dense(2, 3)),
    "kronecker-identity": kronecker(identity(3), monarch((2, 2, 2), (2, 2, 2))),
    "kronecker-outer-first": kronecker(gblr(4, 1, [2], [1], [0], [1]), dense(2, 5)),
    "kronecker-nothing": kronecker(low_rank(3, 0, 1), dense(2, 3)),
    "grid": grid(
        [7, 4],
        [5, 7],
        {
            (0, 0): monarch((2, 4, 3), (3, 2, 2), (7, 5)),
            (0, 1): permutation(SWAP),
            (1, 1): random_gblr(4, 7, 3, 5),
        },
    ),
    "grid-diagonal": grid(
        [3, 0, 4],
        [3, 2, 4],
        {(0, 0): identity(3), (1, 1): low_rank(0, 2, 1), (2, 2): permutation([1, 3, 0, 2])},
    ),
    "operator": operator(5, 3),
    "operator-square": operator(4, 4),
    "hermitian_low_rank": hermitian_low_rank(7, 2),
    "hermitian_low_rank-rank-zero": hermitian_low_rank(3, 0),
    "mirrored": mirrored(gblr(7, 7, [6, 0, 3], [3, 7, 2], [4, 1, 0], [3, 0, 5])),
    "mirrored-empty": mirrored(low_rank(0, 0, 1)),
}


def build(name, dtype="float64", seed=0):
    """The matrix of a case and its dense twin, on NumPy."""
    return CASES[name](contents(dtype, seed))
