"""Projection onto row runs while the cap is wide, and onto rank-one blocks below."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, namespace, to_numpy
from structmat.intervals import IntArray
from structmat.matrices import GBLR
from structmat.nn.anneal.grouped import project_groups
from structmat.nn.anneal.projected import (
    Options,
    Projected,
    energy_of,
    in_given_order,
    missed,
    named_order,
    nearest,
)
from structmat.project.order import column_order
from structmat.project.pursuit import pursue
from structmat.project.reordered import reordered
from structmat.project.runs import project_runs
from structmat.project.subsets import Subset, pursue_subsets, sample_left, subset_orders

#: Multiple of the budget down to which a GBLR weight is a set of runs, and blocks below.
BLOCKS_FROM = 3.0
#: Multiplications that a run counts beside its own: without them runs would be single entries.
RUN_CHARGE = 1.0
#: Multiplications that a block counts beside its own where the structure is plain: without them
#: small blocks would stand for the noise.
PLAIN_CHARGE = 2.0
#: Share of the energy that blocks may leave where the structure of a weight is plain.
PLAIN = 0.05
#: Multiple of that share up to which a sample leaves the question open.
DOUBT = 2.0
#: Entries of a weight up to which blocks on subsets tell whether its structure is plain.
ORDERED_ENTRIES = 2**21
#: Entries of a weight up to which blocks are searched in each order.
SMALL_ENTRIES = 2**16
#: Part of the cap whose blocks tell the better order beyond that.
FIRST_BLOCKS = 8
#: Share of the energy that runs miss by which another order is clearly better for them. With both
#: rules the order was that of a full search for 19 weights of 512 rows, and 1.3 % of the energy
#: that blocks leave was lost at most, .1 % on average, for 32 of 200 rows.
CLEARLY = 0.01
#: Energies of about this share of the cap count whole in the likeness of columns.
_LIKENESS = 1.6
#: Orders of rows and of columns.
Order = tuple[IntArray, IntArray]


def project_gblr(W: Array, cap: int, budget: int, last: Projected, options: Options) -> Projected:
    """Row runs while the cap is wide, and then rank-one blocks; each in the best order.

    Blocks come earlier where they hold nearly all of the weight within the budget: then the
    structure is plain, and runs would only hide it.
    """
    if options.group is not None:
        return project_groups(to_numpy(W), cap, options.group, last, orders=options.orders)
    given = np.arange(W.shape[0]), np.arange(W.shape[1])
    if isinstance(last.matrix, GBLR):
        cap = min(cap, max(budget, last.cost))
        return _blocks(to_numpy(W), cap, last.order, last, options, thorough=cap <= budget)
    if cap > BLOCKS_FROM * budget:
        found = _plain(W, budget, given, last, options)
        if found is not None:
            return found
        made = [_runs(W, cap, given, last.price)]
        if options.orders and not _is_empty(W):
            order = _tours(W * W, cap, last, rows=False)
            made.append(_runs(W, cap, order, made[0].price))
        return nearest(W, made)
    orders, W = [given], to_numpy(W)
    if options.orders and W.size:
        orders.append(_tours(W * W, cap, last, rows=True))
    first = min(cap, budget)
    hopeful = _hopeful(W, first, orders, last, options)
    best = nearest(
        W, [_blocks(W, first, o, last, options, thorough=cap <= budget) for o in hopeful]
    )
    if cap > first:
        best = _blocks(W, cap, best.order, best, options, thorough=False)
    return best


def _hopeful(
    W: NDArray, cap: int, orders: list[Order], last: Projected, options: Options
) -> list[Order]:
    """The order in which the first blocks hold most, and that of the runs if these differ much.

    Blocks of a part of the cap cost a fifth of a search, and runs nearly nothing.
    """
    if len(orders) == 1 or W.size <= SMALL_ENTRIES:
        return orders
    scouts = [_blocks(W, cap // FIRST_BLOCKS, o, last, options, thorough=False) for o in orders]
    runs = [_runs(W, cap, orders[0], None)]
    runs += [_runs(W, cap, order, runs[0].price) for order in orders[1:]]
    of_blocks, of_runs = (
        min(range(len(orders)), key=[missed(W, one) for one in made].__getitem__)
        for made in (scouts, runs)
    )
    differ = missed(W, runs[of_runs]) < (1 - CLEARLY) * missed(W, runs[of_blocks])
    return [orders[of_blocks], orders[of_runs]] if differ else [orders[of_blocks]]


def _is_empty(W: Array) -> bool:
    return 0 in W.shape


def _plain(
    W: Array,
    budget: int,
    given: Order,
    last: Projected,
    options: Options,
) -> Projected | None:
    """Blocks within the budget, if they hold nearly all of the weight."""
    if not options.orders or _is_empty(W) or math.prod(W.shape) > ORDERED_ENTRIES:
        return None
    options = replace(options, charge=max(options.charge, PLAIN_CHARGE))
    if sample_left(W, budget, charge=options.charge) > DOUBT * PLAIN:
        return None
    W = to_numpy(W)
    least = PLAIN * energy_of(W)
    subsets = pursue_subsets(W, budget, charge=options.charge)
    if _left(W, subsets) > least:
        return None
    orders = [given, subset_orders(subsets, W.shape)]
    made = [_blocks(W, budget, o, last, options, thorough=True) for o in orders]
    found = nearest(W, made)
    return found if missed(W, found) <= least else None


def _left(W: NDArray, subsets: list[Subset]) -> float:
    """Energy that blocks on subsets leave."""
    left = W.astype(np.float64)
    for block in subsets:
        left[np.ix_(block.rows, block.cols)] -= np.outer(block.u, block.v)
    return energy_of(left)


def _tours(energy: Array, cap: int, last: Projected, *, rows: bool) -> Order:
    """Orders in which rows and columns that are used together are neighbours."""
    xp = namespace(energy)
    price = max(_exceeded(energy, cap / _LIKENESS), float(xp.finfo(energy.dtype).smallest_normal))
    col_order = column_order(energy, price, start=last.col_order)
    if not rows:
        return np.arange(energy.shape[0]), col_order
    return column_order(xp.matrix_transpose(energy), price, start=last.row_order), col_order


def _exceeded(energy: Array, count: float) -> float:
    """Least of the `count` largest energies."""
    xp, size = namespace(energy), math.prod(energy.shape)
    at = size - min(max(1, round(count)), size)
    if isinstance(energy, np.ndarray):
        return float(np.partition(energy, at, axis=None)[at])
    return float(xp.sort(xp.reshape(energy, (-1,)))[at])


def _runs(W: Array, cap: int, order: Order, price: float | None) -> Projected:
    ordered = reordered(W, *order)
    kept, price = project_runs(ordered * ordered, cap, price=price, charge=RUN_CHARGE)
    support = to_numpy(reordered(kept, *map(np.argsort, order)))
    return Projected(cost=int(support.sum()), support=support, price=price, **named_order(order))


def _blocks(
    W: NDArray,
    cap: int,
    order: Order,
    last: Projected,
    options: Options,
    *,
    thorough: bool,
) -> Projected:
    rows, cols = order
    start = last.matrix if isinstance(last.matrix, GBLR) else None
    price = last.price if start is not None else None
    ordered, charge = W[rows][:, cols], options.charge if start is None else last.charge
    matrix, price = pursue(ordered, cap, start=start, price=price, charge=charge, thorough=thorough)
    while matrix.storage > W.size:  # trained contents have the room of the dense weight
        cap = cap * W.size // matrix.storage
        matrix, price = pursue(ordered, cap, price=price, charge=charge, thorough=thorough)
    covered, named = in_given_order(matrix.coverage() > 0, *order), named_order(order)
    return Projected(
        cost=matrix.cost, support=covered, matrix=matrix, price=price, charge=charge, **named
    )
