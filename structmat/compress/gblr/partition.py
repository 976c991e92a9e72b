"""Partitions of a matrix into tiles, each truncated where its ranks stop paying."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from structmat.compress.gblr.lines import exact_lines
from structmat.compress.gblr.residual import Block, total_cost
from structmat.compress.goal import Goal

#: Smallest side of a tile.
LEAST_SIDE = 8
#: Steps of the bisection for the price of a multiplication.
PRICE_STEPS = 60
#: Number of portions of the matrix in which the tiles of a level are copied and decomposed.
PORTIONS = 16


def leading_blocks(
    U: NDArray, s: NDArray, Vh: NDArray, rank: int, top: int = 0, left: int = 0
) -> list[Block]:
    """Leading singular triples as blocks; copied, because a view would keep all of Vh alive."""
    return [Block(top, U[:, k] * s[k], left, np.array(Vh[k].conj())) for k in range(rank)]


def tile_blocks(tile: NDArray, rank: int, top: int, left: int) -> list[Block]:
    """A tile's leading singular triples, or the whole tile where that costs no more."""
    cost = rank * sum(tile.shape)
    # The runs of a line hold at least its non-zeros.
    if cost >= np.count_nonzero(tile):
        lines = exact_lines(tile, top, left, cyclic=False)
        if total_cost(lines) <= cost:
            return lines
    return leading_blocks(*np.linalg.svd(tile, full_matrices=False), rank, top, left)


class _Level:
    """Energy and cost of all tiles on one level of the partition."""

    def __init__(self, A: NDArray, level: int) -> None:
        (m, n), k = A.shape, 1 << level
        self.rows, self.cols = (np.arange(k + 1) * m) // k, (np.arange(k + 1) * n) // k
        h, w = np.diff(self.rows)[:, None], np.diff(self.cols)[None]
        self.step, self.dense = h + w, h * w
        self.energy = np.stack([self._energies(A, i) for i in range(k)])
        tail = np.cumsum(self.energy[..., ::-1], axis=-1)[..., ::-1]
        self.tail = np.pad(tail, ((0, 0), (0, 0), (0, 1)))

    def _energies(self, A: NDArray, i: int) -> NDArray:
        """Squared singular values of the tiles in row i of the grid, largest first."""
        rows = A[self.rows[i] : self.rows[i + 1]]
        height, width = int(np.diff(self.rows).max()), int(np.diff(self.cols).max())
        portion = max(1, A.size // (PORTIONS * height * width))
        values = []
        for first in range(0, len(self.cols) - 1, portion):
            cols = self.cols[first : first + portion + 1]
            tiles = np.zeros((len(cols) - 1, height, width), np.result_type(A.dtype, np.float64))
            for tile, left, right in zip(tiles, cols, cols[1:], strict=False):
                tile[: rows.shape[0], : right - left] = rows[:, left:right]
            if height > width:
                tiles = tiles.transpose(0, 2, 1)
            values.append(np.linalg.eigvalsh(tiles @ tiles.conj().transpose(0, 2, 1)))
        return np.maximum(np.concatenate(values)[:, ::-1], 0)

    def ranks(self, price: float) -> NDArray[np.int64]:
        """Rank at which each tile stops paying for itself."""
        return (self.energy > price * self.step[..., None]).sum(-1)

    def value(self, price: float) -> tuple[NDArray, NDArray, NDArray]:
        """Energy missed + price * cost of each tile as a leaf; the cost; the energy."""
        rank = self.ranks(price)
        cost = rank * self.step
        missed = np.take_along_axis(self.tail, rank[..., None], -1)[..., 0]
        whole = missed + price * cost > price * self.dense
        cost, missed = np.where(whole, self.dense, cost), np.where(whole, 0, missed)
        return missed + price * cost, cost, missed


def partition_blocks(A: NDArray, goal: Goal) -> tuple[list[Block], float]:
    """Best hierarchical partition into truncated tiles, within the goal's cost or error.

    Tiles are halves, quarters, ... of both axes. At a given price of a multiplication the
    best partition follows from the finest level upwards: a tile stays whole where its own
    truncation is worth more than its four quarters. The price is found by bisection and
    returned with the blocks.
    """
    depth = max(1, (min(A.shape) // LEAST_SIDE).bit_length())
    levels = [_Level(A, level) for level in range(1, depth)]
    if not levels:
        return [], 0.0
    high = max(float(level.energy.max()) for level in levels) or 1.0
    low = high * 1e-20
    for _ in range(PRICE_STEPS):
        middle = float(np.sqrt(low * high))
        _, cost, missed = _decide(levels, middle)
        if goal.max_cost is not None:
            dearer = cost > goal.max_cost
        else:
            dearer = missed <= (goal.max_error or 0.0) ** 2
        low, high = (middle, high) if dearer else (low, middle)
    price = high if goal.max_cost is not None else low
    whole, _, _ = _decide(levels, price)
    ranks = [level.ranks(price) for level in levels]
    blocks: list[Block] = []
    for depth, i, j in _leaves(whole, 0, 0, 0):
        if rank := int(ranks[depth][i, j]):
            rows, cols = levels[depth].rows, levels[depth].cols
            tile = A[rows[i] : rows[i + 1], cols[j] : cols[j + 1]]
            blocks += tile_blocks(tile, rank, int(rows[i]), int(cols[j]))
    return blocks, price


def _decide(levels: list[_Level], price: float) -> tuple[list[NDArray], float, float]:
    """Masks of the tiles that stay whole on each level; total cost and energy missed."""
    value, cost, missed = levels[-1].value(price)
    whole = [np.ones(value.shape, bool)]
    for level in levels[-2::-1]:
        below = [_quarters(x) for x in (value, cost, missed)]
        own = level.value(price)
        stays = own[0] <= below[0]
        whole.insert(0, stays)
        value, cost, missed = (np.where(stays, a, b) for a, b in zip(own, below, strict=True))
    return whole, float(cost.sum()), float(missed.sum())


def _quarters(x: NDArray) -> NDArray:
    """Sums over the four tiles below each tile."""
    k = x.shape[0] // 2
    return x.reshape(k, 2, k, 2).sum(axis=(1, 3))


def _leaves(
    whole: list[NDArray], depth: int, top: int, left: int
) -> Iterator[tuple[int, int, int]]:
    """(level, i, j) of the tiles that stay whole, among and below four neighbours."""
    for i in (top, top + 1):
        for j in (left, left + 1):
            if whole[depth][i, j]:
                yield depth, i, j
            else:
                yield from _leaves(whole, depth + 1, 2 * i, 2 * j)
