"""Operands of products: checked, laid out as columns, and brought to one dtype.

A matrix multiplies two-dimensional operands of its own dtype. All other operands of
SciPy's interface are reduced to these here.
"""

import math
import numbers
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from scipy.sparse import issparse

from structmat._array import (
    Array,
    Device,
    DType,
    backend_name,
    backend_of,
    belongs,
    check_plain,
    device,
    is_complex,
    is_dtype,
    is_inexact,
    is_numpy,
)
from structmat._checks import host_array
from structmat.errors import BackendError, InputError, ShapeError


class Factor(Protocol):
    """A matrix as products need it: two products of columns in its own dtype."""

    shape: tuple[int, int]
    dtype: DType
    xp: ModuleType
    device: Device
    neutral: bool

    def _multiply(self, x: Array) -> Array: ...

    def _multiply_adjoint(self, y: Array) -> Array: ...

    def _wider(self, dtype: DType) -> "Factor": ...


def is_scalar(x: Any) -> bool:
    """Tell whether `x` is a number or an array of no dimensions."""
    try:
        return isinstance(x, numbers.Number) or getattr(x, "shape", None) == ()
    except RuntimeError:  # a nested tensor of torch has no shape
        return False


def is_plain(x: Any) -> bool:
    """Tell whether `x` is a NumPy array with axes, as most operands are."""
    return type(x) is np.ndarray and x.ndim > 0


def as_operand(x: Any, xp: ModuleType) -> Array:
    """Return an operand as an array of a matrix's library; lists and sparse only for NumPy."""
    if type(x) is np.ndarray and x.dtype.kind in "fc" and is_numpy(xp):
        return x
    if is_numpy(xp):
        if issparse(x):
            x = x.toarray()
        if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__"):
            x = host_array(x, "operand")
    if not belongs(x, xp):
        raise BackendError(
            f"operand of type {type(x).__module__}.{type(x).__qualname__} meets a matrix on "
            f"{backend_name(xp)}; move one of them first, for instance the matrix with A.to(…)"
        )
    if not is_numpy(xp):
        check_plain(x, xp, "operand")
    if not is_dtype(x.dtype, ("bool", "numeric"), xp):
        raise InputError(f"operand has dtype {x.dtype}; expected numbers")
    return x


def vector_product(A: Factor, x: Any, *, adjoint: bool) -> Array:
    """A @ x or A^H @ x for a batch of vectors (…, n), or for one column (n, 1)."""
    if type(x) is np.ndarray:  # has no device to be on
        return _of_vectors(A, x, adjoint=adjoint)
    with _device_of(A, x):
        return _of_vectors(A, x, adjoint=adjoint)


def matrix_product(A: Factor, x: Any, *, adjoint: bool) -> Array:
    """A @ X or A^H @ X for a batch of matrices (…, n, k)."""
    if type(x) is np.ndarray:
        return _of_matrices(A, x, adjoint=adjoint)
    with _device_of(A, x):
        return _of_matrices(A, x, adjoint=adjoint)


def _device_of(A: Factor, x: Any) -> AbstractContextManager[Any]:
    """The context in which a matrix multiplies; an operand on another device is refused."""
    current = backend_of(A.xp).current
    if current is None:
        return nullcontext()
    if belongs(x, A.xp) and device(x) != A.device:
        raise BackendError(
            f"operand on {device(x)}; expected {A.device}, that of the matrix (move one of them)"
        )
    return current(A.device)


def _of_vectors(A: Factor, x: Any, *, adjoint: bool) -> Array:
    """The same on the present device."""
    xp, size = A.xp, A.shape[0] if adjoint else A.shape[1]
    x = as_operand(x, xp)
    if x.ndim == 1 and x.shape[0] == size:
        return multiplied(A, x[:, None], adjoint=adjoint)[:, 0]
    if tuple(x.shape) == (size, 1):
        return multiplied(A, x, adjoint=adjoint)
    if x.ndim == 0 or x.shape[-1] != size:
        name = "rmatvec" if adjoint else "matvec"
        raise ShapeError(
            f"{name} of a {A.shape[0]}x{A.shape[1]} matrix got an array of shape {tuple(x.shape)}; "
            f"expected (…, {size}) (for columns side by side use {name[:-3]}mat)"
        )
    batch = tuple(x.shape[:-1])
    columns = xp.matrix_transpose(xp.reshape(x, (math.prod(batch), size)))
    y = multiplied(A, columns, adjoint=adjoint)
    return xp.reshape(xp.matrix_transpose(y), (*batch, y.shape[0]))


def _of_matrices(A: Factor, x: Any, *, adjoint: bool) -> Array:
    """The same on the present device."""
    xp, size = A.xp, A.shape[0] if adjoint else A.shape[1]
    x = as_operand(x, xp)
    if x.ndim < 2 or x.shape[-2] != size:
        name = "rmatmat" if adjoint else "matmat"
        raise ShapeError(
            f"{name} of a {A.shape[0]}x{A.shape[1]} matrix got an array of shape {tuple(x.shape)}; "
            f"expected (…, {size}, k) (for single vectors use {name[:-3]}vec)"
        )
    if x.ndim == 2:
        return multiplied(A, x, adjoint=adjoint)
    *batch, _, k = x.shape
    axes = tuple(range(len(batch)))
    x = xp.permute_dims(x, (len(batch), *axes, len(batch) + 1))
    y = multiplied(A, xp.reshape(x, (size, math.prod(batch) * k)), adjoint=adjoint)
    y = xp.reshape(y, (y.shape[0], *batch, k))
    return xp.permute_dims(y, (*range(1, len(batch) + 1), 0, len(batch) + 1))


def multiplied(A: Factor, x: Array, *, adjoint: bool) -> Array:
    """A @ x or A^H @ x for x of shape (·, k), an array of A's library, in one dtype."""
    xp = A.xp
    if x.dtype != A.dtype and not (A.neutral and is_inexact(x.dtype, xp)):
        dtype = xp.result_type(A.dtype, x.dtype) if is_inexact(x.dtype, xp) else A.dtype
        if xp.isdtype(dtype, "complex floating") and not is_complex(A, xp):
            return _real_times_complex(A, xp.astype(x, dtype), adjoint=adjoint)
        x = x if x.dtype == dtype else xp.astype(x, dtype)
        A = A if A.dtype == dtype else A._wider(dtype)
    return A._multiply_adjoint(x) if adjoint else A._multiply(x)


def _real_times_complex(A: Factor, x: Array, *, adjoint: bool) -> Array:
    xp, k = A.xp, x.shape[1]
    y = multiplied(A, xp.concat([xp.real(x), xp.imag(x)], axis=1), adjoint=adjoint)
    y = xp.astype(y, x.dtype)
    return y[:, :k] + y[:, k:] * 1j
