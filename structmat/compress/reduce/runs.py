"""Rectangles of a GBLR matrix: equal runs as one, empty ends cut off, neighbours joined."""

from collections import defaultdict
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress.reduce.boxes import ROUNDINGS, Boxes
from structmat.intervals import IntArray, multiplications, offsets, positions, ramps, stretches
from structmat.matrices.gblr import GBLR

#: Most rectangles whose neighbours are tried.
MOST_BOXES = 4000
#: Most passes over all rectangles.
PASSES = 6


def boxes_of_runs(A: GBLR) -> Boxes:
    """Rectangles of a GBLR matrix on NumPy, one for all blocks of equal runs."""
    m, n = A.shape
    some = np.flatnonzero((A.row_width > 0) & (A.col_width > 0))
    rows, cols = (
        _canonical(start[some], width[some], _blocks(flat, width, some), size)
        for start, width, flat, size in (
            (A.row_start, A.row_width, A.u, m),
            (A.col_start, A.col_width, A.v, n),
        )
    )
    (top, height, u), (left, width, v) = rows, cols
    some = np.flatnonzero((height > 0) & (width > 0))
    table = np.stack([top, height, left, width, np.ones_like(top)], axis=1)[some]
    u, v = _blocks(u, height, some), _blocks(v, width, some)
    return grouped(Boxes(table, u, v, u[:0], (m, n), cyclic=True))


def _canonical(start: IntArray, width: IntArray, contents: Any, n: int) -> tuple[Any, ...]:
    """Runs, none of them empty, without zeros at their ends; whole circles begin at 0."""
    contents = np.asarray(contents, np.result_type(contents.dtype, np.float64))
    begin, full = offsets(width)[:-1], width == n
    place = ramps(width)
    shift = np.repeat(np.where(full, start, 0), width)
    size = np.repeat(width, width)
    contents = contents[np.repeat(begin, width) + (place - shift) % size]
    start = np.where(full, 0, start)
    if not contents.size:
        return start, np.zeros_like(width), contents
    some = contents != 0
    first = np.minimum.reduceat(np.where(some, place, n), begin)
    last = np.maximum.reduceat(np.where(some, place, -1), begin)
    length = np.maximum(last - first + 1, 0)
    first = np.where(length > 0, first, 0)
    taken = contents[stretches(begin + first, length)]
    return (start + first) % max(n, 1), length, taken


def _blocks(flat: NDArray[Any], width: IntArray, some: IntArray) -> NDArray[Any]:
    """Contents of some of the runs, in their order."""
    begin = offsets(width)[:-1][some]
    return flat[stretches(begin, width[some])]


def grouped(boxes: Boxes) -> Boxes:
    """The same matrix with all rectangles of low rank and of equal runs as one."""
    table, low = boxes.table, ~boxes.of.is_dense
    if not low.all() or not len(table):
        return boxes
    keys, which = np.unique(table[:, :4], axis=0, return_inverse=True)
    if len(keys) == len(table):
        return boxes
    order = np.argsort(which.ravel(), kind="stable")
    rank = np.bincount(which.ravel(), table[:, 4], minlength=len(keys)).astype(np.int64)
    u = _blocks(boxes.u, boxes.of.rank * boxes.of.height, order)
    v = _blocks(boxes.v, boxes.of.rank * boxes.of.width, order)
    return replace(boxes, table=np.column_stack([keys, rank]), u=u, v=v)


def collapsed(boxes: Boxes) -> Boxes:
    """The same matrix where columns of V that are equal bit by bit have one column of U.

    So a difference of two equal matrices vanishes, without roundings.
    """
    of, keep = boxes.of, []
    u = boxes.u.copy()
    for k in np.flatnonzero(of.rank > 0):
        p, q, r = int(of.height[k]), int(of.width[k]), int(of.rank[k])
        U = u[of.begins[0][k] : of.begins[0][k + 1]].reshape(r, p)
        V = boxes.v[of.begins[1][k] : of.begins[1][k + 1]].reshape(r, q)
        first: dict[bytes, int] = {}
        for t in range(r):
            other = first.setdefault(V[t].tobytes(), t)
            if other != t:
                U[other] += U[t]
                U[t] = 0
        keep += [(k, t) for t in range(r) if U[t].any()]
    which, place = np.asarray(keep, np.int64).reshape(-1, 2).T
    rank = np.bincount(which, minlength=len(boxes.table))
    if np.array_equal(rank, of.rank):
        return boxes
    left = (rank > 0) | of.is_dense
    sides = []
    for flat, size, begin in ((u, of.height, of.begins[0]), (boxes.v, of.width, of.begins[1])):
        start, length = begin[which] + place * size[which], size[which]
        sides.append(flat[stretches(start, length)])
    table = boxes.table.copy()
    table[:, 4] = np.where(of.is_dense, table[:, 4], rank)
    return replace(boxes, table=table[left], u=sides[0], v=sides[1])


class _Box(NamedTuple):
    """A rectangle of low rank on two runs."""

    rows: tuple[int, int]
    cols: tuple[int, int]
    U: NDArray[Any]
    V: NDArray[Any]

    def run(self, axis: int) -> tuple[int, int]:
        """Run of rows, or of columns."""
        return self.cols if axis else self.rows

    @property
    def cost(self) -> int:
        (_, p), (_, q) = self.rows, self.cols
        return int(min(self.U.shape[1] * multiplications(p, q), p * q))


def joined(boxes: Boxes) -> Boxes:
    """The same matrix with rectangles that touch or overlap on one axis as one, where that pays.

    They have one run on the other axis.
    """
    if len(boxes.table) > MOST_BOXES or boxes.of.is_dense.any():
        return boxes
    found = _unpacked(boxes)
    for _ in range(PASSES):
        before = len(found)
        for axis in (0, 1):
            found = _along(found, axis, boxes.shape)
        if len(found) == before:
            break
    return grouped(_packed(found, boxes))


def _along(found: list[_Box], axis: int, shape: tuple[int, int]) -> list[_Box]:
    """Join rectangles of one run on an axis along the other axis."""
    buckets: dict[tuple[int, int], list[_Box]] = defaultdict(list)
    for box in found:
        buckets[box.run(axis)].append(box)
    result: list[_Box] = []
    for bucket in buckets.values():
        bucket.sort(key=lambda box: box.run(1 - axis))
        stack: list[_Box] = []
        for box in bucket:
            new: _Box | None = box
            while stack and new is not None:
                union = _union(stack[-1], new, axis, shape)
                if union is None:
                    break
                stack.pop()
                new = union
            if new is not None:
                stack.append(new)
        if len(stack) > 1 and (union := _union(stack[-1], stack[0], axis, shape)):
            stack = [union, *stack[1:-1]]
        result += stack
    return result


def _union(a: _Box, b: _Box, axis: int, shape: tuple[int, int]) -> _Box | None:
    """Two rectangles as one, if it costs less; None otherwise."""
    run = touching(a.run(1 - axis), b.run(1 - axis), shape[1 - axis])
    # A box that was joined may have lost lines of the run that both had.
    if run is None or a.run(axis) != b.run(axis):
        return None
    same, n = a.run(axis), shape[1 - axis]
    sizes = (same[1], run[1]) if axis == 0 else (run[1], same[1])
    least = max(1, min(a.U.shape[1], b.U.shape[1])) * multiplications(*sizes)
    if least >= a.cost + b.cost:
        return None
    sides: list[list[NDArray[Any]]] = [[], []]
    for box in (a, b):
        start, width = box.run(1 - axis)
        at = (start - run[0] + np.arange(width)) % n
        long_, short = (box.V, box.U) if axis == 0 else (box.U, box.V)
        padded = np.zeros((run[1], long_.shape[1]), long_.dtype)
        padded[at] = long_
        sides[0].append(short)
        sides[1].append(padded)
    short, long_ = (np.concatenate(parts, axis=1) for parts in sides)
    U, V = (short, long_) if axis == 0 else (long_, short)
    P, s, Q = _svd(U, V)
    sizes_of_terms = np.linalg.norm(U, axis=0) * np.linalg.norm(V, axis=0)
    noise = ROUNDINGS * np.finfo(np.float64).eps * sizes_of_terms.sum()
    rank = int((s > noise).sum())
    if rank * multiplications(*sizes) >= a.cost + b.cost:
        return None
    real = s > noise
    P, Q, s = P[:, real], Q[:, real], s[real]
    (first, end), (left, right) = (_not_noise(F * s, noise) for F in (P, Q))
    rows, cols = (same, run) if axis == 0 else (run, same)
    rows = ((rows[0] + first) % shape[0], end - first)
    cols = ((cols[0] + left) % shape[1], right - left)
    root = np.sqrt(s)
    return _Box(rows, cols, P[first:end] * root, Q[left:right] * root)


def _not_noise(lines: NDArray[Any], noise: float) -> tuple[int, int]:
    """First line, and end of the lines, of a norm that stands out."""
    some = np.flatnonzero(np.linalg.norm(lines, axis=1) > noise)
    return (int(some[0]), int(some[-1]) + 1) if some.size else (0, len(lines))


def _svd(U: NDArray[Any], V: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Singular vectors and values of U V^H: P, s and Q."""
    (P, R), (Q, S) = np.linalg.qr(U), np.linalg.qr(V)
    left, s, right = np.linalg.svd(R @ S.conj().T, full_matrices=False)
    return P @ left, s, Q @ right.conj().T


def touching(a: tuple[int, int], b: tuple[int, int], n: int) -> tuple[int, int] | None:
    """The run of two runs on a circle that touch or overlap; None for others.

    Examples
    --------
    >>> touching((1, 3), (4, 2), 8), touching((6, 3), (0, 2), 8), touching((0, 2), (3, 2), 8)
    ((1, 5), (6, 4), None)
    """
    for (start, width), (other, length) in ((a, b), (b, a)):
        ahead = (other - start) % n
        if ahead <= width:
            end = max(width, ahead + length)
            return (start, end) if end < n else (0, n)
    return None


def _unpacked(boxes: Boxes) -> list[_Box]:
    of, found = boxes.of, []
    for k, (top, p, left, q, r) in enumerate(boxes.table.tolist()):
        U = boxes.u[of.begins[0][k] : of.begins[0][k + 1]].reshape(r, p).T
        V = boxes.v[of.begins[1][k] : of.begins[1][k + 1]].reshape(r, q).T
        found.append(_Box((top, p), (left, q), U, V))
    return found


def _packed(found: list[_Box], like: Boxes) -> Boxes:
    rows = [(*box.rows, *box.cols, box.U.shape[1]) for box in found]
    u, v = (
        np.concatenate([like.u[:0], *(np.ascontiguousarray(F.T).ravel() for F in side)])
        for side in ([box.U for box in found], [box.V for box in found])
    )
    table = np.asarray(rows, np.int64).reshape(-1, 5)
    return replace(like, table=table, u=u, v=v)


def as_gblr(boxes: Boxes, dtype: Any) -> GBLR:
    """One block a rank, and the rows or the columns of dense rectangles."""
    of, table = boxes.of, boxes.table
    low = np.flatnonzero(~of.is_dense)
    which = np.repeat(low, of.rank[low])
    runs = [table[which, 0], table[which, 1], table[which, 2], table[which, 3]]
    parts, u, v = [np.stack(runs, axis=1)], [boxes.u], [boxes.v]
    for k in np.flatnonzero(of.is_dense):
        top, p, left, q, _ = table[k].tolist()
        block = boxes.dense[of.begins[2][k] : of.begins[2][k + 1]].reshape(p, q)
        if p <= q:
            at = positions(np.array([top]), np.array([p]), boxes.shape[0])
            parts.append(np.stack([at, *(np.full(p, x) for x in (1, left, q))], axis=1))
            u.append(np.ones(p))
            v.append(block.conj().ravel())
        else:
            at = positions(np.array([left]), np.array([q]), boxes.shape[1])
            parts.append(
                np.stack([*(np.full(q, x) for x in (top, p)), at, np.ones_like(at)], axis=1)
            )
            u.append(block.T.ravel())
            v.append(np.ones(q))
    starts = np.concatenate(parts)
    flat = [np.concatenate(side).astype(dtype) for side in (u, v)]
    return GBLR(
        starts[:, 0], starts[:, 1], flat[0], starts[:, 2], starts[:, 3], flat[1], shape=boxes.shape
    )
