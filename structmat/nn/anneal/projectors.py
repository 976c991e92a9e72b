"""Projections of a dense array onto the structures that layers learn, by kind."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from structmat._array import Array, namespace, to_numpy
from structmat.intervals import IntArray
from structmat.matrices import GBLR
from structmat.nn.anneal.grouped import project_groups
from structmat.nn.anneal.projected import (
    Projected,
    balanced,
    energy_of,
    in_given_order,
    missed,
    named_order,
    nearest,
)
from structmat.nn.structured import devices
from structmat.project.order import column_order, reordered
from structmat.project.pursuit import pursue
from structmat.project.ranks import project_rank, project_tile_ranks
from structmat.project.runs import project_runs
from structmat.project.subsets import Subset, pursue_subsets, sample_left, subset_orders
from structmat.project.tiles import lengths, project_tiles

#: Multiple of the budget down to which a GBLR weight is a set of runs, and blocks below.
BLOCKS_FROM = 3.0
#: Multiplications that a run counts beside its own: without them runs would be single entries.
RUN_CHARGE = 1.0
#: Multiplications that a block counts beside its own where the structure is plain: without them
#: small blocks would stand for the noise.
PLAIN_CHARGE = 2.0
#: Rows and columns of a tile of low rank, about.
TILE = 16
#: Share of the energy that blocks may leave where the structure of a weight is plain.
PLAIN = 0.05
#: Multiple of that share up to which a sample leaves the question open.
DOUBT = 2.0
#: Entries of a weight up to which orders come from blocks on subsets.
ORDERED_ENTRIES = 2**21
#: Energies of about this share of the cap count whole in the likeness of columns.
_LIKENESS = 1.6


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of projections.

    Attributes
    ----------
    charge : float
        Multiplications that a block counts beside its own.
    orders : bool
        Whether rows and columns may be reordered.
    tile : int, optional
        Rows and columns of tiles; by default chosen by the budget.
    group : int, optional
        Outputs that share their windows of inputs; by default each has runs of its own, and
        blocks later.
    """

    charge: float = 0.0
    orders: bool = True
    tile: int | None = None
    group: int | None = None


def searched(W: torch.Tensor) -> Array:
    """A weight as `project` takes it: on its device, or for the CPU in NumPy.

    Apple's devices have no double precision, in which energies are added up.
    """
    stays = devices.is_apart(W.device) and W.device.type != "mps"
    return W if stays else W.cpu().numpy()


def project(
    kind: str, W: Array, cap: int, budget: int, last: Projected, options: Options
) -> Projected:
    """Nearest structure of a kind that costs at most `cap`, on the way to `budget`.

    Parameters
    ----------
    kind : str
    W : array (m, n)
        Of any library. Runs and tiles are found where it is; what else is searched is searched
        on the host.
    cap, budget : int
        Multiplications now, and at the end.
    last : Projected
        The present structure, from which searches start.
    options : Options
    """
    W = np.ascontiguousarray(W) if isinstance(W, np.ndarray) else W
    return _PROJECTORS[kind](W, cap, budget, last, options)


def _gblr(W: Array, cap: int, budget: int, last: Projected, options: Options) -> Projected:
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
        if W.size <= ORDERED_ENTRIES:
            subsets = pursue_subsets(W, budget, charge=options.charge)
            orders.append(subset_orders(subsets, W.shape))
    first = min(cap, budget)
    made = [_blocks(W, first, o, last, options, thorough=cap <= budget) for o in orders]
    best = nearest(W, made)
    if cap > first:
        best = _blocks(W, cap, best.order, best, options, thorough=False)
    return best


def _is_empty(W: Array) -> bool:
    return 0 in W.shape


def _plain(
    W: Array,
    budget: int,
    given: tuple[IntArray, IntArray],
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


def _tours(energy: Array, cap: int, last: Projected, *, rows: bool) -> tuple[IntArray, IntArray]:
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


def _runs(W: Array, cap: int, order: tuple[IntArray, IntArray], price: float | None) -> Projected:
    ordered = reordered(W, *order)
    kept, price = project_runs(ordered * ordered, cap, price=price, charge=RUN_CHARGE)
    support = to_numpy(reordered(kept, *map(np.argsort, order)))
    return Projected(cost=int(support.sum()), support=support, price=price, **named_order(order))


def _blocks(
    W: NDArray,
    cap: int,
    order: tuple[IntArray, IntArray],
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


def _block_sparse(W: Array, cap: int, budget: int, last: Projected, options: Options) -> Projected:
    side = options.tile or last.side or tile_side(W.shape, budget)
    kept = np.array(to_numpy(project_tiles(W * W, cap, side)))
    return Projected(cost=int(kept.sum()), support=kept, side=side)


def tile_side(shape: tuple[int, int], budget: int) -> int:
    """Side of learned tiles: the largest power of two that leaves two tiles a row and a column.

    Examples
    --------
    >>> tile_side((256, 256), 3276), tile_side((1024, 1024), 52428)
    (4, 16)
    """
    side = 16
    while side > 1 and budget < 2 * side * max(shape):
        side //= 2
    return side


def _block_low_rank(
    W: Array, cap: int, budget: int, last: Projected, options: Options
) -> Projected:
    heights, widths = (
        _even(n, TILE) if options.tile is None else lengths(n, options.tile).tolist()
        for n in W.shape
    )
    matrix = project_tile_ranks(to_numpy(W), cap, heights, widths)
    live = np.zeros((len(heights), len(widths)), bool)
    live[matrix.places[:, 0], matrix.places[:, 1]] = matrix.ranks != 0
    support = np.repeat(np.repeat(live, heights, axis=0), widths, axis=1)
    return Projected(cost=matrix.cost, support=support, matrix=balanced(matrix))


def _even(n: int, size: int) -> list[int]:
    """Sizes of about `size` that add up to n."""
    parts = max(1, round(n / size))
    return np.diff([i * n // parts for i in range(parts + 1)]).tolist()


def _low_rank(W: Array, cap: int, budget: int, last: Projected, options: Options) -> Projected:
    """The final rank at once: a weight has no places to learn, and factors train best early."""
    matrix = project_rank(to_numpy(W), budget)
    return Projected(
        cost=matrix.cost, support=np.ones(W.shape, bool), matrix=balanced(matrix), is_final=True
    )


_PROJECTORS: dict[str, Callable[[Array, int, int, Projected, Options], Projected]] = {
    "gblr": _gblr,
    "block_sparse": _block_sparse,
    "block_low_rank": _block_low_rank,
    "low_rank": _low_rank,
}
