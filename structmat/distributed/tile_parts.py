"""Parts of block low rank matrices, and the whole matrix of parts of any kind."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from structmat.distributed.part import Part, joined
from structmat.intervals import IntArray, offsets
from structmat.matrices import BlockLowRank, Permutation
from structmat.matrices.orders import in_orders
from structmat.matrix import StructuredMatrix


def tiles_on_hull(A: BlockLowRank) -> Part:
    """Tiles of the ordered matrix as a part, on the rows and columns that hold them.

    Examples
    --------
    >>> A = BlockLowRank({(1, 0): np.ones((2, 1))}, row_sizes=[3, 2, 2], col_sizes=[1, 4])
    >>> part = tiles_on_hull(A)
    >>> part.rows, part.cols, part.matrix.shape
    ((3, 5), (0, 1), (2, 1))
    """
    sides, ranges = (A.row_sizes, A.col_sizes), []
    first, last = A.places.min(axis=0), A.places.max(axis=0) + 1
    for side, a, b in zip(sides, first, last, strict=True):
        begin = offsets(side)
        ranges.append((int(begin[a]), int(begin[b])))
    static = {
        "places": A.places - first, "ranks": A.ranks,
        "row_sizes": sides[0][first[0] : last[0]], "col_sizes": sides[1][first[1] : last[1]],
    }  # fmt: skip
    contents = {name: getattr(A, name) for name in A.data_names}
    return Part(ranges[0], ranges[1], BlockLowRank._build(contents, (), static))


def whole(
    parts: Sequence[Part], shape: tuple[int, int], row_order: IntArray, col_order: IntArray
) -> StructuredMatrix:
    """The matrix of some parts, between orders, on this machine."""
    if parts[0].matrix.kind != BlockLowRank.kind:
        return joined(parts, shape, row_order, col_order)
    ordered = _joined_tiles(parts, shape)
    left, right = (
        None if np.array_equal(order, np.arange(order.size)) else Permutation(order)
        for order in (row_order, col_order)
    )
    return in_orders(None if left is None else left.H, ordered, right)


def _joined_tiles(parts: Sequence[Part], shape: tuple[int, int]) -> BlockLowRank:
    """The block low rank matrix of some parts, which share no tile but those of rank 0."""
    edges = [
        np.unique(
            np.concatenate(
                [[0, shape[axis]], *(part[axis][0] + offsets(_sizes(part, axis)) for part in parts)]
            )
        )
        for axis in (0, 1)
    ]
    tiles: dict[tuple[int, int], Any] = {}
    for part in parts:
        i, j = (
            np.searchsorted(edges[axis], part[axis][0] + offsets(_sizes(part, axis)))
            for axis in (0, 1)
        )
        for (a, b), tile in part.matrix.tiles.items():
            place = int(i[a]), int(j[b])
            is_zero = isinstance(tile, tuple) and not tile[0].shape[1]
            tiles[place] = tiles.get(place, tile) if is_zero else tile
    return BlockLowRank(tiles, row_sizes=np.diff(edges[0]), col_sizes=np.diff(edges[1]))


def _sizes(part: Part, axis: int) -> IntArray:
    """Heights of the tiles of a part, or widths."""
    return part.matrix.row_sizes if axis == 0 else part.matrix.col_sizes
