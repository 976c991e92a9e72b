"""Rectangles of a matrix divided into shares of about equal storage, each close together."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from structmat.compress.hierarchical.clusters import Pairs, sides_of
from structmat.intervals import IntArray

#: Halvings of an axis by which rectangles are brought in order.
LEVELS = 24


@dataclass(frozen=True)
class Share:
    """Far and near rectangles of one share, in the order of rows."""

    far: IntArray
    near: IntArray

    def of(self, pairs: Pairs) -> Pairs:
        """The pairs of clusters with these rectangles in the place of all."""
        return pairs._replace(far=self.far, near=self.near)


def shares_of(pairs: Pairs, rank: float, count: int) -> list[Share]:
    """At most `count` shares, at least one, where far rectangles have about this rank.

    Rectangles of a share lie close together, so that its product reads and writes few rows.

    Examples
    --------
    >>> from structmat.compress.hierarchical.clusters import weak_pairs
    >>> pairs = weak_pairs(np.arange(256.0)[:, None], symmetric=True)
    >>> [(len(share.far), len(share.near)) for share in shares_of(pairs, 8.0, 2)]
    [(1, 2), (2, 2)]
    """
    far, near = pairs.far, pairs.near
    every = np.concatenate([far, near])
    p, q = every[:, 1] - every[:, 0], every[:, 3] - every[:, 2]
    stored = (p * q).astype(np.float64)
    stored[: len(far)] = np.minimum(rank * sides_of(far), stored[: len(far)])
    order = _together(every, pairs)
    done = np.cumsum(stored[order])
    wanted = (done[-1] if done.size else 0.0) * np.arange(1, count) / count
    ends = np.minimum(np.searchsorted(done, wanted) + 1, done.size)
    bounds = np.unique(np.concatenate([[0], ends, [done.size]]))
    parts = [np.sort(order[a:b]) for a, b in pairwise(bounds)] or [order]
    return [Share(every[at[at < len(far)]], every[at[at >= len(far)]]) for at in parts]


def _together(every: IntArray, pairs: Pairs) -> IntArray:
    """An order of rectangles in which neighbours lie close together.

    Of a symmetric matrix, those of the first half of the rows come before those of the second,
    and then those of both; the same holds within each half. Others come by quarters.
    """
    m, n = pairs.row_order.size, pairs.col_order.size
    if pairs.symmetric:
        first, last = every[:, [0, 2]].min(axis=1), every[:, [1, 3]].max(axis=1)
        begin, end = _smallest_half(first, last, m)
        return np.lexsort((every[:, 2], every[:, 0], end - begin, end))
    i, j = _scaled(every[:, 0], m), _scaled(every[:, 2], n)
    code = np.zeros(len(every), np.int64)
    for bit in range(LEVELS):
        code |= (((i >> bit) & 1) << (2 * bit + 1)) | (((j >> bit) & 1) << (2 * bit))
    return np.argsort(code, kind="stable")


def _smallest_half(first: IntArray, last: IntArray, n: int) -> tuple[IntArray, IntArray]:
    """The half of a half of … of n rows that holds a range of them."""
    begin, end = np.zeros_like(first), np.full_like(last, n)
    for _ in range(LEVELS):
        middle = (begin + end) // 2
        left, right = last <= middle, first >= middle
        begin, end = np.where(right, middle, begin), np.where(left & ~right, middle, end)
    return begin, end


def _scaled(at: IntArray, size: int) -> IntArray:
    return at * 2**LEVELS // max(size, 1)
