"""Random structures of a given cost, each beside a dense matrix built independently."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import bsr_array, csr_array

import structmat
from structmat.intervals import positions
from structmat.kernels.layout import run_layout

Product = Callable[[NDArray], NDArray]
BLOCK = 32
GRID = 8


@dataclass(frozen=True)
class Built:
    """A structure, the same matrix dense, and other ways to the same product.

    `rivals` maps a name to a function of a dtype that returns the product; all of them
    are in double precision or in single, as the dtype says.
    """

    matrix: structmat.StructuredMatrix
    dense: NDArray[np.float64]
    source: str = "random"
    rivals: dict[str, Callable[[Any], Product]] = field(default_factory=dict)
    fill: float | None = None

    @cached_property
    def size(self) -> float:
        """Frobenius norm."""
        return float(np.linalg.norm(self.dense))

    def product_error(self, y: NDArray, expected: NDArray, x: NDArray) -> float:
        """Error of y = A x in units of ||A||_F ||x||, where rounding stays below n eps."""
        y, x = y.reshape(len(y), -1), x.reshape(len(x), -1)
        difference = float(np.linalg.norm(y - expected[:, : y.shape[1]]))
        return difference / (self.size * float(np.linalg.norm(x.astype(np.float64))))


def all_random(n: int, cost: float, rng: np.random.Generator) -> list[Built]:
    """One n x n matrix of every structure, of at most this cost in units of n^2."""
    makers = (random_gblr, random_block_sparse, random_block_low_rank, random_low_rank)
    return [*(make(n, cost, rng) for make in makers), random_monarch(n, cost, rng)]


def random_gblr(n: int, cost: float, rng: np.random.Generator) -> Built:
    """n rank-one blocks anywhere on the circle, widths uniform around cost n / 2."""
    widths = rng.uniform(0, 2, (2, n))
    widths *= cost * n * n / widths.sum()
    row_width, col_width = np.minimum(widths, n).astype(np.int64)
    row_start, col_start = rng.integers(0, n, (2, n))
    u = rng.standard_normal(int(row_width.sum()))
    v = rng.standard_normal(int(col_width.sum()))
    matrix = structmat.GBLR(row_start, row_width, u, col_start, col_width, v, shape=(n, n))
    return describe_gblr(matrix, "random")


def describe_gblr(matrix: structmat.GBLR, source: str) -> Built:
    """A GBLR matrix beside its dense form, its CSR pair and the fill of its panels."""
    m, n = matrix.shape
    rows, cols = full_factors(matrix)

    def csr_pair(dtype: Any) -> Product:
        left, right = csr_array(rows.T.astype(dtype)), csr_array(cols.astype(dtype))
        return lambda x: left @ (right @ x)

    cells = 0
    for start, width, size in (
        (matrix.row_start, matrix.row_width, m),
        (matrix.col_start, matrix.col_width, n),
    ):
        cells += sum(entries.size for entries in run_layout(start, width, size).entries)
    fill = matrix.cost / cells if cells else None
    return Built(matrix, rows.T @ cols, source, {"csr_pair": csr_pair}, fill)


def full_factors(matrix: structmat.GBLR) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Contents at full length, zero off the runs, (K, m) and (K, n): A = rows^T cols."""
    m, n = matrix.shape
    rows = _spread(matrix.row_start, matrix.row_width, np.asarray(matrix.u, np.float64), m)
    return rows, _spread(matrix.col_start, matrix.col_width, np.asarray(matrix.v, np.float64), n)


def _spread(start: NDArray, width: NDArray, contents: NDArray, n: int) -> NDArray[np.float64]:
    full = np.zeros((len(start), n))
    full[np.repeat(np.arange(len(start)), width), positions(start, width, n)] = contents
    return full


def random_block_sparse(n: int, cost: float, rng: np.random.Generator) -> Built:
    """Blocks of 32 x 32 at random places, against scipy's CSR and BSR."""
    size = min(BLOCK, n)
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
    return Built(matrix, dense, rivals={"csr": csr, "bsr": bsr})


def random_block_low_rank(n: int, cost: float, rng: np.random.Generator) -> Built:
    """A grid of 8 x 8 tiles, all of the rank that the cost allows."""
    sizes = np.full(GRID, n // GRID)
    rank = max(1, int(cost * n * n / (2 * GRID * sizes.sum())))
    tiles, dense = {}, np.zeros((sizes.sum(), sizes.sum()))
    for i in range(GRID):
        for j in range(GRID):
            U, V = rng.standard_normal((2, sizes[0], rank))
            tiles[i, j] = U, V
            rows = slice(i * sizes[0], (i + 1) * sizes[0])
            dense[rows, j * sizes[0] : (j + 1) * sizes[0]] = U @ V.T
    return Built(structmat.BlockLowRank(tiles, row_sizes=sizes, col_sizes=sizes), dense)


def random_low_rank(n: int, cost: float, rng: np.random.Generator) -> Built:
    """The rank that the cost allows."""
    U, V = rng.standard_normal((2, n, max(1, int(cost * n / 2))))
    return Built(structmat.LowRank(U, V), U @ V.T)


def random_monarch(n: int, cost: float, rng: np.random.Generator) -> Built:
    """As many blocks, a power of two, as leave them no wider than tall."""
    k = 2 ** int(np.log2(1 / cost))
    p, q = n // k, max(1, int(cost * n / 2))
    L, R = rng.standard_normal((k, p, q)), rng.standard_normal((k, q, p))
    return Built(structmat.Monarch(L, R), dense_monarch(L, R))


def dense_monarch(L: NDArray, R: NDArray) -> NDArray[np.float64]:
    """Product of the two factors written out, entry by entry as the definition has them."""
    (l, s, r), (k, q, p) = L.shape, R.shape
    left, right = np.zeros((l * s, l * r)), np.zeros((k * q, k * p))
    for j in range(l):
        left[j::l, j::l] = L[j]
    for c in range(k):
        right[c * q : (c + 1) * q, c * p : (c + 1) * p] = R[c]
    return left @ right
