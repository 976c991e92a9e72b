"""Ranks of all rectangles of a matrix that meet one goal together."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress.goal import Goal
from structmat.compress.reduce.boxes import Spectra
from structmat.intervals import IntArray, offsets
from structmat.kernels.layouts.rectangles import DENSE

#: Halvings of the interval of prices.
STEPS = 60


class Choice(NamedTuple):
    """Rank of each rectangle, -1 for a dense one, and the cost and missed energy of all."""

    rank: IntArray
    cost: int
    missed: float


class Values(NamedTuple):
    """Singular values as a choice needs them."""

    #: Squares, those of roundings as zero, and the rectangle of each.
    energy: NDArray[np.float64]
    owner: IntArray
    #: Multiplications of a rank, and of all entries, of each rectangle.
    step: IntArray
    whole: IntArray
    #: Rectangles that stay dense.
    fixed: NDArray[np.bool_]


def values_of(parts: list[Spectra]) -> Values:
    """Values of several matrices together."""
    begin = offsets(np.asarray([part.count.size for part in parts]))
    none = np.zeros(0)
    triangles = [p.boxes.of.is_triangular & p.boxes.of.is_dense for p in parts]
    whole = np.zeros(0, np.int64)
    return Values(
        np.concatenate([none, *(np.where(p.is_noise, 0.0, p.energy) for p in parts)]),
        np.concatenate([whole, *(p.owner + b for p, b in zip(parts, begin[:-1], strict=True))]),
        np.concatenate([whole, *(p.boxes.step for p in parts)]),
        np.concatenate([whole, *(p.boxes.whole for p in parts)]),
        np.concatenate([none.astype(bool), *triangles]),
    )


def chosen(values: Values, goal: Goal) -> Choice:
    """Ranks of least cost for an error, or of least error for a cost.

    At a price of energy in multiplications each rectangle has its best rank, or is better stored
    dense. The price is the one that meets the goal; ranks between it and the next one are shared
    out one by one. Without room in the goal nothing is lost but roundings.
    """
    lossless = _at(values, 0.0)
    if goal.max_cost is not None and lossless.cost <= goal.max_cost:
        return lossless
    if goal.max_error is not None and goal.max_error == 0.0:
        return lossless
    steps = np.maximum(values.step, 1)[values.owner]
    high = 2.0 * float((values.energy / steps).max(initial=0.0))
    if high == 0.0:
        return lossless
    low = 1e-36 * high
    near, far = (lossless, _at(values, high))
    for _ in range(STEPS):
        price = (low * high) ** 0.5
        found = _at(values, price)
        if _is_within(found, goal) == (goal.max_error is not None):
            low, near = price, found
        else:
            high, far = price, found
    return _between(values, near, far, goal)


def _is_within(choice: Choice, goal: Goal) -> bool:
    if goal.max_cost is not None:
        return choice.cost <= goal.max_cost
    return choice.missed <= (goal.max_error or 0.0) ** 2


def _at(values: Values, price: float) -> Choice:
    """The best ranks where energy has this price."""
    energy, owner, step, whole, fixed = values
    kept = energy > price * step[owner]
    rank = np.bincount(owner[kept], minlength=step.size)
    missed = np.bincount(owner, np.where(kept, 0.0, energy), minlength=step.size)
    if price > 0:
        dense = fixed | (whole < rank * step + missed / price)
    else:
        dense = fixed | (whole < rank * step)
    return _choice(values, np.where(dense, DENSE, rank))


def _choice(values: Values, rank: IntArray) -> Choice:
    cost = np.where(rank == DENSE, values.whole, rank * values.step)
    return Choice(rank, int(cost.sum()), float(values.energy[_left_out(values, rank)].sum()))


def _left_out(values: Values, rank: IntArray) -> NDArray[np.bool_]:
    """Mask of the values beyond the ranks."""
    begin = np.searchsorted(values.owner, np.arange(rank.size))
    place = np.arange(values.owner.size) - begin[values.owner]
    return np.asarray((rank[values.owner] != DENSE) & (place >= rank[values.owner]))


def _between(values: Values, near: Choice, far: Choice, goal: Goal) -> Choice:
    """Ranks between two choices of neighbouring prices, `far` the one that keeps less."""
    low = (near.rank != DENSE) & (far.rank != DENSE)
    start = near if goal.max_error is not None else far
    open_ = low[values.owner] & (_left_out(values, near.rank) != _left_out(values, far.rank))
    at = np.flatnonzero(open_)
    density = values.energy[at] / values.step[values.owner[at]]
    rank = start.rank.copy()
    if goal.max_error is not None:
        order = at[::-1][np.argsort(density[::-1], kind="stable")]
        room = goal.max_error**2 - start.missed
        count = int(np.searchsorted(np.cumsum(values.energy[order]), room, side="right"))
        np.subtract.at(rank, values.owner[order[:count]], 1)
    else:
        order = at[np.argsort(-density, kind="stable")]
        room = (goal.max_cost or 0) - start.cost
        price = np.cumsum(values.step[values.owner[order]])
        count = int(np.searchsorted(price, room, side="right"))
        np.add.at(rank, values.owner[order[:count]], 1)
    found = _choice(values, rank)
    return found if _is_within(found, goal) else start
