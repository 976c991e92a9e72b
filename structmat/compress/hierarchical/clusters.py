"""Clusters of rows and of columns, and the pairs of them that are far from each other.

Two clusters are far by strong admissibility where the larger diameter of their boxes is at most
`ETA` times the distance between them; by weak admissibility where they differ (Hackbusch,
Hierarchical Matrices, 2015, chapters 5 and 9).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray
from structmat.sources.tree import Tree, kd_tree

#: Most points of a leaf, for strong and for weak admissibility.
STRONG_LEAF, WEAK_LEAF = 32, 64
ETA = 3.0


class Pairs(NamedTuple):
    """Rectangles of the ordered matrix: (row start, row end, column start, column end) each.

    The far ones are to be of low rank. Of a symmetric matrix they are those of the lower
    triangle.
    """

    row_order: IntArray
    col_order: IntArray
    far: IntArray
    near: IntArray
    symmetric: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and of columns."""
        return self.row_order.size, self.col_order.size

    @property
    def weak(self) -> bool:
        """True by weak admissibility: nothing but blocks on the diagonal is near."""
        return bool((self.near[:, 0] == self.near[:, 2]).all())

    @property
    def weight(self) -> int:
        """Number of far rectangles that each stands for."""
        return 2 if self.symmetric else 1

    @property
    def sides(self) -> IntArray:
        """Rows and columns of each far rectangle: the cost of one rank."""
        return sides_of(self.far)

    @property
    def near_cost(self) -> int:
        """Multiplications of the near rectangles with one vector."""
        a, b, c, d = self.near.T
        return int(((b - a) * (d - c) * np.where(self.symmetric & (a != c), 2, 1)).sum())

    def without_near(self) -> "Pairs":
        """The same rectangles, all of them far; mirror images are written out."""
        every = np.concatenate([self.far, self.near])
        if self.symmetric:
            off = every[every[:, 0] != every[:, 2]]
            every = np.concatenate([every, off[:, [2, 3, 0, 1]]])
        return self._replace(far=_in_rows(every), near=every[:0], symmetric=False)


def sides_of(pairs: IntArray) -> IntArray:
    """Rows and columns of rectangles together."""
    return pairs[:, 1] - pairs[:, 0] + pairs[:, 3] - pairs[:, 2]


def strong_pairs(
    rows: NDArray[np.float64], cols: NDArray[np.float64] | None, *, symmetric: bool
) -> Pairs:
    """Pairs of clusters of points (m, d) and (n, d) by strong admissibility.

    The columns have the points of the rows where `cols` is None.
    """
    one = kd_tree(rows, STRONG_LEAF)
    two = one if cols is None else kd_tree(cols, STRONG_LEAF)
    none = np.zeros(0, np.int64)
    far, near = [(none, none)], [(none, none)]
    s = t = np.zeros(1 if len(rows) and (cols is None or len(cols)) else 0, np.int64)
    while s.size:
        is_far = _are_far(one, s, two, t)
        far.append((s[is_far], t[is_far]))
        s, t = s[~is_far], t[~is_far]
        leaves = one.children[s, 0] < 0, two.children[t, 0] < 0
        ends = leaves[0] & leaves[1]
        near.append((s[ends], t[ends]))
        s, t = _halved(one, s[~ends], two, t[~ends], symmetric)
    return _as_pairs(one, two, far, near, symmetric)


def weak_pairs(points: NDArray[np.float64], *, symmetric: bool) -> Pairs:
    """Pairs of halves, at all levels of the tree of points (n, d)."""
    tree = kd_tree(points, WEAK_LEAF)
    inner = np.flatnonzero(tree.children[:, 0] >= 0)
    leaf = np.flatnonzero((tree.children[:, 0] < 0) & (tree.end > tree.begin))
    left, right = tree.children[inner].T
    far = [(right, left)] if symmetric else [(right, left), (left, right)]
    return _as_pairs(tree, tree, far, [(leaf, leaf)], symmetric)


def _are_far(one: Tree, s: IntArray, two: Tree, t: IntArray) -> np.ndarray:
    gap = np.maximum(one.low[s] - two.high[t], two.low[t] - one.high[s]).clip(0)
    sizes = [((tree.high[at] - tree.low[at]) ** 2).sum(axis=1) for tree, at in ((one, s), (two, t))]
    distance = (gap**2).sum(axis=1)
    return (distance > 0) & (np.maximum(*sizes) <= ETA**2 * distance)


def _halved(
    one: Tree, s: IntArray, two: Tree, t: IntArray, symmetric: bool
) -> tuple[IntArray, IntArray]:
    """Pairs of the halves of both clusters, or of the one that is no leaf."""
    found = []
    for i in (0, 1):
        for j in (0, 1):
            kids = one.children[s, i], two.children[t, j]
            # A leaf stays as it is, once.
            kept = ((kids[0] >= 0) | (i == 0)) & ((kids[1] >= 0) | (j == 0))
            p, q = np.where(kids[0] >= 0, kids[0], s), np.where(kids[1] >= 0, kids[1], t)
            if symmetric:
                kept &= (s != t) | (i >= j)
            found.append((p[kept], q[kept]))
    p, q = (np.concatenate(part) for part in zip(*found, strict=True))
    return p, q


def _as_pairs(
    one: Tree,
    two: Tree,
    far: list[tuple[IntArray, IntArray]],
    near: list[tuple[IntArray, IntArray]],
    symmetric: bool,
) -> Pairs:
    sides = []
    for pairs in (far, near):
        s, t = (np.concatenate(part) for part in zip(*pairs, strict=True))
        table = np.stack([one.begin[s], one.end[s], two.begin[t], two.end[t]], axis=1)
        if symmetric:
            above = table[:, 0] < table[:, 2]
            table[above] = table[above][:, [2, 3, 0, 1]]
        sides.append(_in_rows(table))
    rows = _in_leaves(one)
    cols = rows if two is one else _in_leaves(two)
    return Pairs(rows, cols, sides[0], sides[1], symmetric)


def _in_rows(table: IntArray) -> IntArray:
    """Rectangles in the order of rows: products then go through the result once."""
    return np.ascontiguousarray(table[np.lexsort((table[:, 2], table[:, 0]))])


def _in_leaves(tree: Tree) -> IntArray:
    """The order of a tree whose leaves keep the order of the input.

    Points that have been sorted by such a tree stay as they are.
    """
    leaves = (tree.children[:, 0] < 0) & (tree.end > tree.begin)
    leaf = np.searchsorted(np.sort(tree.begin[leaves]), np.arange(tree.order.size), side="right")
    return tree.order[np.lexsort((tree.order, leaf))]
