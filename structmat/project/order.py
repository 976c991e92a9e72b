"""Orders of columns in which the energies of each row form long runs.

With weights A = E / (E + price) near 1 on entries worth their multiplication and near 0
elsewhere, the number of runs is about the number of such entries minus those shared by
neighbouring columns. A tour that visits all columns and maximises the sum of
S = A^T A between neighbours thus makes the runs few: a travelling salesman's problem. The
tour begins with the nearest unvisited column each time. Then pieces of the tour are reversed
(2-opt) and short pieces moved (Or-opt), where a candidate comes next to a column that it
shares much with.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, namespace, to_numpy
from structmat.errors import InputError
from structmat.project.arguments import as_energy, as_price
from structmat.project.compiled import HAS_NUMBA, compiled

#: Candidates for neighbours of each column: twice as many gain 0.02 % of the energy.
CANDIDATES = 16
#: Longest piece of a tour that is moved as one.
LONGEST_PIECE = 3
#: Price, as a multiple of the largest energy, from which on shares are proportional to energies.
HIGH_PRICE = 1e6
#: Least gain of a change, as a share of the largest entry of S: below it is rounding.
LEAST_GAIN = 1e-6


def column_order(
    energy: Any, price: float, *, start: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Order of the columns in which neighbours share energy, for few and long runs of rows.

    Parameters
    ----------
    energy : array, shape (m, n)
        Nonnegative numbers, of any library.
    price : float
        Energy that an entry has to hold to be worth its multiplication.
    start : ndarray of int, shape (n,), optional
        Order to improve, such as that of a similar array; made from nothing if absent.

    Returns
    -------
    p : ndarray of int, shape (n,)
        ``energy[:, p]`` has its columns in the new order. The order is a cycle, cut where
        neighbours share least. It is the same each time.

    Raises
    ------
    InputError
        If an energy is negative, NaN or infinite, if `price` is negative or not finite, or if
        `start` is no order of the columns.

    Notes
    -----
    O(m n^2) for S, where the array is, and about O(n^2) for the tour; memory for n^2 numbers.
    The transposed array gives an order of the rows. 2-opt with lists of candidates follows
    Bentley, "Fast algorithms for geometric traveling salesman problems" (1992).

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    >>> energy[:, column_order(energy, 0.1)]
    array([[1., 1., 0., 0.],
           [0., 0., 1., 1.]])
    """
    (energy, most), price = as_energy(energy), as_price(price)
    n = energy.shape[1]
    tour = _checked(start, n)
    if n < 3 or most == 0:
        return np.arange(n) if tour is None else tour
    shared = _shared(energy, price, most)
    if tour is None:
        tour = np.empty(n, np.int64)
        _nearest(shared, int(shared.sum(1).argmax()), tour)
    _improve(shared, _candidates(shared), tour, LEAST_GAIN * float(shared.max()))
    # Among ties the last one, so that a tour that is already good stays as it is.
    return np.roll(tour, int(shared[tour, np.roll(tour, -1)][::-1].argmin()))


def _checked(start: Any, n: int) -> NDArray[np.int64] | None:
    """A copy of an order of n columns."""
    if start is None:
        return None
    order = np.asarray(start)
    whole = order.dtype.kind in "iu" or not order.size
    if order.shape != (n,) or not whole or not np.array_equal(np.sort(order), np.arange(n)):
        raise InputError(
            f"start = {str(start)[:80]}; expected each of the columns 0 to {n - 1} once"
        )
    return order.astype(np.int64)


def _shared(energy: Array, price: float, most: float) -> NDArray:
    """Energy that columns share, (n, n): A^T A with a zero diagonal."""
    xp = namespace(energy)
    energy = energy / most  # sums with the price stay finite
    # Without a price, 0 / 0 would be NaN; a very high one only scales.
    least = float(xp.finfo(energy.dtype).smallest_normal)
    share = energy / (energy + min(max(price / most, least), HIGH_PRICE))
    shared = np.array(to_numpy(xp.matrix_transpose(share) @ share), np.float32)
    np.fill_diagonal(shared, 0)
    return shared


def _candidates(shared: NDArray) -> NDArray[np.int64]:
    """The columns with which each column shares most, most first: shape (n, k)."""
    n, k = len(shared), min(CANDIDATES, len(shared) - 1)
    if not HAS_NUMBA:
        return np.stack([np.argsort(-row, kind="stable")[:k] for row in shared])
    best = np.empty((n, k), np.int64)
    _fill_candidates(shared, best)
    return best


@compiled
def _fill_candidates(shared: NDArray, best: NDArray[np.int64]) -> None:
    """Fill each row with the places of the largest entries; of equal ones the first."""
    n, k = best.shape
    values = np.empty(k + 1, shared.dtype)
    for i in range(n):
        found = 0
        for j in range(n):
            value, at = shared[i, j], found
            if at == k and value <= values[k - 1]:
                continue
            while at > 0 and value > values[at - 1]:
                at -= 1
            found = min(found + 1, k)
            for other in range(found - 1, at, -1):
                values[other], best[i, other] = values[other - 1], best[i, other - 1]
            values[at], best[i, at] = value, j


@compiled
def _nearest(shared: NDArray, first: int, tour: NDArray[np.int64]) -> None:
    """Fill a tour from its first column: next comes the one that shares most with the last."""
    n = len(tour)
    free = np.ones(n, np.bool_)
    tour[0] = first
    free[first] = False
    for k in range(1, n):
        last, best = tour[k - 1], -1
        for j in range(n):
            if free[j] and (best < 0 or shared[last, j] > shared[last, best]):
                best = j
        tour[k] = best
        free[best] = False


@compiled
def _improve(
    shared: NDArray, candidates: NDArray[np.int64], tour: NDArray[np.int64], least_gain: float
) -> None:
    """Reverse and move pieces of a tour until no candidate gains; in place.

    After a change come the columns at its edges first; a round through all is the last one.
    """
    n = len(tour)
    place, queue = np.empty(n, np.int64), np.empty(n, np.int64)
    place[tour] = np.arange(n)
    waiting, touched = np.zeros(n, np.bool_), np.empty(6, np.int64)
    again = True
    while again:
        again = False
        queue[:] = tour
        waiting[:] = True
        head, count = 0, n
        while count:
            a = queue[head]
            head, count = (head + 1) % n, count - 1
            waiting[a] = False
            changed = _reverse_at(shared, candidates, tour, place, a, least_gain, touched)
            if changed == 0:
                changed = _move_at(shared, candidates, tour, place, a, least_gain, touched)
            for b in touched[:changed]:
                again = True
                if not waiting[b]:
                    waiting[b] = True
                    queue[(head + count) % n] = b
                    count += 1


@compiled
def _reverse_at(
    shared: NDArray,
    candidates: NDArray[np.int64],
    tour: NDArray[np.int64],
    place: NDArray[np.int64],
    a: int,
    least_gain: float,
    touched: NDArray[np.int64],
) -> int:
    """2-opt: bring a candidate next to column a by a reversal; count of columns touched."""
    n = len(tour)
    for side in (1, n - 1):
        b = tour[(place[a] + side) % n]
        for c in candidates[a]:
            if shared[a, c] <= shared[a, b]:
                break
            d = tour[(place[c] + side) % n]
            if shared[a, c] + shared[b, d] - shared[a, b] - shared[c, d] > least_gain:
                _exchange(tour, place, a, b, c, d)
                touched[0], touched[1], touched[2], touched[3] = a, b, c, d
                return 4
    return 0


@compiled
def _move_at(
    shared: NDArray,
    candidates: NDArray[np.int64],
    tour: NDArray[np.int64],
    place: NDArray[np.int64],
    a: int,
    least_gain: float,
    touched: NDArray[np.int64],
) -> int:
    """Or-opt: move a piece that ends in column a next to a candidate; count of columns touched."""
    n = len(tour)
    for size in range(1, min(LONGEST_PIECE, n - 3) + 1):
        for side in (1, n - 1):
            # Neighbours p and q, and the piece from a to z between them.
            back = n - side
            p, q = tour[(place[a] + back) % n], tour[(place[a] + side * size) % n]
            z = tour[(place[a] + side * (size - 1)) % n]
            lost = shared[p, a] + shared[z, q] - shared[p, q]
            for c in candidates[a]:
                if (place[c] - place[a]) * side % n < size:
                    continue
                for other in (side, back):
                    d = tour[(place[c] + other) % n]
                    if (place[d] - place[a]) * side % n < size:
                        continue
                    if shared[a, c] + shared[z, d] - shared[c, d] - lost > least_gain:
                        e, f = (c, d) if other == side else (d, c)
                        _exchange(tour, place, p, a, e, f)
                        _exchange(tour, place, p, e, q, z)
                        if e == c:
                            _exchange(tour, place, c, z, a, d)
                        touched[0], touched[1], touched[2] = a, z, p
                        touched[3], touched[4], touched[5] = q, c, d
                        return 6
    return 0


@compiled
def _exchange(
    tour: NDArray[np.int64], place: NDArray[np.int64], a: int, b: int, c: int, d: int
) -> None:
    """Replace the edges (a, b) and (c, d), met in this order or the other, by (a, c) and (b, d)."""
    n = len(tour)
    if tour[(place[a] + 1) % n] == b:
        first, last = place[b], place[c]
    else:
        first, last = place[c], place[b]
    size = (last - first) % n + 1
    if 2 * size > n:  # reversing the rest gives the same cycle
        first, last, size = (last + 1) % n, (first - 1) % n, n - size
    for _ in range(size // 2):
        x, y = tour[first], tour[last]
        tour[first], tour[last] = y, x
        place[y], place[x] = first, last
        first, last = (first + 1) % n, (last - 1) % n
