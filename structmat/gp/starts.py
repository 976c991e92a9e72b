"""Points on which the search for parameters begins, and where it begins."""

import math

import numpy as np
from numpy.typing import NDArray

from structmat.gp.correlation import Real
from structmat.sources.ordering import kd_order

#: Points of the first search, and the part of them that are neighbours, in runs of this length.
FIRST_POINTS, NEAR_SHARE, RUN = 1024, 0.5, 64
#: Ratios of noise to amplitude, least and most; lengths as shares of the extent of the points.
RATIOS, LENGTHS = (1e-4, 1e3), (1e-5, 1e2)
#: The same for random starts.
START_RATIOS, START_LENGTHS = (1e-2, 1.0), (1e-2, 1.0)

Bounds = NDArray[np.float64]


def some_points(points: Real, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of points for a first search; all points where they are few.

    Half are drawn at random, which tell of long lengths; half are neighbours in the order of a k-d
    tree, which tell of noise and short lengths.

    Examples
    --------
    >>> some_points(np.random.default_rng(0).random((5000, 2)), np.random.default_rng(0)).size
    1024
    """
    n = len(points)
    if n <= FIRST_POINTS:
        return np.arange(n)
    runs = int(NEAR_SHARE * FIRST_POINTS / RUN)
    edges = np.linspace(0, n - RUN, runs + 1).astype(np.int64)
    begin = rng.integers(edges[:-1], np.maximum(edges[1:] - RUN, edges[:-1] + 1))
    near = kd_order(points)[(begin[:, None] + np.arange(RUN)).ravel()]
    rest = rng.permutation(np.setdiff1d(np.arange(n), near))
    return np.sort(np.concatenate([near, rest[: FIRST_POINTS - near.size]]))


def bounds_of(points: Real) -> Bounds:
    """Bounds of log length and log ratio, (2, 2)."""
    extent = math.sqrt(float((np.ptp(points, axis=0) ** 2).sum())) or 1.0
    return np.log([[share * extent for share in LENGTHS], RATIOS])


def random_start(points: Real, rng: np.random.Generator) -> Real:
    """Log length and log ratio, drawn at random."""
    least, most = np.log([START_LENGTHS, START_RATIOS]).T
    extent = bounds_of(points)[0, 0] - math.log(LENGTHS[0])
    found: Real = rng.uniform(least, most) + [extent, 0.0]
    return found
