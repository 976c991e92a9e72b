"""Rank-one blocks on any subsets of rows and columns, from which orders follow.

A block of a GBLR matrix lies on an interval of rows and an interval of columns. Which rows
and columns belong to one block does not depend on their order: a pursuit over subsets finds
blocks whose rows and columns are scattered. An order in which the members of each block are
neighbours then makes intervals of them.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from structmat._array import Array, to_numpy
from structmat.intervals import IntArray, multiplications
from structmat.project import members
from structmat.project.order import column_order
from structmat.project.reordered import reordered

#: Prices tried at most, and the ratio of one to the one before.
_PRICES, _RATIO = 24, 0.7
#: Multiple of the cap that the blocks may cost: more of them say more about the order.
_WIDER = 1.5
#: Distance of the rows and columns at which blocks begin in one search.
_EVERY = 3
#: Share of the energy below which nothing is left to find.
_NOTHING = 1e-9
#: Price at which every member counts whole.
_TINY = 1e-9
#: Most rows and columns of a sample.
_SAMPLE = 256


class Subset(NamedTuple):
    """A block: the contents u on some rows and v on some columns."""

    rows: IntArray
    u: NDArray
    cols: IntArray
    v: NDArray

    @property
    def cost(self) -> int:
        """Multiplications for one vector."""
        return int(multiplications(len(self.rows), len(self.cols)))


def pursue_subsets(W: NDArray, cap: int, *, charge: float = 8.0) -> list[Subset]:
    """Rank-one blocks on subsets of rows and columns near a matrix.

    For a price p, a block ascends energy - p (rows + columns): given u, the columns j with
    (u^T R_j)^2 / |u|^2 > p are its best ones, and given v the rows likewise. Blocks begin at
    the large entries of single rows and columns of the residual R, the one of largest gain
    first. The price falls until the blocks cost about one and a half times the cap.

    Parameters
    ----------
    W : array (m, n)
        Real and finite.
    cap : int
        Multiplications for one vector, on which the number of blocks depends.
    charge : float
        Multiplications that a block has to earn beside its own.

    Examples
    --------
    >>> W = np.zeros((4, 5))
    >>> W[np.ix_([0, 2], [1, 4])] = 1.0
    >>> [(block.rows.tolist(), block.cols.tolist()) for block in pursue_subsets(W, 4, charge=0)]
    [([0, 2], [1, 4])]
    """
    return _searched(W, round(_WIDER * cap), charge).blocks


def sample_left(W: Array, cap: int, *, charge: float = 8.0) -> float:
    """Share of the energy that blocks within a cap leave, from a sample of rows and columns.

    A sum of blocks is one on any of its rows and columns too, where it costs about as much less
    as these are fewer. So blocks that hold nearly all of the sample tell whether some may hold
    nearly all of the matrix, in a time that hardly depends on its size. The matrix is of any
    library.

    Examples
    --------
    >>> round(sample_left(np.ones((8, 8)), 16, charge=0), 6), sample_left(np.eye(8), 4, charge=0)
    (0.0, 0.5)
    """
    rng = np.random.default_rng(0)
    rows, cols = (np.sort(rng.permutation(size)[:_SAMPLE]) for size in W.shape)
    share = max(len(at) / max(size, 1) for at, size in zip((rows, cols), W.shape, strict=True))
    sample = np.ascontiguousarray(to_numpy(reordered(W, rows, cols)))
    total = float(np.vdot(sample, sample))
    return _searched(sample, round(share * cap), charge).energy() / total if total else 0.0


def _searched(W: NDArray, most: int, charge: float) -> "_Search":
    """Search down to the price at which the blocks cost `most`."""
    search = _Search(W)
    price = float(np.square(W).max(initial=0.0)) / 2
    least = _NOTHING * search.energy()
    for _ in range(_PRICES):
        if search.energy() <= least or search.cost >= most:
            break
        search.refit(price, charge)
        search.find(price, charge, most)
        price *= _RATIO
    return search


def subset_orders(blocks: list[Subset], shape: tuple[int, int]) -> tuple[IntArray, IntArray]:
    """Orders of rows and columns in which the members of each block are neighbours.

    Two positions are alike as far as they are members of the same blocks. Positions on a circle
    show in the second and third eigenvector of the normalised likeness, as angles (spectral
    seriation: Atkins, Boman & Hendrickson 1998); that order is then improved as a tour.

    Examples
    --------
    >>> scattered = np.array([1.0, 2.0, 1.0, 2.0])[:, None] * np.array([1.0, 0.0, 1.0])
    >>> found = pursue_subsets(scattered, 6, charge=0)
    >>> subset_orders(found, (4, 3))[1].tolist()
    [0, 2, 1]
    """
    sides = ([block.rows for block in blocks], [block.cols for block in blocks])
    rows, cols = (_members_order(own, n) for own, n in zip(sides, shape, strict=True))
    return rows, cols


def _members_order(sets: list[IntArray], n: int) -> IntArray:
    block = np.repeat(np.arange(len(sets)), [len(own) for own in sets])
    at = np.concatenate([*sets, np.zeros(0, np.int64)])
    marks = sparse.csr_array((np.ones(len(at)), (block, at)), shape=(len(sets), n))
    used = np.flatnonzero(np.bincount(at, minlength=n))
    if len(used) < 4:
        return np.concatenate([used, np.setdiff1d(np.arange(n), used)])
    marks = marks[:, used]
    count = np.sqrt(marks.T @ (marks @ np.ones(len(used))))
    near = marks / count
    start = np.argsort(_angles(near), kind="stable")
    tour = column_order(marks.toarray(), _TINY, start=start)
    return np.concatenate([used[tour], np.setdiff1d(np.arange(n), used)])


def _angles(near: Any) -> NDArray:
    """Angle of every position in the plane of the second and third singular vector."""
    (count, n), three = near.shape, 3
    if min(count, n) <= three:
        _, _, Vh = np.linalg.svd(near.toarray(), full_matrices=False)
        Vh = np.concatenate([Vh, np.zeros((three, n))])[:three]
    else:
        start = np.ones(min(count, n)) / np.sqrt(min(count, n))
        _, size, Vh = svds(near, three, v0=start)
        Vh = Vh[np.argsort(-size)]
    scale = np.where(Vh[0] == 0, 1.0, np.abs(Vh[0]))
    return np.arctan2(Vh[2] / scale, Vh[1] / scale)


class _Search:
    """Residual of a matrix, and the blocks that were taken out of it."""

    def __init__(self, W: NDArray) -> None:
        self.R = np.array(W, order="C")
        self.RT = np.array(W.T, order="C")
        self.blocks: list[Subset] = []
        self._turn = 0

    @property
    def cost(self) -> int:
        return sum(block.cost for block in self.blocks)

    def energy(self) -> float:
        return float(np.vdot(self.R, self.R))

    def find(self, price: float, charge: float, most: int) -> None:
        """Take blocks out of the residual, the one of largest gain first, until all cost `most`.

        They begin at every third row and column, other ones each time.
        """
        room, widest = max(most - self.cost, 0), sum(self.R.shape)
        seeds = np.arange(self._turn % min(_EVERY, max(widest, 1)), widest, _EVERY)
        self._turn += 1
        sizes = np.empty((room, 2), np.int64)
        places = np.empty(2 * room + widest, np.int64)
        contents = np.empty(places.size, self.R.dtype)
        count = members.find(self.R, self.RT, price, charge, room, seeds, sizes, places, contents)
        begin = 0
        for h, w in sizes[:count].tolist():
            middle, end = begin + h, begin + h + w
            rows, cols = places[begin:middle].copy(), places[middle:end].copy()
            u, v = contents[begin:middle].copy(), contents[middle:end].copy()
            self.blocks.append(Subset(rows, u, cols, v))
            begin = end

    def refit(self, price: float, charge: float) -> None:
        """Fit every block again to what the others leave; blocks without gain go."""
        (m, n), dtype = self.R.shape, self.R.dtype
        rows, u = np.empty(m, np.int64), np.empty(m, dtype)
        cols, v = np.empty(n, np.int64), np.empty(n, dtype)
        size, work, kept = np.empty(2, np.int64), np.empty(max(m, n), dtype), []
        self.blocks.sort(key=lambda one: float(one.u @ one.u) * float(one.v @ one.v) / one.cost)
        for block in self.blocks:
            members.change(self.R, self.RT, *block, 1)
            size[1] = w = len(block.cols)
            cols[:w], v[:w] = block.cols, block.v
            gain = members.ascend(self.R, self.RT, price, size, rows, u, cols, v, work)
            if gain > price * charge:
                h, w = size.tolist()
                parts = (rows[:h], u[:h], cols[:w], v[:w])
                kept.append(Subset(*(part.copy() for part in parts)))
                members.change(self.R, self.RT, *kept[-1], -1)
        self.blocks = kept
