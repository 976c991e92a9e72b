"""Where a search may start: truncated SVDs of the matrix or of the parts of a partition."""

import numpy as np
from numpy.typing import NDArray

from structmat.compress.gblr.residual import Block, take
from structmat.compress.goal import Goal
from structmat.compress.svd import truncated_svd

#: Smallest side of a part, and the steps of the bisection for the price.
LEAST_SIDE = 8
STEPS = 60
#: A level's parts are decomposed in so many portions of the matrix, to save memory.
PORTIONS = 16
#: A row or column is stored in so many runs at the most.
MOST_RUNS = 128


def svd_blocks(A: NDArray, rank: int, rng: np.random.Generator) -> list[Block]:
    """The leading singular triples as blocks on all rows and columns."""
    U, s, Vh = truncated_svd(A, rank, rng)
    return _leading(U, s, Vh, int((s > 0).sum()), 0, 0)


def dense_blocks(A: NDArray) -> list[Block]:
    """A itself, exactly: the runs of its rows, or of its columns where these are cheaper."""
    return _lines(A, 0, 0, cyclic=True)


def _lines(tile: NDArray, top: int, left: int, *, cyclic: bool) -> list[Block]:
    """The runs around the non-zeros of all rows, or of all columns, of a tile."""
    one = np.ones(1, tile.dtype)
    in_rows, in_columns = _runs(tile, cyclic), _runs(tile.T, cyclic)
    if _cost_of_runs(in_rows) <= _cost_of_runs(in_columns):
        rows = ((i, start, take(tile[i], start, width)) for i, start, width in in_rows)
        return [Block(top + i, one, left + start, v.conj()) for i, start, v in rows]
    columns = ((j, start, take(tile[:, j], start, width)) for j, start, width in in_columns)
    return [Block(top + start, u, left + j, one) for j, start, u in columns]


def _runs(lines: NDArray, cyclic: bool) -> list[tuple[int, int, int]]:
    """(line, start, width) of the runs; one more costs as much as one more zero."""
    n, found = lines.shape[1], []
    wide = max(2, n // MOST_RUNS)
    for i, line in enumerate(lines):
        at = np.flatnonzero(line)
        if not at.size:
            continue
        split = np.diff(at) > wide
        first, last = at[np.append(True, split)], at[np.append(split, True)]
        width = last - first + 1
        if cyclic and first.size > 1 and first[0] + n - last[-1] <= wide:
            width[-1] += first[0] + n - last[-1] - 1 + width[0]
            first, width = first[1:], width[1:]
        found += [
            (i, start, size) for start, size in zip(first.tolist(), width.tolist(), strict=True)
        ]
    return found


def _cost_of_runs(runs: list[tuple[int, int, int]]) -> int:
    return sum(width + 1 for _, _, width in runs)


def tile_blocks(tile: NDArray, rank: int, top: int, left: int) -> list[Block]:
    """A tile's leading singular triples, or the whole tile where that costs no more."""
    cost = rank * sum(tile.shape)
    # No line's runs hold fewer entries than it has non-zeros.
    if cost >= np.count_nonzero(tile) + min(tile.any(axis).sum() for axis in (0, 1)):
        lines = _lines(tile, top, left, cyclic=False)
        if sum(block.cost for block in lines) <= cost:
            return lines
    U, s, Vh = np.linalg.svd(tile, full_matrices=False)
    return _leading(U, s, Vh, rank, top, left)


def _leading(U: NDArray, s: NDArray, Vh: NDArray, rank: int, top: int, left: int) -> list[Block]:
    """Singular triples as blocks; copied, because a view would keep all of Vh alive."""
    return [Block(top, U[:, k] * s[k], left, np.array(Vh[k].conj())) for k in range(rank)]


class _Level:
    """All parts of one level of the partition, and what each is worth at a price."""

    def __init__(self, A: NDArray, level: int) -> None:
        (m, n), k = A.shape, 1 << level
        self.rows, self.cols = (np.arange(k + 1) * m) // k, (np.arange(k + 1) * n) // k
        h, w = np.diff(self.rows)[:, None], np.diff(self.cols)[None]
        self.step, self.dense = h + w, np.minimum(h * (w + 1), w * (h + 1))
        self.energy = np.stack([self._energies(A, i) for i in range(k)])
        tail = np.cumsum(self.energy[..., ::-1], axis=-1)[..., ::-1]
        self.tail = np.pad(tail, ((0, 0), (0, 0), (0, 1)))

    def _energies(self, A: NDArray, i: int) -> NDArray:
        """Squared singular values of the parts in row i of the grid, largest first."""
        strip = A[self.rows[i] : self.rows[i + 1]]
        height, width = int(np.diff(self.rows).max()), int(np.diff(self.cols).max())
        portion = max(1, A.size // (PORTIONS * height * width))
        values = []
        for first in range(0, len(self.cols) - 1, portion):
            cols = self.cols[first : first + portion + 1]
            parts = np.zeros((len(cols) - 1, height, width), np.result_type(A.dtype, np.float64))
            for part, left, right in zip(parts, cols, cols[1:], strict=False):
                part[: strip.shape[0], : right - left] = strip[:, left:right]
            if height > width:
                parts = parts.transpose(0, 2, 1)
            values.append(np.linalg.eigvalsh(parts @ parts.conj().transpose(0, 2, 1)))
        return np.maximum(np.concatenate(values)[:, ::-1], 0)

    def ranks(self, price: float) -> NDArray[np.int64]:
        """Rank at which a part stops paying for itself."""
        return (self.energy > price * self.step[..., None]).sum(-1)

    def value(self, price: float) -> tuple[NDArray, NDArray, NDArray]:
        """Energy missed + price * cost of each part as a leaf; the cost; the energy."""
        rank = self.ranks(price)
        cost = rank * self.step
        missed = np.take_along_axis(self.tail, rank[..., None], -1)[..., 0]
        whole = missed + price * cost > price * self.dense
        cost, missed = np.where(whole, self.dense, cost), np.where(whole, 0, missed)
        return missed + price * cost, cost, missed


def partition_blocks(A: NDArray, goal: Goal) -> tuple[list[Block], float]:
    """Best hierarchical partition into truncated parts, within the goal's cost or error.

    Parts are halves, quarters, ... of both axes. At a given price the best partition
    follows from the finest level upwards, a part being left whole where its own
    truncation is worth more than its four quarters; the price is found by bisection.
    """
    depth = max(1, (min(A.shape) // LEAST_SIDE).bit_length())
    levels = [_Level(A, level) for level in range(1, depth)]
    if not levels:
        return [], 0.0
    high = max(float(level.energy.max()) for level in levels) or 1.0
    low, price = high * 1e-20, 0.0
    for _ in range(STEPS):
        middle = float(np.sqrt(low * high))
        cost, missed = _totals(levels, middle)
        if goal.max_cost is not None:
            dearer = cost > goal.max_cost
        else:
            dearer = missed <= (goal.max_error or 0.0) ** 2
        if dearer:
            low = middle
        else:
            high = middle
        price = high if goal.max_cost is not None else low
    blocks: list[Block] = []
    _descend(A, levels, _decide(levels, price)[0], price, 0, 0, 0, blocks)
    return blocks, price


def _decide(levels: list[_Level], price: float) -> tuple[list[NDArray], float, float]:
    """Which parts stay whole on every level, and the total cost and energy missed."""
    value, cost, missed = levels[-1].value(price)
    leaf = [np.ones(value.shape, bool)]
    for level in levels[-2::-1]:
        below = [_quarters(x) for x in (value, cost, missed)]
        own = level.value(price)
        stays = own[0] <= below[0]
        leaf.insert(0, stays)
        value, cost, missed = (np.where(stays, a, b) for a, b in zip(own, below, strict=True))
    return leaf, float(cost.sum()), float(missed.sum())


def _totals(levels: list[_Level], price: float) -> tuple[float, float]:
    return _decide(levels, price)[1:]


def _quarters(x: NDArray) -> NDArray:
    """Sums over the four parts below each part."""
    k = x.shape[0] // 2
    return x.reshape(k, 2, k, 2).sum(axis=(1, 3))


def _descend(
    A: NDArray,
    levels: list[_Level],
    leaf: list[NDArray],
    price: float,
    depth: int,
    i: int,
    j: int,
    blocks: list[Block],
) -> None:
    """Collect the blocks of the leaves below the two-by-two parts at (i, j)."""
    level = levels[depth]
    ranks = level.ranks(price)
    for a in (2 * i, 2 * i + 1):
        for b in (2 * j, 2 * j + 1):
            if not leaf[depth][a, b]:
                _descend(A, levels, leaf, price, depth + 1, a, b, blocks)
            elif ranks[a, b]:
                top, left = int(level.rows[a]), int(level.cols[b])
                part = A[top : level.rows[a + 1], left : level.cols[b + 1]]
                blocks += tile_blocks(part, int(ranks[a, b]), top, left)
