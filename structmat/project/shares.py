"""Ranks of tiles, shared out by the energy that a multiplication captures."""

import numpy as np
from numpy.typing import NDArray

from structmat.matrices.block_low_rank import DENSE


def rounding_of(A: NDArray, side: int) -> float:
    """Share of a singular value, or of the norm, that may be rounding in tiles of a side."""
    return float(np.finfo(A.dtype).eps) * side


def share_out(
    values: NDArray[np.float64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    rounding: float,
    *,
    cap: int | None = None,
    max_error: float = 0.0,
) -> tuple[NDArray[np.int64], int, float]:
    """Ranks of tiles with singular values (T, K), their cost, and the energy that they miss.

    A further rank of a p x q tile captures sigma^2 and costs p + q; storing the tile as it is
    captures the rest and costs p q less the cost of its ranks. The steps are taken in the order
    of energy per multiplication under a cap, or without one until the error is met.
    """
    energy = values**2
    step, area = heights + widths, heights * widths
    tail = np.cumsum(np.pad(energy, ((0, 0), (0, 1)))[:, ::-1], axis=1)[:, ::-1]
    turn, slope = _turning_points(tail, step, area)
    count = np.arange(tail.shape[1])
    # Column r < turn is rank r + 1, column r = turn is the jump to a dense tile.
    gain = np.where(count == turn[:, None], tail, np.pad(energy, ((0, 0), (0, 1))))
    price = np.where(count == turn[:, None], (area - turn * step)[:, None], step[:, None])
    density = np.where(count == turn[:, None], slope[:, None], gain / price)
    density = np.minimum.accumulate(density, axis=1)
    # Under a cap, rounding is not worth multiplications.
    floor = (rounding * values.max(initial=0.0)) ** 2 if cap is not None else 0.0
    # A step is worth taking only after all before it: the dense one is priced as such.
    worth = np.logical_and.accumulate(gain > floor, axis=1)
    tile, column = np.nonzero((count <= turn[:, None]) & worth)
    order = np.argsort(-density[tile, column], kind="stable")
    tile, column = tile[order], column[order]
    if cap is not None:
        taken = np.cumsum(price[tile, column]) <= cap
    else:
        left_out = np.cumsum(gain[tile, column][::-1])[::-1]
        taken = left_out > max_error**2
    tile, column = tile[taken], column[taken]
    ranks = np.bincount(tile, minlength=len(step))
    ranks[tile[column == turn[tile]]] = DENSE
    if cap is not None:
        _fill(ranks, energy, step, area, cap, floor)
    missed = float(np.where(ranks == DENSE, 0.0, tail[np.arange(len(step)), ranks]).sum())
    if missed <= rounding**2 * tail[:, 0].sum():
        missed = 0.0
    return ranks, int(_costs(ranks, step, area).sum()), missed


def _turning_points(
    tail: NDArray, step: NDArray[np.int64], area: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray]:
    """Rank from which a dense tile is the better next step, and that step's density.

    Energy captured against cost is concave in the rank; the line from the dense
    tile's point that touches this curve from above has the least slope.
    """
    left = area[:, None] - np.arange(tail.shape[1]) * step[:, None]
    slopes = np.where(left > 0, tail / np.maximum(left, 1), np.inf)
    turn = np.argmin(slopes, axis=1)
    return turn, slopes[np.arange(len(turn)), turn]


def _costs(ranks: NDArray, step: NDArray, area: NDArray) -> NDArray[np.int64]:
    return np.where(ranks == DENSE, area, ranks * step)


def _fill(
    ranks: NDArray[np.int64],
    energy: NDArray[np.float64],
    step: NDArray[np.int64],
    area: NDArray[np.int64],
    cap: int,
    floor: float,
) -> None:
    """Spend the multiplications left over on further ranks, best first, in place."""
    left = cap - int(_costs(ranks, step, area).sum())
    index = np.arange(len(step))
    # Tiles of zeros may have no singular values at all.
    while energy.shape[1]:
        next_gain = energy[index, np.minimum(ranks, energy.shape[1] - 1)]
        open_ = (ranks != DENSE) & (step <= left) & ((ranks + 1) * step < area)
        open_ &= (ranks < energy.shape[1]) & (next_gain > floor)
        if not open_.any():
            return
        best = int(np.argmax(np.where(open_, next_gain / step, -1.0)))
        ranks[best] += 1
        left -= int(step[best])
