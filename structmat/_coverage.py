"""Coverage of a matrix by its blocks, pixel by pixel: numbers behind the pictures."""

import math

import numpy as np

from structmat import _array
from structmat.intervals import IntArray, Runs, coarse_runs, cover_count, offsets
from structmat.matrices import (
    GBLR,
    Adjoint,
    BlockLowRank,
    BlockSparse,
    Dense,
    Diagonal,
    Identity,
    LowRank,
    Monarch,
    Permutation,
    Product,
    Scaled,
    Sum,
)
from structmat.matrix import StructuredMatrix


def coverage(A: StructuredMatrix, pixels: int, *, most_entries: float = math.inf) -> np.ndarray:
    """Number of rank-one blocks that touch each pixel, for at most `pixels` of them a side.

    A diagonal matrix or a permutation has a block on each of its entries. Other kinds without
    blocks count their nonzero entries, or nothing if the matrix has more than `most_entries`
    entries.
    """
    if 0 in A.shape:
        return np.zeros((1, 1), np.int64)
    m, n = A.shape
    return _coverage(A, (-(-m // pixels), -(-n // pixels)), most_entries)


def _coverage(A: StructuredMatrix, steps: tuple[int, int], most: float) -> np.ndarray:
    """Number of rank-one blocks that touch each pixel of `steps` rows and columns."""
    if isinstance(A, Sum):
        return np.sum([_coverage(term, steps, most) for term in A.children], axis=0)
    if isinstance(A, Scaled):
        return _coverage(A.children[0], steps, most)
    if isinstance(A, Adjoint):
        return _coverage(A.children[0], steps[::-1], most).T
    if _is_reordered(A) and A.shape[0] <= most:
        rows = _coverage(A.children[1], (1, steps[1]), most)[_array.to_numpy(A.children[0].p)]
        return np.maximum.reduceat(rows, np.arange(0, A.shape[0], steps[0]), axis=0)
    if isinstance(A, Monarch):
        return _coverage(A.to_kind("gblr"), steps, most)
    blocks = _blocks(A)
    pixels = -(-A.shape[0] // steps[0]), -(-A.shape[1] // steps[1])
    if blocks is None:
        return np.zeros(pixels, np.int64) if math.prod(A.shape) > most else _nonzero(A, steps)
    rows, cols, count = blocks
    touched = [
        coarse_runs(*runs, n, step)
        for runs, n, step in zip((rows, cols), A.shape, steps, strict=True)
    ]
    return cover_count(touched[0], touched[1], pixels, count)


def _is_reordered(A: StructuredMatrix) -> bool:
    """True for a permutation times one other matrix, as Monarch matrices convert."""
    return (
        isinstance(A, Product) and len(A.children) == 2 and isinstance(A.children[0], Permutation)
    )


def _blocks(A: StructuredMatrix) -> tuple[Runs, Runs, IntArray] | None:
    """Runs of rows and of columns, and the number of rank-one blocks on each pair of them."""
    if isinstance(A, GBLR):
        runs = (A.row_start, A.row_width), (A.col_start, A.col_width)
        return *runs, np.ones(A.num_blocks, np.int64)
    zero, (m, n) = np.zeros(1, np.int64), A.shape
    if isinstance(A, Identity | Diagonal | Permutation):
        at, one = np.arange(n, dtype=np.int64), np.ones(n, np.int64)
        moved = _array.to_numpy(A.p) if isinstance(A, Permutation) else at
        return (at, one), (moved, one), one
    if isinstance(A, LowRank | Dense):
        count = A.rank if isinstance(A, LowRank) else 1
        return (zero, zero + m), (zero, zero + n), np.full(1, count)
    if isinstance(A, BlockSparse):
        starts = [at * size for at, size in zip((A.rows, A.cols), A.block_shape, strict=True)]
        widths = [
            np.minimum(size, total - start)
            for start, size, total in zip(starts, A.block_shape, A.shape, strict=True)
        ]
        return (starts[0], widths[0]), (starts[1], widths[1]), np.ones(len(starts[0]), np.int64)
    if isinstance(A, BlockLowRank):
        i, j = A.places.T
        rows = (offsets(A.row_sizes)[:-1][i], A.row_sizes[i])
        cols = (offsets(A.col_sizes)[:-1][j], A.col_sizes[j])
        return rows, cols, np.where(A.ranks < 0, 1, A.ranks)
    return None


def _nonzero(A: StructuredMatrix, steps: tuple[int, int]) -> np.ndarray:
    """Mask of the pixels with a nonzero entry, for kinds without blocks."""
    found = (_array.to_numpy(A.to_dense()) != 0).astype(np.int64)
    for axis, (n, step) in enumerate(zip(A.shape, steps, strict=True)):
        found = np.maximum.reduceat(found, np.arange(0, n, step), axis=axis)
    return found
