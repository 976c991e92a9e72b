"""Rank-one blocks on any subsets of rows and columns, from which orders follow.

A block of a GBLR matrix lies on an interval of rows and an interval of columns. Which rows
and columns belong to one block does not depend on their order: a pursuit over subsets finds
blocks whose rows and columns are scattered. An order in which the members of each block are
neighbours then makes intervals of them.
"""

import heapq
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from structmat.intervals import IntArray, multiplications
from structmat.project.order import column_order

#: Half-steps of a block at most, alternating between its columns and its rows.
_TURNS = 6
#: Prices tried at most, and the ratio of one to the one before.
_PRICES, _RATIO = 24, 0.7
#: Multiple of the cap that the blocks may cost: more of them say more about the order.
_WIDER = 1.5
#: Share of the cap after which a search tells whether it is of use.
_FIRST = 0.25
#: Share of the energy below which nothing is left to find.
_NOTHING = 1e-9
#: Price at which every member counts whole.
_TINY = 1e-9
#: Gain of a candidate, relative to that of the next one, from which it is taken.
_CLOSE = 0.95


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


def pursue_subsets(
    W: NDArray, cap: int, *, charge: float = 8.0, plain: float | None = None
) -> list[Subset]:
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
    plain : float, optional
        Share of the energy that blocks within the cap may leave. The search then ends, without
        blocks, as soon as they cannot: blocks of larger gain come first, so that the first
        quarter of the cap holds more than a quarter of what the whole will hold.

    Examples
    --------
    >>> W = np.zeros((4, 5))
    >>> W[np.ix_([0, 2], [1, 4])] = 1.0
    >>> [(block.rows.tolist(), block.cols.tolist()) for block in pursue_subsets(W, 4, charge=0)]
    [([0, 2], [1, 4])]
    """
    search = _Search(W)
    price = float(np.square(W).max(initial=0.0)) / 2
    total = search.energy()
    best: list[Subset] = []
    doubtful = plain is not None
    for _ in range(_PRICES):
        if search.energy() <= _NOTHING * total or search.cost >= _WIDER * cap:
            break
        search.refit(price, charge)
        search.find(price, charge, round((_FIRST if doubtful else _WIDER) * cap))
        if plain is not None and doubtful and search.cost >= _FIRST * cap:
            if search.energy() > (1 - _FIRST * (1 - plain)) * total:
                return []
            doubtful = False
        best = list(search.blocks)
        price *= _RATIO
    return best


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
    members = ([block.rows for block in blocks], [block.cols for block in blocks])
    rows, cols = (_members_order(own, n) for own, n in zip(members, shape, strict=True))
    return rows, cols


def _members_order(members: list[IntArray], n: int) -> IntArray:
    block = np.repeat(np.arange(len(members)), [len(own) for own in members])
    at = np.concatenate([*members, np.zeros(0, np.int64)])
    marks = sparse.csr_array((np.ones(len(at)), (block, at)), shape=(len(members), n))
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

    @property
    def cost(self) -> int:
        return sum(block.cost for block in self.blocks)

    def energy(self) -> float:
        return float(np.vdot(self.R, self.R))

    def _add(self, block: Subset, sign: int) -> None:
        outer = np.outer(sign * block.u, block.v)
        self.R[np.ix_(block.rows, block.cols)] += outer
        self.RT[np.ix_(block.cols, block.rows)] += outer.T

    def _ascend(self, cols: IntArray, v: NDArray, price: float) -> tuple[float, Subset | None]:
        """Gain of the block that grows from columns with contents v."""
        gain, block = -np.inf, None
        for _ in range(_TURNS):
            size = float(v @ v)
            if size == 0:
                break
            b = v @ self.RT[cols]
            rows = np.flatnonzero(b * b > price * size)
            if not len(rows):
                break
            u = b[rows] / size
            a, size = u @ self.R[rows], float(u @ u)
            gains = a * a / size - price
            cols = np.flatnonzero(gains > 0)
            if not len(cols):
                break
            v, last = a[cols] / size, gain
            block = Subset(rows, u, cols, v)
            gain = float((gains[cols] + price).sum()) - price * block.cost
            if gain <= last * (1 + 1e-6):
                break
        return gain, block

    def _seeded(self, seed: int, price: float) -> tuple[float, Subset | None]:
        """Gain of the block that grows from the large entries of one row, or of one column."""
        m = self.R.shape[0]
        if seed < m:
            line = self.R[seed]
            cols = np.flatnonzero(line * line > price)
            return self._ascend(cols, line[cols], price) if len(cols) else (-np.inf, None)
        line = self.RT[seed - m]
        rows = np.flatnonzero(line * line > price)
        if not len(rows):
            return -np.inf, None
        u = line[rows]
        a = u @ self.R[rows]
        cols = np.flatnonzero(a * a > price * float(u @ u))
        return self._ascend(cols, a[cols], price) if len(cols) else (-np.inf, None)

    def find(self, price: float, charge: float, most: int) -> None:
        """Take blocks out of the residual, the one of largest gain first.

        Gains fall as blocks are taken, so that a gain of earlier says at most too much.
        """
        waiting = []
        for seed in range(sum(self.R.shape)):
            gain, _ = self._seeded(seed, price)
            if gain > price * charge:
                waiting.append((-gain, seed))
        heapq.heapify(waiting)
        cost = self.cost
        while waiting and cost < most:
            _, seed = heapq.heappop(waiting)
            gain, block = self._seeded(seed, price)
            if block is None or gain <= price * charge:
                continue
            if not waiting or gain >= _CLOSE * -waiting[0][0]:
                self._add(block, -1)
                self.blocks.append(block)
                cost += block.cost
            heapq.heappush(waiting, (-gain, seed))

    def refit(self, price: float, charge: float) -> None:
        """Fit every block again to what the others leave; blocks without gain go."""
        self.blocks.sort(key=lambda one: float(one.u @ one.u) * float(one.v @ one.v) / one.cost)
        kept = []
        for block in self.blocks:
            self._add(block, 1)
            gain, again = self._ascend(block.cols, block.v, price)
            if again is not None and gain > price * charge:
                self._add(again, -1)
                kept.append(again)
        self.blocks = kept
