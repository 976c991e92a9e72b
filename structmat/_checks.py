"""Checks of plain values that several rooms share: lists, integers, shapes."""

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.errors import InputError, ShapeError


def host_array(values: Any, name: str) -> NDArray:
    """Lists and array-likes as a plain NumPy array; ragged ones are refused."""
    try:
        return np.asarray(values)
    except ValueError:
        raise InputError(
            f"{name} = {str(values)[:80]} is ragged; expected rows of one length"
        ) from None


def integer_array(values: Any, name: str) -> NDArray[np.int64]:
    """New one-dimensional int64 array of integers; floats are refused, not rounded."""
    array = host_array(values, name)
    if array.ndim != 1:
        raise ShapeError(
            f"{name} = {str(values)[:80]} has shape {array.shape}; expected a sequence of "
            "integers, shape (n,)"
        )
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name} has dtype {array.dtype}; expected integers (round them first)")
    return array.astype(np.int64)


def matrix_shape(shape: Any) -> tuple[int, int]:
    """A shape as two integers of at least 0."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    whole = len(sizes) == 2 and all(isinstance(size, numbers.Integral) for size in sizes)
    if not whole or min(sizes) < 0:
        raise ShapeError(f"shape = {shape!r}; expected two integers (m, n) of at least 0")
    return int(sizes[0]), int(sizes[1])
