"""Checks of points, parameters and functions that make a kernel matrix."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array, DType, as_content
from structmat._checks import host_array
from structmat.errors import InputError, ShapeError, first_line
from structmat.sources.named_kernels import SINGULAR

#: Points on which a function is tried, for its dtype and its symmetry.
TRIED = 32
#: Roundings by which values of a function may differ and still be called equal.
EQUAL_ROUNDINGS = 64
#: Largest phase of the Helmholtz kernel: of larger ones, few digits are left.
MOST_PHASE = 1e12

#: Function of points (p, d) and (q, d) that returns the entries of all pairs, (p, q).
KernelFunction = Callable[[Array, Array], Array]


def checked_points(points: Any, name: str) -> Array:
    """Points as finite real numbers, a row a point."""
    points = host_array(points, name) if isinstance(points, (list, tuple)) else points
    if np.ndim(points) != 2:
        shape = tuple(np.shape(points))
        remedy = " (for numbers on a line points[:, None])" if len(shape) == 1 else ""
        raise ShapeError(f"{name} of shape {shape}; expected (n, d), a row a point{remedy}")
    given = as_content(points, name, 2)
    xp = _array.namespace(given)
    if _array.is_complex(given, xp):
        raise InputError(f"{name} have dtype {given.dtype}; expected real coordinates")
    if isinstance(given, np.ndarray) and given.dtype == np.float16:
        given = xp.astype(given, xp.float32)
    host = _array.to_numpy(given)
    if not np.isfinite(host).all():
        i = int(np.argwhere(~np.isfinite(host))[0, 0])
        raise InputError(
            f"{name}: point {i} is {host[i].tolist()}; expected finite coordinates (drop such "
            "points first)"
        )
    return given


def checked_parameter(value: Any, name: str, X: Array, xp: Any) -> Array:
    """A parameter of a named kernel, positive and finite, as an array without axes."""
    array = value if _array.belongs(value, xp) else None
    if array is None:
        if not isinstance(value, numbers.Real):
            raise InputError(f"{name} = {value!r}; expected a positive number")
        array = xp.asarray(float(value), dtype=X.dtype, device=_array.device(X))
    number = _array.to_numpy(array)
    if number.shape != () or number.dtype.kind == "c" or not 0 < float(number) < math.inf:
        raise InputError(f"{name} = {value!r}; expected a positive, finite number")
    return array


def tried(kernel: KernelFunction, X: Array, Y: Array | None, xp: Any) -> tuple[DType | None, bool]:
    """Dtype of a function's values, None without points, and whether it looks symmetric."""
    rows, cols = (min(P.shape[0], TRIED) for P in (X, X if Y is None else Y))
    if not (rows and cols):
        return None, True
    one = X[:: -(-X.shape[0] // rows), :]
    two = one if Y is None else Y[:: -(-Y.shape[0] // cols), :]
    try:
        block = kernel(one, two)
        shape, dtype = tuple(block.shape), block.dtype
    except Exception as error:  # a function of the user's
        reason = first_line(error)
        raise InputError(
            f"the kernel function raised {type(error).__name__} for points of shapes "
            f"{tuple(one.shape)} and {tuple(two.shape)}: {reason}; expected an array of shape "
            f"{(one.shape[0], two.shape[0])}"
        ) from error
    if shape != (one.shape[0], two.shape[0]) or not _array.belongs(block, xp):
        raise ShapeError(
            f"the kernel function returned a {type(block).__qualname__} of shape {shape} for "
            f"points of shapes {tuple(one.shape)} and {tuple(two.shape)}; expected an array of "
            f"{_array.backend_name(xp)} of shape {(one.shape[0], two.shape[0])}: all pairs"
        )
    if not _array.is_inexact(dtype, xp):
        dtype = X.dtype
    host = _array.to_numpy(block)
    if Y is not None or host.dtype.kind not in "fc":
        return dtype, Y is None
    gap = np.abs(host - host.T).max() if np.isfinite(host).all() else 0.0
    return dtype, bool(gap <= EQUAL_ROUNDINGS * np.finfo(host.dtype).eps * np.abs(host).max())


def check_values(
    kernel: str,
    rows: NDArray[np.float64],
    cols: NDArray[np.float64] | None,
    length: Array,
    wavenumber: Array,
) -> None:
    """Refuse points, over the length, that overflow or have no value between them.

    `cols` is None for one set of points.
    """
    others = rows if cols is None else cols
    for scaled in (rows, others):
        if not np.isfinite(scaled).all():
            raise InputError(
                f"length = {_array.to_numpy(length)}; expected one by which points can be "
                "divided without overflow"
            )
    phase = float(_array.to_numpy(wavenumber)) * _span(rows, others)
    if kernel == "helmholtz" and not phase <= MOST_PHASE:
        raise InputError(
            f"wavenumber times the largest distance over the length is about {phase:.3g}; "
            f"expected at most {MOST_PHASE:.0e}, beyond which rounding decides the phase"
        )
    if kernel in SINGULAR and (pair := _coincident(rows, cols)):
        i, j = pair
        raise InputError(
            f"{'points' if cols is None else 'point'} {i} and "
            f"{j if cols is None else f'{j} of points2'} coincide, where the kernel "
            f"{kernel!r} has no value; expected different points (drop one of them"
            + (")" if cols is None else ", or leave points2 out where the sets are one)")
        )


def _span(rows: NDArray[np.float64], cols: NDArray[np.float64]) -> float:
    """Bound on the distances between points of two sets."""
    if 0 in (*rows.shape, *cols.shape):
        return 0.0
    low, high = np.minimum(rows.min(0), cols.min(0)), np.maximum(rows.max(0), cols.max(0))
    return float((high - low).max() * math.sqrt(rows.shape[1]))


def _coincident(
    rows: NDArray[np.float64], cols: NDArray[np.float64] | None
) -> tuple[int, int] | None:
    """Two different points of one set that are equal, or a point of each of two sets."""
    both = rows if cols is None else np.concatenate([rows, cols])
    if len(both) < 2:
        return None
    side = np.arange(len(both)) >= len(rows)
    order = np.lexsort((side, *both.T)) if both.shape[1] else np.arange(len(both))
    equal = (both[order[1:]] == both[order[:-1]]).all(axis=1)
    if cols is not None:
        equal &= side[order[1:]] != side[order[:-1]]
    found = np.flatnonzero(equal)
    if not found.size:
        return None
    i, j = int(order[found[0]]), int(order[found[0] + 1])
    return (i, j) if cols is None else (i, j - len(rows))
