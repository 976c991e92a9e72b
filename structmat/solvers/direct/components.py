"""Connected components of a support: parts of a matrix that share no rows and no columns.

A matrix of several components is block diagonal between two orders. Its blocks are solved one by
one, those of one size together.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from structmat.errors import SolveError
from structmat.intervals import IntArray, offsets
from structmat.matrices import GBLR, BlockLowRank, BlockSparse, Diagonal, Sum
from structmat.matrices.diagonal import is_multiple
from structmat.matrices.grid import Grid
from structmat.matrix import StructuredMatrix


class Support(NamedTuple):
    """Rectangles that hold all entries of a matrix: a cyclic run of rows and one of columns."""

    row_start: IntArray
    row_width: IntArray
    col_start: IntArray
    col_width: IntArray


class Components(NamedTuple):
    """Rows and columns of a square matrix in the order of its components, and their sizes."""

    rows: IntArray
    cols: IntArray
    sizes: IntArray


def support_of(A: StructuredMatrix) -> Support | None:
    """Rectangles that hold the entries of a matrix; None for kinds without any.

    Examples
    --------
    >>> A = BlockSparse(np.ones((1, 2, 3)), [1], [0], shape=(4, 6))
    >>> [side.tolist() for side in support_of(A)]
    [[2], [2], [0], [3]]
    """
    if isinstance(A, GBLR):
        return Support(A.row_start, A.row_width, A.col_start, A.col_width)
    if isinstance(A, BlockSparse):
        (p, q), (m, n) = A.block_shape, A.shape
        i, j = A.rows * p, A.cols * q
        return Support(i, np.minimum(p, m - i), j, np.minimum(q, n - j))
    if isinstance(A, (BlockLowRank, Grid)):
        i, j = np.asarray(A.places, np.int64).reshape(-1, 2).T
        rows, cols = offsets(A.row_sizes), offsets(A.col_sizes)
        return Support(rows[i], A.row_sizes[i], cols[j], A.col_sizes[j])
    if isinstance(A, Sum):
        found = [support_of(term) for term in A.children]
        known = [support for support in found if support is not None]
        if len(known) == len(found):
            return Support(*map(np.concatenate, zip(*known, strict=True)))
    if isinstance(A, Diagonal) or is_multiple(A):
        at, one = np.arange(A.shape[0]), np.ones(A.shape[0], np.int64)
        return Support(at, one, at, one)
    return None


def components_of(A: StructuredMatrix, *, shifted: bool) -> Components | None:
    """Components of a square matrix, with its diagonal if it is shifted; None for other kinds.

    Raises
    ------
    SolveError
        If a component has more rows than columns, or less: the matrix is singular then.

    Examples
    --------
    >>> A = BlockSparse(np.ones((2, 1, 1)), [0, 1], [1, 0], shape=(2, 2))
    >>> rows, cols, sizes = components_of(A, shifted=False)
    >>> rows, cols, sizes
    (array([0, 1]), array([1, 0]), array([1, 1]))
    """
    support = support_of(A)
    n = A.shape[0]
    if support is None or not n:
        return None
    label = _labels(support, n, shifted)
    rows, cols = label[:n], label[n:]
    counts = [np.bincount(side, minlength=int(label.max()) + 1) for side in (rows, cols)]
    if not np.array_equal(counts[0], counts[1]):
        raise _uneven(A, (rows, cols), counts)
    by_size = np.argsort(counts[0], kind="stable")
    rank = np.argsort(by_size)
    row_order, col_order = (np.argsort(rank[side], kind="stable") for side in (rows, cols))
    return Components(row_order, col_order, counts[0][by_size])


def _uneven(A: StructuredMatrix, labels: Any, counts: Any) -> SolveError:
    """The error of a component with more rows than columns, or less: the smallest of them."""
    total = np.where(counts[0] != counts[1], counts[0] + counts[1], 2 * A.shape[0] + 1)
    found = int(total.argmin())
    axis = 0 if counts[0][found] else 1
    name, where = ("row", "column")[axis], int(np.flatnonzero(labels[axis] == found)[0])
    why = f"{name} {where} of the matrix is zero"
    if total[found] > 1:
        why = (
            f"{counts[0][found]} rows and {counts[1][found]} columns of the matrix meet each other "
            f"alone, {name} {where} among them"
        )
    return SolveError(
        f"{A!r} is singular: {why}; expected as many rows as columns that meet (give a shift, or "
        "structmat.lstsq for a least-squares solution)"
    )


def _labels(support: Support, n: int, shifted: bool) -> IntArray:
    """Component of each row, then of each column."""
    keep = np.flatnonzero((support.row_width > 0) & (support.col_width > 0))
    row_start, row_width, col_start, col_width = (side[keep] for side in support)
    # The entries of a run are linked to their neighbours, and the first ones of two runs.
    links = [
        (first + np.flatnonzero(_linked(start, width, n)), first)
        for first, start, width in ((0, row_start, row_width), (n, col_start, col_width))
    ]
    ends = [(at, np.where(at - first == n - 1, first, at + 1)) for at, first in links]
    ends.append((row_start, n + col_start))
    if shifted:
        ends.append((np.arange(n), n + np.arange(n)))
    one, other = (np.concatenate(side) for side in zip(*ends, strict=True))
    graph = coo_array((np.ones(one.size, np.int8), (one, other)), shape=(2 * n, 2 * n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _linked(start: IntArray, width: IntArray, n: int) -> np.ndarray:
    """True for each position on the circle that a run also follows to the next position."""
    steps = width - 1
    end = start + steps
    change = np.bincount(start, minlength=n + 1) - np.bincount(np.minimum(end, n), minlength=n + 1)
    change[0] += (end > n).sum()
    change -= np.bincount(np.where(end > n, end - n, n), minlength=n + 1)
    change[n] = 0
    return np.cumsum(change[:n]) > 0
