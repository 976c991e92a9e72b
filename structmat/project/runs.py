"""Runs of rows that hold the most energy under a cap on their multiplications.

At a given price of a multiplication the best runs of a row follow from one scan, in which a
row remembers the best runs that hold its present entry and the best ones that do not. The
cost falls as the price rises, so a search finds the price for a cap. What is left of the cap
goes to parts of the runs that a slightly lower price would add.
"""

import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import (
    Array,
    device,
    from_numpy,
    is_numpy,
    namespace,
    on_operand_device,
    to_numpy,
)
from structmat.kernels.cpu.threads import num_threads, shared_out
from structmat.project.arguments import as_cap, as_energy, as_price
from structmat.project.compiled import compiled
from structmat.project.filling import filling
from structmat.project.scan import runs_at

#: Name of the device whose memory the compiled loops read.
HOST = "cpu"
#: Share of the cap at which the search for a price ends.
NEAR_CAP = 0.997
#: Share of the cap that interpolated prices aim at.
AIM = 0.9985
#: Ratio of the first two prices of a search, squared with each further one.
FIRST_STEP = 1.25
#: Ratio of two prices that are taken as equal: runs that both differ in are tied.
SAME_PRICE = 1 + 1e-6
#: Least price, as a share of the largest energy.
LEAST_PRICE = 1e-30
#: Most prices that are tried.
MOST_STEPS = 100
#: Most energies whose quantile gives the first price.
SAMPLE = 2**16
#: Entries a run, without neighbours in runs, that the first price assumes.
RUN_SHARE = 1.6
#: Entries of an array for which one more thread is worth its start.
THREAD_ENTRIES = 2**17


@on_operand_device
def project_runs(
    energy: Any, cap: int, *, price: float | None = None, charge: float = 1.0
) -> tuple[NDArray[np.bool_] | Array, float]:
    """Runs of rows that hold the most energy; a run of L entries costs L.

    A run is a stretch of one row; a stretch that leaves at the end and continues at the
    beginning counts as two. First come the runs of most energy less price at the price that
    is returned: no others of their cost and number, or less, hold more. What they leave of the
    cap, usually below 0.3 %, is filled with the best parts of runs for a lower price.

    Parameters
    ----------
    energy : array, shape (m, n)
        Nonnegative numbers, of any library. Compiled loops scan an array in the host's memory;
        elsewhere operations of the library scan it where it is.
    cap : int
        Most multiplications of all runs together.
    price : float, optional
        First price to try: that of a similar array and cap saves most of the search.
    charge : float, default 1
        Multiplications that a run is charged for beyond its cost, which makes runs few and long.
        Without it the runs are the single entries of most energy.

    Returns
    -------
    kept : array of bool, shape (m, n)
        True on the runs, in the library and on the device of `energy`.
    price : float
        Energy that a multiplication has to hold.

    Raises
    ------
    InputError
        If an energy is negative, NaN or infinite, if `cap` is no integer of at least 0, or if
        `price` or `charge` is negative or not finite.

    Notes
    -----
    O(m n) for each of about eight prices, or three from a good first one; one byte an entry
    beside the energies.

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.array([[9.0, 8.0, 0.0, 0.0, 7.0], [1.0, 0.0, 6.0, 5.0, 0.0]])
    >>> kept, price = project_runs(energy, 4)
    >>> kept.astype(int)
    array([[1, 1, 0, 0, 0],
           [0, 0, 1, 1, 0]])
    """
    (energy, most), cap = as_energy(energy), as_cap(cap)
    first = None if price is None else as_price(price)
    return runs_of_cells(energy, most, cap, first, as_price(charge, name="charge"))


def runs_of_cells(
    energy: Array,
    most: float,
    cap: int,
    first: float | None,
    charge: float,
    areas: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.bool_] | Array, float]:
    """Runs of checked energies, the largest of which is `most`.

    With `areas`, (m, n), an entry stands for a cell of as many multiplications, and its energy
    is that of each one; `charge` counts cells of the largest area.
    """
    xp, place = namespace(energy), device(energy)
    if cap == 0 or most == 0:
        return xp.zeros(energy.shape, dtype=xp.bool, device=place), most
    if str(place) == HOST:
        energy = to_numpy(energy)
    on_host = is_numpy(namespace(energy))
    rows = _CompiledRows(energy, charge) if on_host else _ArrayRows(energy, charge, xp)
    unit, cost_at = 1, rows.cost
    if areas is not None:
        unit = int(areas.max())
        cost_at = partial(_area, rows, areas)
    least = max(LEAST_PRICE * most, math.ulp(0.0))
    if first is None:
        first = _quantile(energy, cap / unit / RUN_SHARE)
    low, high, cost = _search(cost_at, cap, least, most, first)
    kept = rows.kept(high)
    if low is not None and cost < cap:
        more = filling(energy, kept, rows.kept(low), (cap - cost) // unit)
        kept = kept | from_numpy(more, namespace(energy), place)
    return (from_numpy(kept, xp, place) if isinstance(kept, np.ndarray) else kept), high


def _area(rows: "_CompiledRows | _ArrayRows", areas: NDArray[np.int64], price: float) -> int:
    """Multiplications of the best runs of cells at a price."""
    return int(areas[to_numpy(rows.kept(price))].sum())


class _CompiledRows:
    """Rows in memory, which compiled loops scan one by one."""

    def __init__(self, energy: NDArray, charge: float) -> None:
        self.energy, self.charge = np.ascontiguousarray(energy), charge
        self._threads = min(num_threads(), energy.size // THREAD_ENTRIES + 1)

    def cost(self, price: float) -> int:
        """Multiplications of the best runs at a price."""
        costs, opening = np.empty(len(self.energy), np.int64), self.charge * price
        self._scan(
            lambda first, last: _costs_of_rows(
                self.energy[first:last], price, opening, costs[first:last]
            )
        )
        return int(costs.sum())

    def kept(self, price: float) -> NDArray[np.bool_]:
        """Mask of the best runs at a price."""
        kept, opening = np.empty(self.energy.shape, np.bool_), self.charge * price
        self._scan(
            lambda first, last: _runs_of_rows(
                self.energy[first:last], price, opening, kept[first:last]
            )
        )
        return kept

    def _scan(self, work: Callable[[int, int], None]) -> None:
        shared_out(work, len(self.energy), self._threads)


class _ArrayRows:
    """Rows of any array library, all scanned at once."""

    def __init__(self, energy: Array, charge: float, xp: ModuleType) -> None:
        self.energy, self.charge, self.xp = energy, charge, xp

    def cost(self, price: float) -> int:
        """Multiplications of the best runs at a price."""
        return int(self.xp.sum(self.xp.astype(self.kept(price), self.xp.int64)))

    def kept(self, price: float) -> Array:
        """Mask of the best runs at a price."""
        return runs_at(self.energy, price, self.charge * price, self.xp)


@compiled
def _costs_of_rows(energy: NDArray, price: float, opening: float, costs: NDArray[np.int64]) -> None:
    """Entries of each row's best runs, added up."""
    m, n = energy.shape
    for i in range(m):
        difference, held, left_out = -opening, 0, 0
        for j in range(n):
            if difference <= -opening:  # a new run, rather than the one before it
                held = left_out
                difference = -opening
            elif difference > 0:
                left_out = held
                difference = 0.0
            held += 1
            difference += float(energy[i, j]) - price
        costs[i] = held if difference > 0 else left_out


@compiled
def _runs_of_rows(energy: NDArray, price: float, opening: float, kept: NDArray[np.bool_]) -> None:
    """Mask of each row's best runs."""
    m, n = energy.shape
    differences = np.empty(n)
    for i in range(m):
        difference = -opening
        for j in range(n):
            difference = min(max(difference, -opening), 0.0) + (float(energy[i, j]) - price)
            differences[j] = difference
        held = False
        for j in range(n - 1, -1, -1):
            if differences[j] > 0:
                held = True
            elif differences[j] <= -opening:
                held = False
            kept[i, j] = held


def _quantile(energy: Array, count: float) -> float:
    """About the energy that `count` entries exceed, from a sample."""
    flat = namespace(energy).reshape(energy, (-1,))
    sample = np.sort(to_numpy(flat[:: -(-flat.shape[0] // SAMPLE)]))
    return float(sample[max(len(sample) - 1 - int(count * len(sample) / flat.shape[0]), 0)])


def _search(
    cost_at: Callable[[float], int], cap: int, least: float, most: float, price: float
) -> tuple[float | None, float, int]:
    """Prices just below and above the one that meets the cap, and the cost at the upper one.

    None for the lower price if all energies fit. Costs fall about like a power of the price,
    so the next price is interpolated between two; every third one halves instead.
    """
    low: float | None = None
    high: float | None = None
    over, under, growth = 0, 0, FIRST_STEP
    for step in range(MOST_STEPS):
        price = min(max(price, least), most)
        cost = cost_at(price)
        if cost > cap:
            low, over = price, cost
        else:
            high, under = price, cost
            if cost == cap or price == least:
                break
        if low is None:
            price /= growth
            growth *= growth
        elif high is None:
            price *= growth
            growth *= growth
        elif under >= NEAR_CAP * cap or high <= SAME_PRICE * low:
            break
        else:
            share = 0.5
            if step % 3:
                share = math.log(over / (AIM * cap)) / math.log(over / max(under, 0.5))
            price = low * (high / low) ** min(max(share, 0.05), 0.95)
    return low, (most if high is None else high), under
