"""The k-d tree of points: halves of the widest axis, down to leaves of a few points."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray


class Tree(NamedTuple):
    """Clusters of points in the order of a k-d tree; the root is node 0.

    A node holds the points ``order[begin:end]``. Children come after their parent.
    """

    #: Position in the tree's order -> point, (n,).
    order: IntArray
    #: First point and end of each node, (N,).
    begin: IntArray
    end: IntArray
    #: The two children of each node, -1 for leaves, (N, 2).
    children: IntArray
    #: Smallest box around the points of each node, (N, d).
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def kd_tree(points: NDArray[np.float64], leaf: int) -> Tree:
    """Build the tree of points (n, d), whose leaves hold at most `leaf` points.

    A set is halved at the median of its widest axis; ties keep their order, so the result is
    deterministic. O(d n log n + n log² n) time.

    Examples
    --------
    >>> tree = kd_tree(np.array([[5.0], [1.0], [4.0], [0.0]]), 2)
    >>> tree.order, tree.begin, tree.end
    (array([3, 1, 2, 0]), array([0, 0, 2]), array([4, 2, 4]))
    """
    n, d = points.shape
    order, leaf = np.arange(n), max(leaf, 1)
    begin, end = np.zeros(1, np.int64), np.full(1, n)
    levels: list[tuple[NDArray, ...]] = []
    count = 0
    while begin.size:
        at, own = _gathered(points, order, begin, end)
        low = own.min(axis=1, initial=np.inf) if n else np.zeros((1, d))
        high = own.max(axis=1, initial=-np.inf) if n else np.zeros((1, d))
        split = np.flatnonzero((end - begin > leaf) & (d > 0))
        count += begin.size
        children = np.full((begin.size, 2), -1)
        children[split] = count + np.arange(2 * split.size).reshape(-1, 2)
        levels.append((begin, end, children, low, high))
        if split.size:
            _sort(order, at[split], own[split], (high - low)[split], (end - begin)[split])
        middle = (begin + end)[split] // 2
        begin, end = (
            np.stack(pair, axis=1).ravel()
            for pair in ((begin[split], middle), (middle, end[split]))
        )
    return Tree(order, *(np.concatenate(parts) for parts in zip(*levels, strict=True)))


def _gathered(
    points: NDArray[np.float64], order: IntArray, begin: IntArray, end: IntArray
) -> tuple[IntArray, NDArray[np.float64]]:
    """Positions of the points of the nodes of a level, (N, s), and the points, (N, s, d).

    Sizes in a level differ by one at most: a shorter node has its last point twice.
    """
    at = begin[:, None] + np.arange(int((end - begin).max(initial=0)))
    at = np.minimum(at, end[:, None] - 1)
    return at, points[order[at]]


def _sort(
    order: IntArray, at: IntArray, own: NDArray[np.float64], extent: NDArray, size: IntArray
) -> None:
    """Sort the points of each node along its widest axis, in place."""
    widest = extent.argmax(axis=1)
    keys = np.take_along_axis(own, widest[:, None, None], axis=2)[:, :, 0]
    inside = np.arange(at.shape[1]) < size[:, None]
    # The copy of the last point stays where it is.
    keys = np.where(inside, keys, np.inf)
    moved = np.take_along_axis(order[at], keys.argsort(axis=1, kind="stable"), axis=1)
    order[at[inside]] = moved[inside]
