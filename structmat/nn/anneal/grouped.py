"""Projection onto windows of inputs that groups of outputs share."""

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray
from structmat.nn.anneal.projected import (
    Projected,
    in_given_order,
    missed,
    named_order,
    nearest,
)
from structmat.nn.anneal.sides import grain_of
from structmat.project.order import column_order
from structmat.project.regroup import regrouped
from structmat.project.tiles import cell_sums, lengths
from structmat.project.windows import project_windows

#: Times that rows are put into other groups, and columns into other grains.
ROUNDS = 3
#: Energies of about this share of the cap count whole in the likeness of lines.
_LIKENESS = 1.6
#: Orders of rows and of columns.
Order = tuple[IntArray, IntArray]


def project_groups(W: NDArray, cap: int, group: int, last: Projected, *, orders: bool) -> Projected:
    """Windows of the most energy, in the given order, the last one, or a new one."""
    energies, (m, n) = W * W, W.shape
    tried: list[Order] = [(np.arange(m), np.arange(n))]
    reorders = orders and min(W.size, cap) > 0
    if reorders:
        tried.append(_tours(energies, cap, group, last))
        if last.row_order is not None or last.col_order is not None:
            tried.append(last.order)
    made: list[Projected] = []
    for order in tried:
        price = made[0].price if made else last.price
        made.append(_windows(energies, cap, group, order, price))
    best = nearest(W, made)
    for _ in range(ROUNDS if reorders else 0):
        found = _windows(energies, cap, group, _regrouped(energies, group, best), best.price)
        if missed(W, found) >= missed(W, best):
            break
        best = found
    return best


def _regrouped(energies: NDArray, group: int, found: Projected) -> Order:
    """Rows in the groups, and columns in the grains, that hold most of them as windows stand."""
    (rows, cols), grain = found.order, grain_of(group)
    live = found.support[rows][:, cols][::group]
    rows = rows[regrouped(energies[rows][:, cols], live, group)]
    of_groups = cell_sums(energies[rows][:, cols], (min(group, len(rows)), 1))
    return rows, cols[regrouped(of_groups.T, live[:, ::grain].T, grain)]


def _windows(
    energies: NDArray, cap: int, group: int, order: Order, price: float | None
) -> Projected:
    rows, cols = order
    kept, price = project_windows(energies[rows][:, cols], cap, group, grain_of(group), price=price)
    return Projected(
        cost=int(kept.sum()),
        support=in_given_order(np.asarray(kept), *order),
        price=price,
        **named_order(order),
    )


def _tours(energies: NDArray, cap: int, group: int, last: Projected) -> Order:
    """Order of rows in which those with like inputs form groups, and of columns for the groups."""
    rows = column_order(energies.T, _price(energies, cap), start=last.row_order)
    m = energies.shape[0]
    means = cell_sums(energies[rows], (min(group, m), 1)) / lengths(m, group)[:, None]
    return rows, column_order(means, _price(means, cap / group), start=last.col_order)


def _price(energies: NDArray, cap: float) -> float:
    """About the energy of an entry that is just worth its place under a cap."""
    count = min(max(1, round(cap / _LIKENESS)), energies.size)
    price = float(np.partition(energies, energies.size - count, axis=None)[-count])
    return max(price, float(np.finfo(energies.dtype).tiny))
