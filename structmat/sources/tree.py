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
    order = np.arange(n)
    begin, end, children = [0], [n], [[-1, -1]]
    low, high = [np.zeros(d)], [np.zeros(d)]
    # Nodes are appended as their parents are halved, so this goes through all of them.
    for node, first in enumerate(begin):
        last = end[node]
        part = order[first:last]
        own = points[part]
        if len(part):
            low[node], high[node] = own.min(axis=0), own.max(axis=0)
        if len(part) <= max(leaf, 1) or d == 0:
            continue
        widest = int(np.argmax(high[node] - low[node]))
        order[first:last] = part[np.argsort(own[:, widest], kind="stable")]
        middle = (first + last) // 2
        children[node] = [len(begin), len(begin) + 1]
        for a, b in ((first, middle), (middle, last)):
            begin.append(a)
            end.append(b)
            children.append([-1, -1])
            low.append(np.zeros(d))
            high.append(np.zeros(d))
    return Tree(
        order,
        np.asarray(begin),
        np.asarray(end),
        np.asarray(children),
        np.asarray(low).reshape(len(begin), d),
        np.asarray(high).reshape(len(begin), d),
    )
