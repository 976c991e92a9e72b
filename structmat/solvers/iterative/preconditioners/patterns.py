"""Rows near each other: by the points of a matrix, or by its entries.

Where there are no points, a few rows serve as marks. The distance of row i from mark j is that of
the vectors whose inner products are the entries, sqrt(a_ii + a_jj - 2 |a_ij|): for the kernel of a
distance it grows with the distance. Distances from all marks, reduced to a few coordinates, then
take the place of points.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import to_numpy
from structmat.intervals import IntArray
from structmat.matrices.hierarchical import Hierarchical
from structmat.matrices.lazy import split_orders
from structmat.solvers.iterative.preconditioners.blocks import points_of
from structmat.solvers.iterative.preconditioners.neighbours import (
    coarse_to_fine,
    earlier_neighbours,
)
from structmat.sources.tree import kd_tree

#: Rows that serve as marks, and coordinates by them.
MARKS, COORDINATES = 128, 8
#: Most entries that are taken at once.
_AT_ONCE = 2**22


def has_points(A: Any) -> bool:
    """Tell whether a matrix, or a term of it, has points of its rows."""
    return points_of(A) is not None


def rows_together(A: Any) -> IntArray:
    """An order of rows in which neighbours belong together."""
    points = points_of(A)
    if points is not None:
        return kd_tree(points, 1).order
    left, inner, _ = split_orders(A)
    if left is not None:
        return to_numpy(left._inverse)[rows_together(inner)]
    if isinstance(A, Hierarchical):
        return np.asarray(A.row_order)
    return np.arange(A.shape[0])


def neighbours_by_points(A: Any, count: int) -> IntArray:
    """The nearest earlier points of each row, as `earlier_neighbours`; rows lie together."""
    along = rows_together(A)
    order = along[coarse_to_fine(along.size)]
    points = points_of(A)
    assert points is not None
    near = earlier_neighbours(points, order, count)
    # Rows that lie together are built together.
    place = np.empty_like(along)
    place[along] = np.arange(along.size)
    return near[np.argsort(place[order])]


def neighbours_by_entries(A: Any, count: int) -> IntArray:
    """The earlier rows of the largest entries, among those that marks or the order show near."""
    n, along = A.shape[0], rows_together(A)
    positions = np.empty((n, 1))
    positions[along, 0] = np.arange(n)
    order = along[coarse_to_fine(n)]
    near, other = (
        earlier_neighbours(points, order, count) for points in (_by_marks(A, order), positions)
    )
    size = np.minimum(np.arange(n), count)
    candidates = np.concatenate([near[:, :count], other[:, :count]], axis=1)
    # Rows that both have named count once; a row itself, and places without a row, do not.
    twice = (candidates[:, count:, None] == candidates[:, None, :count]).any(axis=2)
    candidates[:, count:][twice] = -1
    candidates[candidates == order[:, None]] = -1
    t, c = np.nonzero(candidates >= 0)
    weight = np.full(candidates.shape, -np.inf)
    weight[t, c] = np.abs(_entries(A, order[t], candidates[t, c]))
    kept = np.argsort(-weight, axis=1, kind="stable")[:, :count]
    chosen = np.full((n, count + 1), -1)
    chosen[:, :count] = np.where(
        np.arange(count) < size[:, None], np.take_along_axis(candidates, kept, axis=1), -1
    )
    chosen[np.arange(n), size] = order
    return chosen


def _by_marks(A: Any, order: IntArray) -> NDArray[np.float64]:
    """Coordinates of rows, (n, c), by their distances from the first rows of an order."""
    n, marks = order.size, order[:MARKS]
    size = np.abs(to_numpy(A.diagonal())).astype(np.float64)
    square = np.empty((n, marks.size))
    step = max(1, _AT_ONCE // marks.size)
    for first in range(0, n, step):
        rows = np.arange(first, min(first + step, n))
        found = _entries(A, np.repeat(rows, marks.size), np.tile(marks, rows.size))
        square[rows] = size[rows, None] + size[marks] - 2 * np.abs(found.reshape(rows.size, -1))
    distance = np.sqrt(np.maximum(square, 0.0))
    distance -= distance.mean(axis=0)
    _, vectors = np.linalg.eigh(distance.T @ distance)
    coordinates: NDArray[np.float64] = distance @ vectors[:, ::-1][:, :COORDINATES]
    return coordinates


def _entries(A: Any, rows: IntArray, cols: IntArray) -> NDArray:
    return to_numpy(A._entries_at(rows, cols))
