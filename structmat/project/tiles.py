"""Whole tiles that hold the most energy under a cap on their entries."""

import numbers
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, device, from_numpy, namespace, on_operand_device, to_numpy
from structmat.errors import InputError
from structmat.project.arguments import as_cap, as_energy


@on_operand_device
def project_tiles(energy: Any, cap: int, side: int) -> NDArray[np.bool_] | Array:
    """Tiles of `side` rows and columns that hold the most energy; a tile costs its entries.

    Tiles are taken by their mean energy while they fit. Those at the lower and the right edge
    are cut and cost what is left of them; tiles without energy stay out.

    Parameters
    ----------
    energy : array, shape (m, n)
        Nonnegative numbers, of any library.
    cap : int
        Most entries of all tiles together.
    side : int
        Rows and columns of a tile, at least 1.

    Returns
    -------
    kept : array of bool, shape (m, n)
        True on the tiles, in the library and on the device of `energy`.

    Raises
    ------
    InputError
        If an energy is negative, NaN or infinite, if `cap` is no integer of at least 0, or if
        `side` is no integer of at least 1.

    Notes
    -----
    O(m n), and a sort of the tiles.

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.array([[1.0, 2.0, 4.0], [0.0, 1.0, 3.0], [5.0, 0.0, 1.0]])
    >>> project_tiles(energy, 4, 2).astype(int)
    array([[0, 0, 1],
           [0, 0, 1],
           [1, 1, 0]])
    """
    (energy, most), cap = as_energy(energy), as_cap(cap)
    if not isinstance(side, numbers.Integral) or side < 1:
        raise InputError(f"side = {side!r}; expected an integer of at least 1")
    xp = namespace(energy)
    if most == 0:
        return xp.zeros(energy.shape, dtype=xp.bool, device=device(energy))
    (m, n), side = energy.shape, int(min(side, max(energy.shape)))
    heights, widths = (np.minimum(side, size - np.arange(0, size, side)) for size in (m, n))
    sums = to_numpy(_sums(energy, side, xp)).astype(np.float64)
    areas = np.outer(heights, widths)
    chosen = _affordable(sums.reshape(-1), areas.reshape(-1), cap).reshape(areas.shape)
    tiles = from_numpy(chosen[:, None, :, None], xp, device(energy))
    k, l = chosen.shape
    return xp.reshape(xp.broadcast_to(tiles, (k, side, l, side)), (k * side, l * side))[:m, :n]


def _sums(energy: Array, side: int, xp: ModuleType) -> Array:
    """Energy of each tile, on the grid."""
    (m, n), place = energy.shape, device(energy)
    below = xp.zeros((-m % side, n), dtype=energy.dtype, device=place)
    energy = xp.concat([energy, below])
    beside = xp.zeros((energy.shape[0], -n % side), dtype=energy.dtype, device=place)
    energy = xp.concat([energy, beside], axis=1)
    grid = energy.shape[0] // side, side, energy.shape[1] // side, side
    return xp.sum(xp.reshape(energy, grid), axis=(1, 3))


def _affordable(
    energies: NDArray[np.float64], costs: NDArray[np.int64], cap: int
) -> NDArray[np.bool_]:
    """Mask of the items taken by energy a multiplication while they fit under a cap."""
    order = np.argsort(-energies / costs, kind="stable")
    waiting = order[energies[order] > 0]
    taken = np.zeros(len(energies), np.bool_)
    while waiting.size:
        fits = np.cumsum(costs[waiting]) <= cap
        taken[waiting[fits]] = True
        cap -= int(costs[waiting[fits]].sum())
        waiting = waiting[~fits]
        waiting = waiting[costs[waiting] <= cap]
    return taken
