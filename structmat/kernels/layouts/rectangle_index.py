"""Places of entries in the packed contents of rectangles: single ones, mirror images and parts."""

from typing import NamedTuple

import numpy as np

from structmat.intervals import IntArray, ramps
from structmat.kernels.layouts.rectangles import Rectangles, triangle_index


class Taken(NamedTuple):
    """Places of dense entries, and masks of those to conjugate and of those to take as real."""

    at: IntArray
    conjugated: np.ndarray
    real: np.ndarray


class CutRectangles(NamedTuple):
    """Rectangles cut to some rows and columns, and the places of their contents."""

    table: IntArray
    #: Orders of the rows and of the columns in which the table has them.
    orders: tuple[IntArray, IntArray]
    u: IntArray
    v: IntArray
    dense: IntArray


def turned_entries(of: Rectangles) -> IntArray:
    """Places of the dense entries in the order of the adjoint matrix's."""
    number, i, j = _grid(of.width, of.height, np.flatnonzero(of.is_dense))
    return of.begins[2][number] + j * of.width[number] + i


def unfolded_entries(of: Rectangles) -> Taken:
    """Dense entries of a symmetric matrix with triangles filled in, then those of mirror images."""
    number, i, j = _grid(of.height, of.width, np.flatnonzero(of.is_dense))
    other, k, l = _grid(of.width, of.height, of.mirrored[of.is_dense[of.mirrored]])
    triangular = of.is_triangular[number]
    stored = np.where(triangular, triangle_index(i, j), i * of.width[number] + j)
    at = np.concatenate([stored, l * of.width[other] + k])
    mirrored = np.arange(at.size) >= number.size
    return Taken(
        at + of.begins[2][np.append(number, other)],
        mirrored | np.append(triangular & (j > i), mirrored[number.size :]),
        np.append(triangular & (i == j), ~mirrored[number.size :]),
    )


def dense_entries(of: Rectangles, number: IntArray, i: IntArray, j: IntArray, none: int) -> Taken:
    """Entries (i, j) of the dense rectangles of these numbers, and `none` for others."""
    inside = (number >= 0) & np.append(of.is_dense, False)[number]
    k = np.where(inside, number, 0)
    if not len(of.table):
        return Taken(np.full(number.size, none), inside, inside)
    i, j, triangular = i - of.table[k, 0], j - of.table[k, 2], inside & of.is_triangular[k]
    stored = np.where(triangular, triangle_index(i, j), i * of.width[k] + j)
    at = np.where(inside, of.begins[2][k] + stored, none)
    return Taken(at, triangular & (j > i), triangular & (i == j))


def factor_entries(
    of: Rectangles, number: IntArray, i: IntArray, j: IntArray, none: tuple[int, int]
) -> tuple[IntArray, IntArray]:
    """Rows of U and V for entries (i, j) of these rectangles, (k, r); `none` beside their ranks."""
    rank = np.append(of.rank, 0)[number]
    l = np.arange(int(rank.max(initial=0)))
    inside, k = l < rank[:, None], np.where(rank > 0, number, 0)[:, None]
    if not l.size:
        return inside.astype(np.int64), inside.astype(np.int64)
    found = []
    for side, at in enumerate((i, j)):
        start, size = of.table[k, 2 * side], of.table[k, 2 * side + 1]
        place = of.begins[side][k] + l * size + at[:, None] - start
        found.append(np.where(inside, place, none[side]))
    return found[0], found[1]


def rank_one_runs(of: Rectangles) -> tuple[tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
    """Runs of rows and columns of rank-one blocks: one a rank, one a row of a dense rectangle."""
    low, dense = np.flatnonzero(~of.is_dense), np.flatnonzero(of.is_dense)
    which = np.repeat(low, of.rank[low])
    lines = np.repeat(dense, of.height[dense])
    top, height, left, width, _ = of.table.T
    row = top[lines] + ramps(height[dense])
    return (
        (np.concatenate([top[which], row]), np.append(height[which], np.ones_like(row))),
        (np.append(left[which], left[lines]), np.append(width[which], width[lines])),
    )


def cut(of: Rectangles, rows: IntArray, cols: IntArray) -> CutRectangles:
    """Cut rectangles to different rows and columns, given in any order."""
    orders, kept, sizes, parts = [], [], [], []
    for at, start, size in ((rows, 0, 1), (cols, 2, 3)):
        order = np.argsort(at)
        edges = of.table[:, start], of.table[:, start] + of.table[:, size]
        first, end = (np.searchsorted(at[order], edge) for edge in edges)
        orders.append(order)
        kept.append(at[order])
        sizes.append(end - first)
        parts += [first, end - first]
    left = np.flatnonzero((sizes[0] > 0) & (sizes[1] > 0))
    table = np.stack([part[left] for part in (*parts, of.table[:, 4])], axis=1)
    new = Rectangles(table, (rows.size, cols.size), of.symmetric)
    u, v = (_cut_factor(of, new, left, side, kept[side]) for side in (0, 1))
    return CutRectangles(table, (orders[0], orders[1]), u, v, _cut_entries(of, new, left, kept))


def _cut_factor(
    of: Rectangles, new: Rectangles, left: IntArray, side: int, kept: IntArray
) -> IntArray:
    """Places of a factor's entries on the kept rows, rank by rank."""
    start, size = new.table[:, 2 * side], new.table[:, 2 * side + 1]
    line = np.repeat(np.arange(left.size), new.rank)
    number = np.repeat(line, size[line])
    old = left[number]
    inside = kept[start[number] + ramps(size[line])] - of.table[old, 2 * side]
    rank = np.repeat(ramps(new.rank), size[line])
    return of.begins[side][old] + rank * of.table[old, 2 * side + 1] + inside


def _cut_entries(of: Rectangles, new: Rectangles, left: IntArray, kept: list[IntArray]) -> IntArray:
    """Places of the kept dense entries."""
    dense = np.flatnonzero(new.is_dense)
    half = new.is_triangular[dense]
    grids = _grid(new.height, new.width, dense[~half]), _triangles(new.height, dense[half])
    number, i, j = (np.concatenate(pair) for pair in zip(*grids, strict=True))
    order = np.argsort(number, kind="stable")
    number, i, j = number[order], i[order], j[order]
    i, j = kept[0][new.table[number, 0] + i], kept[1][new.table[number, 2] + j]
    return dense_entries(of, left[number], i, j, 0).at


def _grid(
    height: IntArray, width: IntArray, numbers: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Number, row and column of all entries of some rectangles, by rows."""
    area = (height * width)[numbers]
    which = np.repeat(numbers, area)
    i, j = np.divmod(ramps(area), width[which])
    return which, i, j


def _triangles(size: IntArray, numbers: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """The same for lower triangles."""
    row = ramps(size[numbers])
    which = np.repeat(numbers, size[numbers])
    return np.repeat(which, row + 1), np.repeat(row, row + 1), ramps(row + 1)
