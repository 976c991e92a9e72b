"""Orders of points and of matrices in which neighbours stay together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import as_content
from structmat.errors import InputError
from structmat.intervals import IntArray
from structmat.matrices.permutation import Permutation
from structmat.sources.source import Source
from structmat.sources.tree import kd_tree


def ordering(points_or_matrix: Any) -> Permutation:
    """Order of points, or of the rows of a matrix, in which neighbours stay together.

    Parameters
    ----------
    points_or_matrix : array, shape (n, d), or source
        Points, a row a point, or a source with points.

    Returns
    -------
    Permutation
        ``ordering(points) @ points`` are the sorted points; for a matrix A, ``P @ A @ P.T``.

    Examples
    --------
    >>> import numpy as np
    >>> ordering(np.array([[5.0], [1.0], [4.0], [0.0]])).p
    array([3, 1, 2, 0])
    """
    if isinstance(points_or_matrix, Source):
        points = points_or_matrix.points
        if points is None:
            raise InputError("a source without points; expected points")
        return Permutation(kd_order(points))
    points = as_content(points_or_matrix, "points", 2)
    return Permutation(kd_order(_array.to_numpy(points)))


def kd_order(points: NDArray[np.float64]) -> IntArray:
    """Order of finite points (n, d) as the leaves of a k-d tree of single points."""
    return kd_tree(np.asarray(points, np.float64), 1).order
