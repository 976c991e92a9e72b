"""Parts of runs that what is left of a cap holds."""

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, namespace, to_numpy


def filling(energy: Array, kept: Array, beyond: Array, left: int) -> NDArray[np.bool_]:
    """Mask of the parts of `beyond` outside of `kept` that `left` more multiplications hold."""
    xp, (m, n) = namespace(energy), kept.shape
    flat = xp.reshape(kept, (-1,))
    at = xp.nonzero(xp.reshape(beyond & ~kept, (-1,)))[0]
    values = to_numpy(xp.take(xp.reshape(energy, (-1,)), at))
    before = to_numpy(xp.take(flat, xp.maximum(at - 1, xp.zeros_like(at))))
    after = to_numpy(xp.take(flat, xp.minimum(at + 1, xp.full_like(at, m * n - 1))))
    places, mask = to_numpy(at), np.zeros(m * n, np.bool_)
    column = places % n
    before, after = before & (column > 0), after & (column < n - 1)
    mask[places[_taken(places, column, values, after & ~before, left)]] = True
    return mask.reshape(m, n)


def _taken(
    places: NDArray,
    column: NDArray,
    values: NDArray,
    after: NDArray[np.bool_],
    left: int,
) -> NDArray[np.int64]:
    """Indices of the entries to take: whole stretches by energy an entry, one cut.

    The cut stretch loses its beginning where `after` is true of its last entry: then a run
    follows that is kept already, and none goes before.
    """
    begins = np.flatnonzero((np.diff(places, prepend=-2) > 1) | (column == 0))
    if not begins.size:
        return begins
    ends = np.append(begins[1:], len(places))
    cost = ends - begins
    density = np.add.reduceat(values.astype(np.float64), begins) / cost
    order = np.argsort(-density, kind="stable")
    total = np.cumsum(cost[order])
    whole = order[total <= left]
    found = [np.arange(begins[k], ends[k]) for k in whole]
    if len(whole) < len(order):
        k, spare = order[len(whole)], left - int(cost[whole].sum())
        first = ends[k] - spare if after[ends[k] - 1] else begins[k]
        found.append(np.arange(first, first + spare))
    return np.concatenate(found)
