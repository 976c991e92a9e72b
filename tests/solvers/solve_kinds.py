"""Small square matrices of every kind, for solves."""

import numpy as np

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
from structmat.matrices import Adjoint, Scaled

N = 6
ORDER = [3, 1, 2, 0, 5, 4]


def drawn(seed=0, is_complex=False):
    rng = np.random.default_rng(seed)

    def c(*shape):
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if is_complex else x

    return c


def monarch(c):
    return Monarch(c(2, 3, 2), c(2, 2, 3))


def hierarchical(c, *, symmetric=False):
    blocks = [[0, 3, 0, 3, -1], [3, 3, 0, 3, 1], [3, 3, 3, 3, -1]]
    blocks += [] if symmetric else [[0, 3, 3, 3, 1]]
    dense = c(12 if symmetric else 18)
    size = sum(3 for *_, rank in blocks if rank > 0)
    orders = {"row_order": ORDER, "col_order": ORDER}
    return Hierarchical(
        blocks, c(size), c(size), dense, shape=(N, N), symmetric=symmetric, **orders
    )


def tiles(c):
    return BlockLowRank(
        {(0, 0): c(3, 3), (0, 1): (c(3, 1), c(3, 1)), (1, 1): c(3, 3)},
        row_sizes=[3, 3],
        col_sizes=[3, 3],
    )


def gblr(c):
    return GBLR([5, 0, 2], [3, 6, 2], c(11), [0, 4, 1], [6, 3, 4], c(13), shape=(N, N))


KINDS = {
    "low_rank": lambda c: LowRank(c(N, 2), c(N, 2)),
    "diagonal": lambda c: Diagonal(c(N)),
    "dense": lambda c: Dense(c(N, N)),
    "gblr": gblr,
    "block_sparse": lambda c: BlockSparse(c(3, 2, 2), [0, 1, 2], [0, 2, 1], shape=(N, N)),
    "block_diagonal": lambda c: BlockSparse(c(3, 2, 2), [0, 1, 2], [0, 1, 2], shape=(N, N)),
    "block_low_rank": tiles,
    "monarch": monarch,
    "hierarchical": hierarchical,
    "hierarchical-symmetric": lambda c: hierarchical(c, symmetric=True),
    "plus-diagonal": lambda c: LowRank(c(N, 2), c(N, 2)) + Diagonal(3 + c(N)),
    "plus-permutation": lambda c: LowRank(c(N, 1), c(N, 1)) + 2 * Permutation(ORDER),
    "sum": lambda c: monarch(c) + gblr(c) + LowRank(c(N, 1), c(N, 1)),
    "product": lambda c: monarch(c) @ Permutation(ORDER) @ gblr(c),
    "scaled": lambda c: Scaled(monarch(c), 1.5),
    "adjoint": lambda c: Adjoint(gblr(c)),
    "kronecker": lambda c: kron(Dense(c(2, 2)), LowRank(c(3, 1), c(3, 1)) + Identity(3)),
    "grid": lambda c: structmat.block([[monarch(c), gblr(c)], [None, Dense(c(N, N))]]),
}
