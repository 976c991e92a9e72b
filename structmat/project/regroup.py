"""Lines put into the groups whose windows hold most of their energy."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from structmat.intervals import IntArray, offsets
from structmat.project.arguments import summable

#: Lines up to which groups are chosen exactly.
EXACT_LINES = 2**9
#: Gain of an exchange, as a share of what a line holds at most, below which it is rounding.
LEAST_GAIN = 1e-6


def regrouped(energy: NDArray, live: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """Order of lines in which their groups hold the most energy for given windows.

    Parameters
    ----------
    energy : ndarray, shape (m, n)
        Nonnegative: that of m lines at n places.
    live : ndarray of bool, shape (groups, n)
        Places in the windows of each group.
    size : int
        Lines of a group, of which the last has those that are left.

    Returns
    -------
    order : ndarray of int, shape (m,)
        Lines in the order of their groups; those of one group keep their order.

    Notes
    -----
    Up to 512 lines exact, as an assignment of lines to places (Crouse, "On implementing 2D
    rectangular assignment algorithms", 2016, in SciPy): O(m^3) at worst. Beyond, lines ask for
    the best group that has not refused them, and groups keep the lines of most energy (Gale &
    Shapley, "College admissions and the stability of marriage", 1962); then two groups exchange
    two lines while both together hold more. That is some hundred passes over m x groups numbers
    at most.

    Examples
    --------
    >>> energy = np.array([[5.0, 1.0], [0.0, 3.0], [4.0, 0.0], [2.0, 2.0]])
    >>> regrouped(energy, np.array([[True, False], [False, True]]), 2)
    array([0, 2, 1, 3])
    """
    m = energy.shape[0]
    group = np.arange(m) // size
    energy, _ = summable(energy, float(energy.max(initial=0.0)), energy.shape[1])
    held = energy @ live.T.astype(energy.dtype)
    if m <= EXACT_LINES:
        _, place = linear_sum_assignment(held[:, group], maximize=True)
        found = group[place]
    else:
        found = _exchanged(held, _asked(held, np.bincount(group)))
    order: NDArray[np.int64] = np.argsort(found, kind="stable")
    return order


def _asked(held: NDArray, sizes: IntArray) -> IntArray:
    """Group of each line: none that would hold more of it has a line of which it holds less."""
    m, groups = held.shape
    left, found, asking = held.copy(), np.zeros(m, np.int64), np.arange(m)
    while asking.size:
        found[asking] = left[asking].argmax(axis=1)
        order = np.lexsort((-held[np.arange(m), found], found))
        begins = offsets(np.bincount(found, minlength=groups))
        rank = np.arange(m) - begins[found[order]]
        asking = order[rank >= sizes[found[order]]]
        left[asking, found[asking]] = -1
    return found


def _exchanged(held: NDArray, found: IntArray) -> IntArray:
    """Group of each line after exchanges of two lines: no other one gains.

    In a pass, all pairs of groups exchange the lines that gain most, in which each is the best
    partner of the other.
    """
    m, groups = held.shape
    lines, found = np.arange(m), found.copy()
    least = LEAST_GAIN * float(held.max(initial=0.0))
    for _ in range(m):
        gains = held - held[lines, found][:, None]
        order = np.argsort(found, kind="stable")
        begins = offsets(np.bincount(found, minlength=groups))[:-1]
        most = np.maximum.reduceat(gains[order], begins)
        both = most + most.T
        np.fill_diagonal(both, 0)
        partner = both.argmax(axis=1)
        mutual = (partner[partner] == np.arange(groups)) & (both.max(axis=1) > least)
        mutual &= np.arange(groups) < partner
        if not mutual.any():
            break
        for one in np.flatnonzero(mutual).tolist():
            other = int(partner[one])
            here, there = (np.flatnonzero(found == g) for g in (one, other))
            a, b = here[gains[here, other].argmax()], there[gains[there, one].argmax()]
            found[a], found[b] = other, one
    return found
