"""Before an elimination of tiles: their order, and a forecast of its work and memory."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from structmat.intervals import IntArray, offsets
from structmat.solvers.elimination.tile_arithmetic import Thin, tile_rank
from structmat.solvers.elimination.tile_form import TileForm


class Forecast(NamedTuple):
    """Work and memory of an elimination whose ranks do not grow.

    Attributes
    ----------
    multiplications : float
    entries : float
        Stored scalars of the factors.
    operations : int
        Products and decompositions of tiles.
    """

    multiplications: float
    entries: float
    operations: int


def forecast(form: TileForm) -> Forecast:
    """Forecast of an elimination in the order of the form, fill included."""
    sizes, count = form.sizes.astype(np.float64), len(form.sizes)
    ranks, thin = np.zeros((count, count)), np.ones((count, count), bool)
    for at, tile in form.tiles.items():
        ranks[at], thin[at] = tile_rank(tile), isinstance(tile, Thin)
    work = entries = 0.0
    operations = 0
    for k, p in enumerate(sizes):
        rows = k + 1 + np.flatnonzero(ranks[k + 1 :, k])
        cols = k + 1 + np.flatnonzero(ranks[k, k + 1 :])
        left, right = ranks[rows, k], ranks[k, cols]
        narrow = np.minimum.outer(left, right)
        work += p**3 / 3 + p * p * (left.sum() + right.sum()) / 2
        work += float(sizes[rows] @ narrow @ sizes[cols])
        for side, part in ((thin[rows, k], rows), (thin[k, cols], cols)):
            work += p * sizes[part[side]] @ np.minimum(sizes[part[side]], p)
        entries += p * p
        for rank, side, part in ((left, thin[rows, k], rows), (right, thin[k, cols], cols)):
            q = sizes[part]
            entries += np.where(side, np.minimum(rank * (p + q), p * q), p * q).sum()
        operations += 1 + 3 * (len(rows) + len(cols)) + len(rows) * len(cols)
        ranks[np.ix_(rows, cols)] = np.maximum(ranks[np.ix_(rows, cols)], narrow)
    return Forecast(float(work), float(entries), operations)


def ordered(form: TileForm) -> tuple[TileForm, IntArray | None]:
    """The form with its tiles in the order of less work, and the rows in that order.

    Orders are the given one and that of reverse Cuthill-McKee on the places of the tiles. The
    second result is None for the given order.
    """
    count = len(form.sizes)
    if len(form.tiles) == count * count or count < 3:
        return form, None
    places = np.asarray(sorted(form.tiles), np.int64).reshape(-1, 2).T
    both = np.concatenate([places, places[::-1]], 1)
    pattern = csr_array((np.ones(both.shape[1]), tuple(both)), shape=(count, count))
    order = reverse_cuthill_mckee(pattern, symmetric_mode=True).astype(np.int64)
    turned = reordered(form, order)
    if forecast(turned).multiplications >= forecast(form).multiplications:
        return form, None
    return turned, tile_rows(form, order)


def reordered(form: TileForm, order: IntArray) -> TileForm:
    """The form with tile ``order[k]`` as the k-th, in rows and columns."""
    place = np.argsort(order)
    tiles = {(int(place[i]), int(place[j])): tile for (i, j), tile in form.tiles.items()}
    return replace(form, tiles=tiles, begins=offsets(form.sizes[order]))


def tile_rows(form: TileForm, order: IntArray) -> NDArray[np.int64]:
    """Rows of the tiles in an order."""
    parts = [np.arange(form.begins[i], form.begins[i + 1]) for i in order]
    return np.concatenate([np.zeros(0, np.int64), *parts])
