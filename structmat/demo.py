"""A real matrix to try things on: the kernel matrix of earthquakes worldwide.

The points are in the public domain; `structmat/_data/README.md` names their source.
Nothing is downloaded.
"""

from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike, NDArray

from structmat.errors import InputError
from structmat.sources.ordering import order_of_points

__all__ = ["earthquake_kernel", "kd_order"]

#: Mean radius of the Earth in kilometres.
_EARTH_RADIUS = 6371.0


def earthquake_kernel(
    n: int = 768, *, length_scale: float = 200.0, order: bool = True
) -> NDArray[np.float64]:
    """Kernel matrix of earthquakes: ``exp(-r / length_scale)`` of all distances `r`.

    `r` is the straight-line distance in kilometres between two hypocentres, through
    the Earth and with depth. The exponential kernel of distinct points in space is
    symmetric positive definite, so this is a covariance matrix as Gaussian-process
    regression meets it.

    Parameters
    ----------
    n : int
        Number of points: the first of the 1706 distinct ones of the catalogue.
    length_scale : float
        Distance in kilometres over which the kernel falls to 1/e. Longer scales
        give smoother matrices, which a plain low rank already fits well.
    order : bool
        Sort the points by `kd_order`, so that neighbours in space are neighbours in
        the matrix. In catalogue order the same matrix is far harder to compress.

    Returns
    -------
    ndarray of float64, shape (n, n)

    Raises
    ------
    InputError
        If `n` is not 0 to 1706, or the scale is not positive and finite.

    Notes
    -----
    O(n²) time and memory.

    Examples
    --------
    >>> from structmat.demo import earthquake_kernel
    >>> K = earthquake_kernel(64)
    >>> K.shape, bool((K == K.T).all()), bool(np.linalg.eigvalsh(K)[0] > 0)
    ((64, 64), True, True)
    """
    points = _hypocentres()
    if not 0 <= n <= len(points):
        raise InputError(f"n = {n}; expected 0 to {len(points)}, the number of distinct points")
    if not (np.isfinite(length_scale) and length_scale > 0):
        raise InputError(f"length_scale = {length_scale}; expected a positive number of kilometres")
    points = points[:n]
    if order:
        points = points[kd_order(points)]
    # Squares add up in the same order for (i, j) and (j, i): symmetric to the last bit.
    squared = np.zeros((n, n))
    for coordinate in points.T:
        squared += np.subtract.outer(coordinate, coordinate) ** 2
    return np.exp(-np.sqrt(squared) / length_scale)


def kd_order(points: ArrayLike) -> NDArray[np.int64]:
    """Order points as the leaves of a k-d tree, so that neighbours stay together.

    The set is halved at the median of its widest axis, then each half in turn.
    Sorting rows and columns of a kernel matrix this way moves near pairs to the
    diagonal and leaves smooth tiles, of low rank, beside it.

    Parameters
    ----------
    points : array_like, shape (n, d)

    Returns
    -------
    ndarray of int64, shape (n,)
        A permutation; ``points[kd_order(points)]`` are the sorted points.

    Raises
    ------
    ShapeError
        If `points` does not have two dimensions.
    InputError
        If a coordinate is NaN or infinite.

    Notes
    -----
    This is the order of `structmat.ordering`, which takes matrices, too, as an array of indices.

    Examples
    --------
    >>> from structmat.demo import kd_order
    >>> kd_order([[5.0], [1.0], [4.0], [0.0]])
    array([3, 1, 2, 0])
    """
    return order_of_points(points)


def _hypocentres() -> NDArray[np.float64]:
    """Distinct points in catalogue order, in kilometres from the Earth's centre: (1706, 3)."""
    with (
        (files("structmat") / "_data" / "earthquakes.npz").open("rb") as stream,
        np.load(stream) as catalogue,
    ):
        longitude = np.radians(catalogue["longitude"])
        latitude = np.radians(catalogue["latitude"])
        radius = _EARTH_RADIUS - catalogue["depth"]
    across = radius * np.cos(latitude)
    points = np.stack(
        [across * np.cos(longitude), across * np.sin(longitude), radius * np.sin(latitude)], axis=1
    )
    _, first = np.unique(points, axis=0, return_index=True)
    return points[np.sort(first)]
