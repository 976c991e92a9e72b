"""Windows of inputs, each shared by a group of rows, that hold the most energy under a cap."""

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import (
    Array,
    device,
    from_numpy,
    namespace,
    on_operand_device,
    to_numpy,
)
from structmat.errors import InputError
from structmat.project.arguments import as_cap, as_energy, as_price, summable
from structmat.project.runs import runs_of_cells
from structmat.project.tiles import affordable, cell_sums, lengths, spread


@on_operand_device
def project_windows(
    energy: Any,
    cap: int,
    group: int,
    grain: int,
    *,
    price: float | None = None,
    charge: float = 1.0,
) -> tuple[NDArray[np.bool_] | Array, float]:
    """Windows of columns for groups of rows that hold the most energy under a cap.

    Each `group` consecutive rows have the same windows, which begin and end at multiples of
    `grain` columns or at the last column. A window of w columns costs w multiplications for
    each row. The last group has the rows that are left.

    Parameters
    ----------
    energy : array, shape (m, n)
        Nonnegative numbers, of any library.
    cap : int
        Most multiplications of all windows together.
    group, grain : int
        Rows of a group, and columns of the shortest window; at least 1.
    price : float, optional
        First price to try, such as that of a similar array and cap.
    charge : float, default 1
        Grains that a window is charged for beyond its cost, which makes windows few and long.

    Returns
    -------
    kept : array of bool, shape (m, n)
        True on the windows, in the library and on the device of `energy`.
    price : float
        Energy that a multiplication has to hold.

    Raises
    ------
    InputError
        If an energy is negative, NaN or infinite, `cap` is no integer of at least 0, `group` or
        `grain` none of at least 1, or `price` or `charge` is negative or not finite.

    Notes
    -----
    Energies are averaged over cells of a group and a grain, and rows of cells are cut into runs
    as `project_runs` cuts them. Single cells of most energy take what that leaves of the cap.
    O(m n).

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.array([[9.0, 8.0, 0.0, 0.0, 7.0], [1.0, 0.0, 6.0, 5.0, 0.0]])
    >>> kept, price = project_windows(energy, 4, 2, 1)
    >>> kept.astype(int)
    array([[1, 1, 0, 0, 0],
           [1, 1, 0, 0, 0]])
    """
    (energy, most), cap = as_energy(energy), as_cap(cap)
    for name, size in (("group", group), ("grain", grain)):
        if not isinstance(size, numbers.Integral) or size < 1:
            raise InputError(f"{name} = {size!r}; expected an integer of at least 1")
    first = None if price is None else as_price(price)
    charge = as_price(charge, name="charge")
    xp, place, (m, n) = namespace(energy), device(energy), energy.shape
    if most == 0 or cap == 0:
        return xp.zeros((m, n), dtype=xp.bool, device=place), most
    cell = int(min(group, m)), int(min(grain, n))
    areas = np.outer(lengths(m, cell[0]), lengths(n, cell[1]))
    energy, power = summable(energy, most, cell[0] * cell[1])
    first = None if first is None else first * power
    sizes = xp.astype(from_numpy(areas, xp, place), energy.dtype)
    means = cell_sums(energy, cell) / sizes
    kept, price = runs_of_cells(means, float(xp.max(means)), cap, first, charge, areas)
    more = _rest(to_numpy(means), to_numpy(kept), areas, cap)
    return spread(kept | from_numpy(more, xp, place), cell, (m, n)), price / power


def _rest(
    means: NDArray, kept: NDArray[np.bool_], areas: NDArray[np.int64], cap: int
) -> NDArray[np.bool_]:
    """Mask of the cells that what is left of the cap holds: a single cell may be a large part."""
    left = cap - int(areas[kept].sum())
    energies = np.where(kept, 0, means * areas).astype(np.float64).reshape(-1)
    return affordable(energies, areas.reshape(-1), left).reshape(kept.shape)
