"""Structures of a given cost, each beside an independent product to compare with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import bsr_array, csr_array

import structmat

Product = Callable[[NDArray], NDArray]
#: Side of the blocks of a block sparse matrix, and tiles a side of a block low-rank one.
BLOCK_SIDE = 32
GRID_SIDE = 8


@dataclass(frozen=True)
class Subject:
    """Matrix that is measured, and other products to compare with.

    `reference` is a product in double precision, built independently; `size` is the
    Frobenius norm of the matrix, or of its blocks together where they overlap. `rivals`
    maps a name to a function of a dtype that returns a product in that precision.
    """

    matrix: structmat.StructuredMatrix
    reference: Product
    size: float
    source: str = "random"
    rivals: dict[str, Callable[[Any], Product]] = field(default_factory=dict)

    def product_error(self, y: NDArray, expected: NDArray, x: NDArray) -> float:
        """Error of y = A x in units of ||A||_F ||x||, where rounding stays below n eps."""
        y, x = y.reshape(len(y), -1), x.reshape(len(x), -1)
        difference = float(np.linalg.norm(y - expected.reshape(len(y), -1)[:, : y.shape[1]]))
        return difference / (self.size * float(np.linalg.norm(x.astype(np.float64))))


def beside_dense(
    matrix: structmat.StructuredMatrix,
    dense: NDArray[np.float64],
    rivals: dict[str, Callable[[Any], Product]] | None = None,
) -> Subject:
    """Describe a structure; the same matrix as a dense array is the reference."""
    return Subject(matrix, dense.__matmul__, float(np.linalg.norm(dense)), "random", rivals or {})


def all_random(n: int, cost: float, rng: np.random.Generator) -> list[Subject]:
    """Draw an n x n matrix of every kind but GBLR, of at most this cost in units of n^2."""
    makers = (random_block_sparse, random_block_low_rank, random_low_rank)
    return [*(make(n, cost, rng) for make in makers), random_monarch(n, cost, rng)]


def random_block_sparse(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw blocks of 32 x 32 at random places, with scipy's CSR and BSR as rivals."""
    size = min(BLOCK_SIDE, n)
    grid = n // size
    count = max(1, int(cost * grid * grid))
    places = np.sort(rng.choice(grid * grid, count, replace=False))
    rows, cols = np.divmod(places, grid)
    blocks = rng.standard_normal((count, size, size))
    dense = np.zeros((grid * size, grid * size))
    for block, i, j in zip(blocks, rows, cols, strict=True):
        dense[i * size : (i + 1) * size, j * size : (j + 1) * size] = block
    begin = np.searchsorted(rows, np.arange(grid + 1))

    def bsr(dtype: Any) -> Product:
        sparse = bsr_array((blocks.astype(dtype), cols, begin), shape=dense.shape)
        return lambda x: sparse @ x

    def csr(dtype: Any) -> Product:
        sparse = csr_array(dense.astype(dtype))
        return lambda x: sparse @ x

    matrix = structmat.BlockSparse(blocks, rows, cols, shape=dense.shape)
    return beside_dense(matrix, dense, {"csr": csr, "bsr": bsr})


def random_block_low_rank(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw a grid of 8 x 8 tiles, all of the rank that the cost allows."""
    sizes = np.full(GRID_SIDE, n // GRID_SIDE)
    rank = max(1, int(cost * n * n / (2 * GRID_SIDE * sizes.sum())))
    tiles, dense = {}, np.zeros((sizes.sum(), sizes.sum()))
    for i in range(GRID_SIDE):
        for j in range(GRID_SIDE):
            U, V = rng.standard_normal((2, sizes[0], rank))
            tiles[i, j] = U, V
            rows = slice(i * sizes[0], (i + 1) * sizes[0])
            dense[rows, j * sizes[0] : (j + 1) * sizes[0]] = U @ V.T
    return beside_dense(structmat.BlockLowRank(tiles, row_sizes=sizes, col_sizes=sizes), dense)


def random_low_rank(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw two factors of the rank that the cost allows."""
    U, V = rng.standard_normal((2, n, max(1, int(cost * n / 2))))
    return beside_dense(structmat.LowRank(U, V), U @ V.T)


def random_monarch(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw the largest power of two of blocks that are no wider than tall."""
    k = 2 ** int(np.log2(1 / cost))
    p, q = n // k, max(1, int(cost * n / 2))
    L, R = rng.standard_normal((k, p, q)), rng.standard_normal((k, q, p))
    return beside_dense(structmat.Monarch(L, R), dense_monarch(L, R))


def dense_monarch(L: NDArray, R: NDArray) -> NDArray[np.float64]:
    """Product of the two factors written out, entry by entry as the definition has them."""
    (l, s, r), (k, q, p) = L.shape, R.shape
    left, right = np.zeros((l * s, l * r)), np.zeros((k * q, k * p))
    for j in range(l):
        left[j::l, j::l] = L[j]
    for c in range(k):
        right[c * q : (c + 1) * q, c * p : (c + 1) * p] = R[c]
    return left @ right
