"""GBLR matrices of a given cost: random, like initial layers, and like learned ones."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

import structmat
from benchmarks.micro.structures import Product, Subject
from structmat.intervals import offsets, positions

#: Number of places around which half of the starts of a learned structure gather.
PLACE_COUNT = 4


def random_gblr(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw n rank-one blocks anywhere on the circle, with widths uniform around cost n / 2."""
    row, col = (_scaled(rng.uniform(0, 2, n), cost * n * n / 2, n) for _ in range(2))
    return _filled(rng.integers(0, n, n), row, rng.integers(0, n, n), col, n, "random", rng)


def grid_gblr(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw a grid of equal tiles that covers the matrix, as layers begin: many aligned runs.

    A g by g grid of tiles of rank r costs 2 r g n; the rank is the least under which
    there are at most 4 n blocks.
    """
    side = max(1, int(min(8 / cost, cost * n / 2)))
    rank = max(1, int(cost * n / 2 / side))
    cuts = np.arange(side + 1) * n // side
    start, width = cuts[:-1], np.diff(cuts)
    row, col = (np.repeat(i.ravel(), rank) for i in np.indices((side, side)))
    return _filled(start[row], width[row], start[col], width[col], n, "grid", rng)


def uneven_gblr(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw widths from zero to the whole circle, crowded around a few places, as learning ends.

    Widths are log-normal less one threshold, as after the projection on a budget, so that
    a part of them is zero.
    """
    sides = []
    for _ in range(2):
        width = np.maximum(rng.lognormal(0, 1.25, n) - 0.3, 0)
        near = rng.integers(0, n, PLACE_COUNT)[rng.integers(0, PLACE_COUNT, n)] + rng.normal(
            0, n / 16, n
        )
        start = np.where(rng.random(n) < 0.5, near.astype(np.int64) % n, rng.integers(0, n, n))
        sides += [start, _scaled(width, cost * n * n / 2, n)]
    return _filled(*sides, n, "uneven", rng)


def _scaled(width: NDArray, total: float, n: int) -> NDArray[np.int64]:
    """Scale widths to at most this sum, none beyond the circle."""
    # Each round passes the excess of the widest on to the others, from below.
    for _ in range(50):
        width = np.minimum(width * (total / width.sum()), n)
    return width.astype(np.int64)


def _filled(
    row_start: NDArray,
    row_width: NDArray,
    col_start: NDArray,
    col_width: NDArray,
    n: int,
    source: str,
    rng: np.random.Generator,
) -> Subject:
    u, v = (rng.standard_normal(int(width.sum())) for width in (row_width, col_width))
    matrix = structmat.GBLR(row_start, row_width, u, col_start, col_width, v, shape=(n, n))
    return described(matrix, source)


def described(matrix: structmat.GBLR, source: str) -> Subject:
    """Describe a GBLR matrix; its CSR pair in double precision is the reference."""
    left, right = factors(matrix, "float64")
    squares = (left * left).sum(axis=0) * (right * right).sum(axis=1)
    rivals = {"csr_pair": lambda dtype: csr_pair(matrix, dtype)}
    return Subject(
        matrix, lambda x: left @ (right @ x), float(squares.sum() ** 0.5), source, rivals
    )


def factors(matrix: structmat.GBLR, dtype: Any) -> tuple[csr_array, csr_array]:
    """Build both factors in compressed rows, (m, K) and (K, n), from the runs alone."""
    m, n = matrix.shape
    made = []
    for start, width, contents, size in (
        (matrix.row_start, matrix.row_width, matrix.u, m),
        (matrix.col_start, matrix.col_width, matrix.v, n),
    ):
        places = positions(start, width, size), offsets(width)
        shape = (matrix.num_blocks, size)
        made.append(csr_array((np.asarray(contents, dtype), *places), shape=shape))
    return made[0].T.tocsr(), made[1]


def csr_pair(matrix: structmat.GBLR, dtype: Any) -> Product:
    """Product by both factors in compressed rows."""
    left, right = factors(matrix, dtype)
    return lambda x: left @ (right @ x)
