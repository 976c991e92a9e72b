"""Nearest neighbours among earlier points, in an order from coarse to fine.

A row of an inverse factor that is conditioned on near rows of all scales needs few of them; an
order that goes along the points would give rows of one side and one scale alone.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from structmat.intervals import IntArray
from structmat.kernels.cpu.threads import num_threads
from structmat.sources.tree import kd_tree


def coarse_to_fine(count: int) -> IntArray:
    """Positions 0 to count - 1 so that each stretch of the result is spread over all of them.

    Position p comes by the digits of p in base two, read from the last to the first: 0, then the
    middle, then the quarters.

    Examples
    --------
    >>> coarse_to_fine(8)
    array([0, 4, 2, 6, 1, 5, 3, 7])
    """
    digits = max(count - 1, 1).bit_length()
    position = (np.arange(count) << digits) // max(count, 1)
    key = np.zeros(count, np.int64)
    for digit in range(digits):
        key |= ((position >> digit) & 1) << (digits - 1 - digit)
    return np.argsort(key, kind="stable")


def order_of_elimination(points: NDArray[np.float64]) -> IntArray:
    """Points (n, d) from coarse to fine, by their places in the order of a k-d tree."""
    return kd_tree(points, 1).order[coarse_to_fine(len(points))]


def earlier_neighbours(
    points: NDArray[np.float64], order: IntArray, count: int, places: IntArray | None = None
) -> IntArray:
    """The nearest `count` points that come before each one in an order, (n, count + 1).

    Row i belongs to point ``order[i]`` and names points by their numbers: neighbours from near to
    far, then the point itself, then -1 where there are fewer. O(n log n) searches, in batches
    that double: neighbours come from all batches before, or from earlier ones of the same batch.
    For increasing `places` in the order, the rows of these alone.

    Examples
    --------
    >>> earlier_neighbours(np.array([[0.0], [1.0], [3.0]]), np.array([0, 2, 1]), 1)
    array([[ 0, -1],
           [ 0,  2],
           [ 0,  1]])
    """
    n, ordered = len(points), points[order]
    at = np.arange(n) if places is None else places
    near = np.full((at.size, count + 1), -1, np.int64)
    begin = 1
    while begin < n:
        end = min(2 * begin, n)
        low, high = np.searchsorted(at, [begin, end])
        if low < high:
            found = _of_batch(ordered, begin, end, at[low:high], count)
            near[low:high, : found.shape[1]] = found
        begin = end
    near[np.arange(at.size), np.minimum(at, count)] = at
    return np.where(near >= 0, order[near], -1)


def _of_batch(
    ordered: NDArray[np.float64], begin: int, end: int, at: IntArray, count: int
) -> IntArray:
    """Places of the nearest earlier points of those `at` places of a batch, -1 at the ends."""
    batch = ordered[begin:end]
    distance, place = _nearest(ordered[:begin], ordered[at], min(count, begin))
    inner_distance, inner = _nearest(batch, ordered[at], min(count + 1, end - begin))
    inner = inner + begin
    # Later points of the batch, and the point itself, are none.
    inner_distance = np.where(inner < at[:, None], inner_distance, np.inf)
    distance = np.concatenate([distance, inner_distance], axis=1)
    place = np.concatenate([place, inner], axis=1)
    kept = np.argsort(distance, axis=1, kind="stable")[:, :count]
    found = np.take_along_axis(place, kept, axis=1)
    return np.where(np.isfinite(np.take_along_axis(distance, kept, axis=1)), found, -1)


def _nearest(
    points: NDArray[np.float64], at: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], IntArray]:
    """Distances and numbers of the nearest points, (p, count) each."""
    distance, number = cKDTree(points).query(at, k=np.arange(1, count + 1), workers=num_threads())
    return distance, np.asarray(number, np.int64)
