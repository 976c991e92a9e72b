"""Coverage of a matrix by its blocks, pixel by pixel: numbers behind the pictures."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from structmat import _array
from structmat.intervals import IntArray, Runs, coarse_runs, cover_count, offsets, positions
from structmat.matrices import (
    GBLR,
    Adjoint,
    BlockLowRank,
    BlockSparse,
    Dense,
    Diagonal,
    HermitianLowRank,
    Hierarchical,
    Identity,
    LowRank,
    Mirrored,
    Monarch,
    Permutation,
    Scaled,
    Sum,
    in_orders,
    split_orders,
)
from structmat.matrix import StructuredMatrix


def coverage(A: StructuredMatrix, pixels: int, *, most_entries: float = math.inf) -> np.ndarray:
    """Number of rank-one blocks that touch each pixel, for at most `pixels` of them a side.

    A diagonal matrix or a permutation has a block on each of its entries. Other kinds without
    blocks count their nonzero entries, or nothing if the matrix has more than `most_entries`
    entries. A hierarchical matrix counts its blocks in its own orders of rows and columns.
    """
    if 0 in A.shape:
        return np.zeros((1, 1), np.int64)
    m, n = A.shape
    return _coverage(A, (-(-m // pixels), -(-n // pixels)), most_entries)


def _coverage(A: StructuredMatrix, steps: tuple[int, int], most: float) -> np.ndarray:
    """Number of rank-one blocks that touch each pixel of `steps` rows and columns."""
    left, inner, right = split_orders(A)
    if isinstance(inner, Sum):
        terms = (in_orders(left, term, right) for term in inner.children)
        return np.sum([_coverage(term, steps, most) for term in terms], axis=0)
    if isinstance(inner, Scaled):
        return _coverage(in_orders(left, inner.children[0], right), steps, most)
    if isinstance(inner, Adjoint):
        return _coverage(A.H, steps[::-1], most).T
    if isinstance(inner, Mirrored):
        halves = inner.children[0], inner.children[0].H
        return np.sum([_coverage(in_orders(left, T, right), steps, most) for T in halves], axis=0)
    if isinstance(inner, Monarch):
        return _coverage(in_orders(left, inner.to_kind("gblr"), right), steps, most)
    blocks = _blocks(inner)
    pixels = -(-A.shape[0] // steps[0]), -(-A.shape[1] // steps[1])
    if blocks is None:
        return np.zeros(pixels, np.int64) if math.prod(A.shape) > most else _nonzero(A, steps)
    *runs, count = blocks
    if inner is not A:
        orders = (None if left is None else left.H, right)
        return _reordered_count(runs, count, orders, A.shape, steps)
    touched = [
        coarse_runs(*side, n, step) for side, n, step in zip(runs, A.shape, steps, strict=True)
    ]
    return cover_count(touched[0], touched[1], pixels, count)


def _reordered_count(
    runs: Sequence[Runs],
    count: IntArray,
    orders: tuple[Permutation | None, Permutation | None],
    shape: tuple[int, int],
    steps: tuple[int, int],
) -> np.ndarray:
    """Coverage by blocks whose rows and columns go where the orders send them."""
    touched = []
    for (start, width), order, n, step in zip(runs, orders, shape, steps, strict=True):
        place = positions(start, width, n)
        place = place if order is None else _array.to_numpy(order.p)[place]
        block, size = np.repeat(np.arange(width.size), width), (width.size, -(-n // step))
        mask = csr_array((np.ones(place.size, np.int64), (block, place // step)), shape=size)
        mask.sum_duplicates()
        mask.data[:] = 1
        touched.append(mask)
    return np.asarray(((touched[0].T * count) @ touched[1]).toarray())


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
    if isinstance(A, LowRank | HermitianLowRank | Dense):
        count = 1 if isinstance(A, Dense) else A.rank
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
    if isinstance(A, Hierarchical):
        top, height, left, width, rank = A.rectangles.whole.T
        return (top, height), (left, width), np.where(rank < 0, 1, rank)
    return None


def _nonzero(A: StructuredMatrix, steps: tuple[int, int]) -> np.ndarray:
    """Mask of the pixels with a nonzero entry, for kinds without blocks."""
    found = (_array.to_numpy(A.to_dense()) != 0).astype(np.int64)
    for axis, (n, step) in enumerate(zip(A.shape, steps, strict=True)):
        found = np.maximum.reduceat(found, np.arange(0, n, step), axis=axis)
    return found
