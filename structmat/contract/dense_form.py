"""Dense forms of the matrices among the arguments of a call that knows no structure."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from structmat import _array
from structmat._array import Array
from structmat.contract.matrix_like import MatrixLike
from structmat.errors import InputError

#: Foreign functions get no dense form with more entries: 512 MiB in double precision.
DENSE_ENTRIES = 2**26


def dense_form(A: Any) -> np.ndarray:
    """Dense form for a foreign function; a large one is made by name alone."""
    _check_size(A)
    dense: np.ndarray = A.toarray()
    return dense


def _check_size(A: Any) -> None:
    if math.prod(A.shape) > DENSE_ENTRIES:
        raise InputError(
            f"the dense form of a {A._size()} {type(A).__name__} is asked for by a function that "
            f"knows no structure; expected at most {DENSE_ENTRIES} entries (if the memory is "
            "there, call it with A.to_dense())"
        )


def in_place(A: Any) -> Array:
    """Dense form in the library of the matrix; a large one is made by name alone."""
    _check_size(A)
    return A.to_dense()


def stand_in(A: Any) -> np.ndarray:
    """Array of the shape and the dtype of A that takes no memory."""
    scalar = _array.to_numpy(A.xp.zeros((), dtype=A.dtype))
    return np.broadcast_to(scalar, A.shape)


def without(value: Any, replace: Callable[[Any], Any] = dense_form) -> Any:
    """Arguments of a call with every matrix among them replaced."""
    if isinstance(value, MatrixLike):
        return replace(value)
    if type(value) in (list, tuple):
        return type(value)(without(item, replace) for item in value)
    if type(value) is dict:
        return {name: without(item, replace) for name, item in value.items()}
    return value
