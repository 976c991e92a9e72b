"""A binary tree of halves of an axis, and the blocks of a matrix sorted into its tiles.

Every node halves its rows and columns. The blocks of a node off the diagonal are its two tiles;
those of a leaf are one dense block. A block that lies across an edge of the tree is cut there.
"""

from typing import NamedTuple

import numpy as np

from structmat.intervals import IntArray
from structmat.kernels.layouts.rectangles import Rectangles

#: Tiles of a node: rows of the second half, or of the first one; and a leaf's own block.
LOWER, UPPER, INSIDE = range(3)


class Halves(NamedTuple):
    """Nodes of the tree: each before those below it, which follow without gaps."""

    begin: IntArray
    #: First position of the second half; the end of a leaf.
    middle: IntArray
    end: IntArray
    #: Number of the second half; the first one is the next node. -1 for a leaf.
    second: IntArray
    #: Number of the first node that is not below it any more.
    last: IntArray
    #: Halvings above it.
    level: IntArray

    def rows(self, node: int) -> slice:
        """Positions of a node."""
        return slice(int(self.begin[node]), int(self.end[node]))

    def sides(self, node: int) -> tuple[int, int]:
        """Numbers of the two halves."""
        return node + 1, int(self.second[node])

    @property
    def leaves(self) -> IntArray:
        """Numbers of the nodes without halves, in order."""
        return np.flatnonzero(self.second < 0)

    @property
    def inner(self) -> IntArray:
        """Numbers of the other nodes."""
        return np.flatnonzero(self.second >= 0)


def halves(n: int, leaf: int, edges: IntArray) -> Halves:
    """Halve n positions down to `leaf`, at edges of blocks where some are near the middle."""
    rows: list[list[int]] = []

    def grown(a: int, b: int, level: int) -> int:
        me = len(rows)
        rows.append([a, b, b, -1, me + 1, level])
        if b - a > leaf:
            m = _middle(a, b, edges)
            grown(a, m, level + 1)
            second = grown(m, b, level + 1)
            rows[me][1], rows[me][3], rows[me][4] = m, second, len(rows)
        return me

    grown(0, n, 0)
    return Halves(*np.array(rows, np.int64).T)


def _middle(a: int, b: int, edges: IntArray) -> int:
    """The edge nearest to the middle of a to b, or the middle if half of the edges are far."""
    middle = (a + b) // 2
    at = int(np.searchsorted(edges, middle))
    near = [int(edge) for edge in edges[max(at - 1, 0) : at + 1]]
    best = min(near, key=lambda edge: abs(edge - middle), default=middle)
    return best if abs(best - middle) <= (b - a) // 4 else middle


class Pieces(NamedTuple):
    """Blocks, or parts of them, each inside one tile or one leaf of a tree."""

    #: Number of the block, and of the node; the tile it is of.
    block: IntArray
    node: IntArray
    tile: IntArray
    #: First row, its end, first column, its end, (b, 4).
    ends: IntArray


def sorted_pieces(of: Rectangles, tree: Halves) -> Pieces:
    """Cut the blocks of a square matrix at the edges of the tree, sorted by node and tile.

    Of a symmetric matrix, the pieces of a block on the diagonal are those of its lower triangle.
    """
    top, height, left, width, _ = of.table.T
    block = np.arange(len(of.table))
    ends = np.stack([top, top + height, left, left + width], axis=1)
    node = np.zeros(len(of.table), np.int64)
    done: list[tuple[IntArray, ...]] = []
    while block.size:
        low, high = np.minimum(ends[:, 0], ends[:, 2]), np.maximum(ends[:, 1], ends[:, 3])
        is_leaf, middle = tree.second[node] < 0, tree.middle[node]
        tile = np.where(is_leaf, INSIDE, -1)
        tile[~is_leaf & (ends[:, 0] >= middle) & (ends[:, 3] <= middle)] = LOWER
        tile[~is_leaf & (ends[:, 2] >= middle) & (ends[:, 1] <= middle)] = UPPER
        ready = tile >= 0
        done.append((block[ready], node[ready], tile[ready], ends[ready]))
        first, second = ~ready & (high <= middle), ~ready & (low >= middle)
        node = np.where(first, node + 1, np.where(second, tree.second[node], node))
        down = first | second
        cut = ~ready & ~down
        parts = [(block[down], node[down], ends[down])]
        parts += _quarters(of, block[cut], node[cut], ends[cut], middle[cut])
        block, node, ends = (np.concatenate(side) for side in zip(*parts, strict=True))
    none = np.zeros(0, np.int64)
    done.append((none, none, none, np.zeros((0, 4), np.int64)))
    block, node, tile, ends = (np.concatenate(side) for side in zip(*done, strict=True))
    order = np.lexsort((ends[:, 2], ends[:, 0], tile, node))
    return Pieces(block[order], node[order], tile[order], ends[order])


def _quarters(
    of: Rectangles, block: IntArray, node: IntArray, ends: IntArray, middle: IntArray
) -> list[tuple[IntArray, IntArray, IntArray]]:
    """Parts of blocks on both sides of a middle."""
    found = []
    for i in (0, 1):
        for j in (0, 1):
            part = ends.copy()
            for side, half in ((0, i), (2, j)):
                if half == 0:
                    part[:, side + 1] = np.minimum(part[:, side + 1], middle)
                else:
                    part[:, side] = np.maximum(part[:, side], middle)
            kept = (part[:, 1] > part[:, 0]) & (part[:, 3] > part[:, 2])
            if i < j:
                kept &= ~of.is_triangular[block]
            found.append((block[kept], node[kept], part[kept]))
    return found
