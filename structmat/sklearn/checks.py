"""Parameters of the estimators, and the kernel matrix that they stand for."""

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.errors import InputError
from structmat.sources.kernel_matrix import KernelMatrix

Real = NDArray[np.float64]


def kernel_matrix(
    kernel: Any, length: Any, points: Real, points2: Real | None = None
) -> KernelMatrix:
    """The kernel at all pairs of points; a function has no length of its own.

    Raises
    ------
    InputError
        If the kernel is unknown, or the length is no positive number.
    """
    if callable(kernel):
        return KernelMatrix(points, kernel, points2)
    return KernelMatrix(points, kernel, points2, length=positive(length, "length"))


def positive(value: Any, name: str) -> float:
    """A parameter as a number.

    Raises
    ------
    InputError
        If it is no positive number.
    """
    if not (isinstance(value, numbers.Real) and 0 < float(value) < np.inf):
        raise InputError(f"{name} = {value!r}; expected a positive number")
    return float(value)
