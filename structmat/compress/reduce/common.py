"""Rectangles of several matrices, brought onto the rectangles of one table."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.compress.reduce.boxes import Boxes
from structmat.intervals import IntArray, offsets
from structmat.kernels.layouts.rectangle_index import unfolded_entries
from structmat.kernels.layouts.rectangles import DENSE

#: Most pairs of rectangles that are compared.
MOST_PAIRS = 2**24
#: Longest side of a rectangle that others are filled into.
MOST_SIDE = 512


def is_alike(a: Boxes, b: Boxes) -> bool:
    """True for two matrices with the same rectangles, whatever their ranks."""
    return a.symmetric == b.symmetric and np.array_equal(a.table[:, :4], b.table[:, :4])


def unfolded(boxes: Boxes) -> Boxes:
    """The same matrix with mirror images written out."""
    if not boxes.symmetric:
        return boxes
    at = unfolded_entries(boxes.of)
    dense = np.where(at.conjugated, boxes.dense[at.at].conj(), boxes.dense[at.at])
    dense = np.where(at.real, dense.real, dense)
    back = boxes.of.mirrored
    other = _taken(boxes, back)
    return Boxes(
        boxes.of.whole, np.concatenate([boxes.u, other.v]), np.concatenate([boxes.v, other.u]),
        dense, boxes.shape,
    )  # fmt: skip


def folded(boxes: Boxes) -> Boxes:
    """One triangle of a Hermitian matrix, whose rectangles lie on one side or on the diagonal."""
    table = boxes.table
    on = (table[:, 0] == table[:, 2]) & (table[:, 1] == table[:, 3])
    some = np.flatnonzero(on | (table[:, 0] >= table[:, 2] + table[:, 3]))
    lower, of, dense = table[some].copy(), boxes.of, [boxes.dense[:0]]
    lower[on[some], 4] = DENSE
    for k in some:
        entries = boxes.dense[of.begins[2][k] : of.begins[2][k + 1]]
        if on[k]:
            entries = _entries(boxes, int(k))
            entries = entries.reshape(of.height[k], of.width[k])[np.tril_indices(of.height[k])]
        dense.append(entries)
    part = _taken(boxes, some[~on[some]])
    return Boxes(lower, part.u, part.v, np.concatenate(dense), boxes.shape, symmetric=True)


def _taken(boxes: Boxes, some: IntArray) -> Boxes:
    """Factors of some of the rectangles; their dense entries are left out."""
    of = boxes.of
    pick = [np.zeros(0, np.int64)]
    sides = []
    for flat, begin in ((boxes.u, of.begins[0]), (boxes.v, of.begins[1])):
        index = [np.arange(begin[k], begin[k + 1]) for k in some]
        sides.append(flat[np.concatenate([*pick, *index])])
    table = boxes.table[some]
    return replace(boxes, table=table, u=sides[0], v=sides[1], dense=boxes.dense[:0])


def finest(parts: list[Boxes]) -> IntArray:
    """Table of the cells on whose rows and columns each matrix has one rectangle, or none.

    Rectangles of each matrix do not overlap.
    """
    table = completed(parts[0].table[:, :4], parts[1:])
    for part in parts[1:]:
        other = completed(part.table[:, :4], parts)
        i, j = _pairs(table, other)
        table = _cut(table[i], other[j])
    return np.unique(table, axis=0)


def completed(table: IntArray, parts: list[Boxes]) -> IntArray:
    """A table with what its rectangles, which do not overlap, leave out of those of others."""
    for part in parts:
        i, j = _pairs(table, part.table)
        met = _cut(table[i], part.table[j])
        area = np.bincount(j, met[:, 1] * met[:, 3], minlength=len(part.table))
        for k in np.flatnonzero(area != part.of.height * part.of.width):
            table = np.concatenate([table, _left_out(part.table[k], met[j == k])])
    return table


def _left_out(box: IntArray, met: IntArray) -> IntArray:
    """Cells of a rectangle that none of some rectangles inside it covers."""
    edges = [
        np.unique(np.concatenate([[box[at], box[at] + box[at + 1]], met[:, at],
                                  met[:, at] + met[:, at + 1]]))
        for at in (0, 2)
    ]  # fmt: skip
    covered = np.zeros((len(edges[0]) - 1, len(edges[1]) - 1), bool)
    for top, p, left, q in met.tolist():
        rows = slice(*np.searchsorted(edges[0], [top, top + p]))
        cols = slice(*np.searchsorted(edges[1], [left, left + q]))
        covered[rows, cols] = True
    i, j = np.nonzero(~covered)
    sides = np.diff(edges[0]), np.diff(edges[1])
    return np.stack([edges[0][i], sides[0][i], edges[1][j], sides[1][j]], axis=1)


def can_compare(parts: list[Boxes]) -> bool:
    """True for few enough rectangles."""
    total = sum(len(part.table) for part in parts)
    return total**2 <= MOST_PAIRS


def on_table(table: IntArray, parts: list[Boxes]) -> Boxes | None:
    """The sum of matrices on the rectangles of a table; None where these are too large.

    Factors of each piece are padded by zeros; a rectangle that holds a dense piece, or pieces of
    more rank than it may have, becomes dense.
    """
    pieces: list[list[tuple[Boxes, int]]] = [[] for _ in table]
    for part in parts:
        for i, j in zip(*_pairs(table, part.table), strict=True):
            pieces[i].append((part, int(j)))
    dtype = np.result_type(*(flat for part in parts for flat in (part.u, part.v, part.dense)))
    rows: list[tuple[int, ...]] = []
    u, v, dense = ([np.zeros(0, dtype)] for _ in range(3))
    for (top, p, left, q), some in zip(table[:, :4].tolist(), pieces, strict=True):
        rank = sum(int(part.table[k, 4]) for part, k in some)
        low = all(part.table[k, 4] != DENSE for part, k in some)
        if low and rank <= min(p, q):
            factors = [_low(part, k, (top, p, left, q)) for part, k in some]
            u += [U.ravel() for U, _ in factors]
            v += [V.ravel() for _, V in factors]
            rows.append((top, p, left, q, rank))
            continue
        if max(p, q) > MOST_SIDE:
            return None
        total = np.zeros((p, q), dtype)
        for part, k in some:
            _fill(total, part, k, (top, p, left, q))
        dense.append(total.ravel())
        rows.append((top, p, left, q, DENSE))
    found = np.asarray(rows, np.int64).reshape(-1, 5)
    flat = [np.concatenate(side) for side in (u, v, dense)]
    return Boxes(found, flat[0], flat[1], flat[2], parts[0].shape)


def _pairs(table: IntArray, other: IntArray) -> tuple[IntArray, IntArray]:
    """Numbers of all pairs of rectangles that meet."""
    meets = np.ones((len(table), len(other)), bool)
    for at in (0, 2):
        start, size = table[:, at, None], table[:, at + 1, None]
        meets &= (start < other[:, at] + other[:, at + 1]) & (other[:, at] < start + size)
    i, j = np.nonzero(meets)
    return i, j


def _cut(table: IntArray, other: IntArray) -> IntArray:
    """Rectangles that pairs of rectangles have in common."""
    sides = []
    for at in (0, 2):
        start = np.maximum(table[:, at], other[:, at])
        ends = (t[:, at] + t[:, at + 1] for t in (table, other))
        sides += [start, np.minimum(*ends) - start]
    return np.stack(sides, axis=1)


def _overlap(part: Boxes, k: int, box: tuple[int, int, int, int]) -> tuple[slice, ...]:
    """Rows and columns that a rectangle and a box have in common, in each of them."""
    found = []
    for at in (0, 2):
        start, end = int(part.table[k, at]), int(part.table[k, at] + part.table[k, at + 1])
        first, last = max(start, box[at]), min(end, box[at] + box[at + 1])
        found += [slice(first - box[at], last - box[at]), slice(first - start, last - start)]
    return tuple(found)


def _factors(part: Boxes, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """U^T and V^T of a rectangle."""
    of = part.of
    U = part.u[of.begins[0][k] : of.begins[0][k + 1]].reshape(of.rank[k], of.height[k])
    V = part.v[of.begins[1][k] : of.begins[1][k + 1]].reshape(of.rank[k], of.width[k])
    return U, V


def _low(part: Boxes, k: int, box: tuple[int, int, int, int]) -> tuple[NDArray[Any], ...]:
    rows, own_rows, cols, own_cols = _overlap(part, k, box)
    U, V = _factors(part, k)
    sides = []
    for F, size, at, own in ((U, box[1], rows, own_rows), (V, box[3], cols, own_cols)):
        padded = np.zeros((len(F), size), F.dtype)
        padded[:, at] = F[:, own]
        sides.append(padded)
    return tuple(sides)


def _fill(total: NDArray[Any], part: Boxes, k: int, box: tuple[int, int, int, int]) -> None:
    """Add a rectangle's entries to those of a box."""
    rows, own_rows, cols, own_cols = _overlap(part, k, box)
    of = part.of
    if of.is_dense[k]:
        entries = part.dense[of.begins[2][k] : of.begins[2][k + 1]]
        total[rows, cols] += entries.reshape(of.height[k], of.width[k])[own_rows, own_cols]
        return
    U, V = _factors(part, k)
    total[rows, cols] += U[:, own_rows].T @ V[:, own_cols].conj()


def added(parts: list[Boxes]) -> Boxes:
    """The sum of matrices with the same rectangles: ranks add up, entries too."""
    first = parts[0]
    if len(parts) == 1:
        return first
    rows: list[int] = []
    dtype = np.result_type(*(flat for part in parts for flat in (part.u, part.v, part.dense)))
    u, v, dense = ([np.zeros(0, dtype)] for _ in range(3))
    for k in range(len(first.table)):
        ranks = [int(part.table[k, 4]) for part in parts]
        if DENSE not in ranks:
            factors = [_factors(part, k) for part in parts]
            u += [U.ravel() for U, _ in factors]
            v += [V.ravel() for _, V in factors]
            rows.append(sum(ranks))
            continue
        total = sum(_entries(part, k) for part in parts)
        dense.append(np.ravel(total))
        rows.append(DENSE)
    table = first.table.copy()
    table[:, 4] = rows
    return replace(
        first, table=table, u=np.concatenate(u), v=np.concatenate(v), dense=np.concatenate(dense)
    )


def _entries(part: Boxes, k: int) -> NDArray[Any]:
    """Stored entries of a rectangle, or those of its factors."""
    of = part.of
    if of.is_dense[k]:
        return part.dense[of.begins[2][k] : of.begins[2][k + 1]]
    U, V = _factors(part, k)
    full = U.T @ V.conj()
    return full[np.tril_indices(len(full))] if of.is_triangular[k] else full.ravel()


def full_grid(shape: tuple[int, int], sizes: list[IntArray]) -> IntArray:
    """Table of all tiles of a grid."""
    tops, lefts = (offsets(size)[:-1] for size in sizes)
    i, j = (at.ravel() for at in np.indices((len(tops), len(lefts))))
    return np.stack([tops[i], sizes[0][i], lefts[j], sizes[1][j]], axis=1)
