"""Arrays of any library with rows and columns in other orders."""

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, device, integers, namespace, taken


def reordered(A: Array, *orders: NDArray[np.int64]) -> Array:
    """An array with the entries of its first axes in these orders, in its library and place.

    Examples
    --------
    >>> reordered(np.array([[1, 2, 3], [4, 5, 6]]), np.array([1, 0]), np.array([2, 0, 1]))
    array([[6, 4, 5],
           [3, 1, 2]])
    """
    xp, place = namespace(A), device(A)
    for axis, order in enumerate(orders):
        A = taken(A, integers(order, xp, place), xp, axis=axis)
    return A
