"""Whole tiles that hold the most energy under a cap on their entries."""

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, device, from_numpy, namespace, on_operand_device, to_numpy
from structmat.errors import InputError
from structmat.project.arguments import as_cap, as_energy, summable


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
    side = int(min(side, max(energy.shape)))
    heights, widths = (lengths(size, side) for size in energy.shape)
    energy, _ = summable(energy, most, side**2)
    sums = to_numpy(cell_sums(energy, (side, side))).astype(np.float64)
    areas = np.outer(heights, widths)
    chosen = affordable(sums.reshape(-1), areas.reshape(-1), cap).reshape(areas.shape)
    return spread(from_numpy(chosen, xp, device(energy)), (side, side), energy.shape)


def lengths(size: int, side: int) -> NDArray[np.int64]:
    """Lengths of the pieces of `size` entries: all of `side`, and what is left.

    Examples
    --------
    >>> lengths(10, 4)
    array([4, 4, 2])
    """
    return np.minimum(side, size - np.arange(0, size, side))


def cell_sums(energy: Array, cell: tuple[int, int]) -> Array:
    """Sums over cells of a height and a width, on their grid; those at the ends are cut."""
    xp, (high, wide), (m, n), place = namespace(energy), cell, energy.shape, device(energy)
    below = xp.zeros((-m % high, n), dtype=energy.dtype, device=place)
    energy = xp.concat([energy, below])
    beside = xp.zeros((energy.shape[0], -n % wide), dtype=energy.dtype, device=place)
    energy = xp.concat([energy, beside], axis=1)
    grid = energy.shape[0] // high, high, energy.shape[1] // wide, wide
    return xp.sum(xp.reshape(energy, grid), axis=(1, 3))


def spread(chosen: Array, cell: tuple[int, int], shape: tuple[int, int]) -> Array:
    """Mask (m, n) of the cells that are chosen on their grid."""
    xp, (high, wide), (k, l) = namespace(chosen), cell, chosen.shape
    cells = xp.broadcast_to(chosen[:, None, :, None], (k, high, l, wide))
    return xp.reshape(cells, (k * high, l * wide))[: shape[0], : shape[1]]


def affordable(
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
