"""Coverage of a matrix by its blocks, pixel by pixel: numbers behind the pictures."""

import math

import numpy as np

from structmat import _array
from structmat.intervals import offsets
from structmat.matrices import (
    GBLR,
    Adjoint,
    BlockLowRank,
    BlockSparse,
    Dense,
    LowRank,
    Monarch,
    Permutation,
    Product,
    Scaled,
    Sum,
)
from structmat.matrix import StructuredMatrix

#: Number of blocks that are counted at once.
_BLOCKS = 4096
_Runs = tuple[np.ndarray, np.ndarray]


def coverage(A: StructuredMatrix, pixels: int, *, most_entries: float = math.inf) -> np.ndarray:
    """Number of rank-one blocks that touch each pixel, for at most `pixels` of them a side.

    Kinds without blocks count their nonzero entries, or nothing if the matrix has more than
    `most_entries` of them.
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
    total = np.zeros([-(-n // step) for n, step in zip(A.shape, steps, strict=True)])
    if blocks is None:
        return total.astype(np.int64) if math.prod(A.shape) > most else _nonzero(A, steps)
    rows, cols, count = blocks
    for begin in range(0, len(count), _BLOCKS):
        some = slice(begin, begin + _BLOCKS)
        touched = [
            _touched(start[some], width[some], n, step).astype(np.float32)
            for (start, width), n, step in zip((rows, cols), A.shape, steps, strict=True)
        ]
        total += (touched[0] * count[some, None]).T @ touched[1]
    return np.rint(total).astype(np.int64)


def _is_reordered(A: StructuredMatrix) -> bool:
    """True for a permutation times one other matrix, as Monarch matrices convert."""
    return (
        isinstance(A, Product) and len(A.children) == 2 and isinstance(A.children[0], Permutation)
    )


def _blocks(A: StructuredMatrix) -> tuple[_Runs, _Runs, np.ndarray] | None:
    """Runs of rows and of columns, and the number of rank-one blocks on each pair of them."""
    if isinstance(A, GBLR):
        runs = (A.row_start, A.row_width), (A.col_start, A.col_width)
        return *runs, np.ones(A.num_blocks, np.float32)
    zero, (m, n) = np.zeros(1, np.int64), A.shape
    if isinstance(A, LowRank | Dense):
        count = A.rank if isinstance(A, LowRank) else 1
        return (zero, zero + m), (zero, zero + n), np.full(1, count, np.float32)
    if isinstance(A, BlockSparse):
        starts = [at * size for at, size in zip((A.rows, A.cols), A.block_shape, strict=True)]
        widths = [
            np.minimum(size, total - start)
            for start, size, total in zip(starts, A.block_shape, A.shape, strict=True)
        ]
        return (starts[0], widths[0]), (starts[1], widths[1]), np.ones(len(starts[0]), np.float32)
    if isinstance(A, BlockLowRank):
        i, j = A.places.T
        rows = (offsets(A.row_sizes)[:-1][i], A.row_sizes[i])
        cols = (offsets(A.col_sizes)[:-1][j], A.col_sizes[j])
        return rows, cols, np.where(A.ranks < 0, 1, A.ranks).astype(np.float32)
    return None


def _touched(start: np.ndarray, width: np.ndarray, n: int, step: int) -> np.ndarray:
    """Mask of the pixels of `step` positions that each run touches: shape (K, pixels)."""
    first = np.arange(0, n, step)
    covered = (first - start[:, None]) % max(n, 1) < width[:, None]
    begins = (start[:, None] >= first) & (start[:, None] < first + step) & (width[:, None] > 0)
    return covered | begins


def _nonzero(A: StructuredMatrix, steps: tuple[int, int]) -> np.ndarray:
    """Mask of the pixels with a nonzero entry, for kinds without blocks."""
    found = (_array.to_numpy(A.to_dense()) != 0).astype(np.int64)
    for axis, (n, step) in enumerate(zip(A.shape, steps, strict=True)):
        found = np.maximum.reduceat(found, np.arange(0, n, step), axis=axis)
    return found
