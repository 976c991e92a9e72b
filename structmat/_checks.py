"""Checks of plain values that several rooms share: lists, integers, shapes, runs."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from structmat.errors import InputError, ShapeError, first_line

#: Largest size of an axis: the end of a run, at most twice as far, then fits in 64 bits.
MOST = 2**62


def host_array(values: Any, name: str) -> NDArray:
    """Lists and array-likes as a plain NumPy array in the machine's byte order.

    Ragged lists and masked entries are refused, since neither is an array of numbers.
    """
    parts = values if isinstance(values, (list, tuple)) else [values]
    if any(np.ma.is_masked(part) for part in parts):
        raise InputError(
            f"{name} has masked entries; expected every entry (fill it first, with A.filled(…))"
        )
    try:
        array = np.asarray(values)
    except ValueError:
        raise ShapeError(
            f"{name} = {str(values)[:80]} is ragged; expected rows of one length"
        ) from None
    except Exception as error:  # an element of another library, with errors of its own
        reason = first_line(error)
        raise InputError(
            f"{name}, a {type(values).__qualname__}, is no array of numbers ({reason}); expected "
            "numbers, or an array"
        ) from None
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


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
    if array.dtype == np.uint64 and array.size and array.max() > MOST:
        raise InputError(f"{name} holds {array.max()}; expected integers up to 2**62")
    return array.astype(np.int64)


def exact_total(*factors: NDArray[np.int64]) -> int:
    """Sum over products of integers of at least 0, which 64 bits need not hold.

    Examples
    --------
    >>> exact_total(np.array([2**62, 2**62]), np.array([1, 3])) == 2**64
    True
    """
    bound = math.prod(int(factor.max(initial=0)) for factor in factors) * factors[0].size
    if bound <= MOST:
        return int(np.prod(factors, axis=0).sum()) if bound else 0
    return sum(math.prod(map(int, one)) for one in zip(*factors, strict=True))


def matrix_shape(shape: Any) -> tuple[int, int]:
    """A shape as two integers of at least 0."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    whole = len(sizes) == 2 and all(isinstance(size, numbers.Integral) for size in sizes)
    if not whole or min(sizes) < 0:
        raise ShapeError(f"shape = {shape!r}; expected two integers (m, n) of at least 0")
    if max(sizes) > MOST:
        raise ShapeError(f"shape = {shape!r}; expected sizes up to 2**62")
    return int(sizes[0]), int(sizes[1])


def check_runs(
    start: ArrayLike, width: ArrayLike, n: int, *, name: str = "run"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Check runs on a circle of n positions, and return them as new arrays (K,).

    A run of width zero then starts at 0, so that equal runs compare equal. Errors call the
    runs by `name`.

    Examples
    --------
    >>> check_runs([3, 7], [2, 0], 8)
    (array([3, 0]), array([2, 0]))
    """
    start, width = integer_array(start, f"{name}_start"), integer_array(width, f"{name}_width")
    if start.shape != width.shape:
        raise ShapeError(
            f"{start.size} entries in {name}_start but {width.size} in {name}_width; "
            "expected one start and one width a block"
        )
    wrong = np.flatnonzero((width < 0) | (width > n))
    if wrong.size:
        k = wrong[0]
        raise InputError(
            f"{name}_width[{k}] = {width[k]}; expected 0 to {n}, the length of that axis"
        )
    wrong = np.flatnonzero((width > 0) & ((start < 0) | (start >= n)))
    if wrong.size:
        k = wrong[0]
        raise InputError(
            f"{name}_start[{k}] = {start[k]}; expected 0 to {n - 1} "
            f"(reduce it modulo {n}: runs wrap around)"
        )
    return np.where(width > 0, start, 0), width
