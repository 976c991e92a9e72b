"""Operands of products: checked, and laid out as columns side by side."""

import math
import numbers
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import issparse

from structmat._array import Array, backend_name, belongs, is_numpy
from structmat._checks import host_array
from structmat.errors import BackendError, InputError


def is_scalar(x: Any) -> bool:
    """Whether `x` is a number or an array of no dimensions."""
    return isinstance(x, numbers.Number) or getattr(x, "shape", None) == ()


def as_operand(x: Any, xp: ModuleType) -> Array:
    """An operand as an array of a matrix's library; only NumPy takes lists and sparse."""
    if is_numpy(xp):
        if type(x) is np.ndarray and x.dtype.kind in "fc":
            return x
        if issparse(x):
            x = x.toarray()
        if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__"):
            x = host_array(x, "operand")
    if not belongs(x, xp):
        raise BackendError(
            f"operand of type {type(x).__module__}.{type(x).__qualname__} meets a matrix on "
            f"{backend_name(xp)}; move one of them first, for instance the matrix with A.to(…)"
        )
    if not xp.isdtype(x.dtype, ("bool", "numeric")):
        raise InputError(f"operand has dtype {x.dtype}; expected numbers")
    return x


def columns_of_vectors(x: Array, xp: ModuleType) -> Array:
    """Batch of vectors (…, n) as columns (n, batch)."""
    return xp.matrix_transpose(xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])))


def vectors_of_columns(y: Array, batch: tuple[int, ...], xp: ModuleType) -> Array:
    """Inverse of `columns_of_vectors`: (m, batch) as (…, m)."""
    return xp.reshape(xp.matrix_transpose(y), (*batch, y.shape[0]))


def columns_of_matrices(x: Array, xp: ModuleType) -> Array:
    """Batch of matrices (…, n, k) as columns (n, batch k)."""
    *batch, n, k = x.shape
    axes = tuple(range(len(batch)))
    return xp.reshape(
        xp.permute_dims(x, (len(batch), *axes, len(batch) + 1)), (n, math.prod(batch) * k)
    )


def matrices_of_columns(y: Array, batch: tuple[int, ...], k: int, xp: ModuleType) -> Array:
    """Inverse of `columns_of_matrices`: (m, batch k) as (…, m, k)."""
    y = xp.reshape(y, (y.shape[0], *batch, k))
    return xp.permute_dims(y, (*range(1, len(batch) + 1), 0, len(batch) + 1))
