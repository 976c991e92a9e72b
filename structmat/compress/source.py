"""Inputs of compression: arrays, matrices and operators, checked; their norms and errors."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from scipy.sparse.linalg import aslinearoperator

from structmat import _array
from structmat._checks import host_array
from structmat.compress.inner import factors_of
from structmat.compress.operators import DENSE_ENTRIES as DENSE_ENTRIES
from structmat.compress.operators import Products, is_operator, working_dtype
from structmat.errors import BackendError, InputError, ShapeError, first_line
from structmat.kernels import using
from structmat.matrix import StructuredMatrix
from structmat.project.svd import Triple

#: Bound on the largest entry by dtype; squares overflow above it, and vanish below its inverse.
ENTRY_BOUND = {"f": 1e15, "d": 1e140, "F": 1e15, "D": 1e140}
#: Most entries of the columns that are measured at once: 64 MiB in double precision.
COLUMNS_ENTRIES = 2**23
#: Most entries of a tall or square matrix that one product with the identity writes out.
SMALL_ENTRIES = 2**12


@dataclass(frozen=True)
class Source:
    """A checked input: a finite NumPy array, or an `Operator` on NumPy arrays."""

    data: Any
    #: True if `data` is known by its products only.
    implicit: bool
    #: Brings a matrix to the library and device that the input came from.
    restore: Callable[[StructuredMatrix], StructuredMatrix]

    def norm(self, *, exact: bool = True) -> float:
        """Frobenius norm; an operator's results are checked on the way.

        An operator's norm takes n products, or a few where an estimate will do.
        """
        with np.errstate(over="ignore"):
            if not self.implicit:
                return norm(self.data)
            size = _norm_of(self.data, exact)
        check_range(self.data.largest, self.data.dtype)
        return size


def source_of(
    A: Any, *, symmetric: bool | None = None, rng: np.random.Generator | None = None
) -> Source:
    """Check an input, and choose between its entries and its products."""
    restore: Callable[[StructuredMatrix], StructuredMatrix] = _unchanged
    if isinstance(A, StructuredMatrix):
        if math.prod(A.shape) > DENSE_ENTRIES:
            return Source(Products(A.to("numpy"), symmetric, rng), True, _back_to(A.xp, A.device))
        A = A.to_dense()
    if not (issparse(A) or isinstance(A, (list, tuple, np.ndarray))):
        try:
            xp = _array.namespace(A)
        except BackendError:
            return Source(Products(_operator(A), symmetric, rng), True, _unchanged)
        A, restore = _from_library(A, xp)
    if issparse(A):
        _check_dimensions(A.shape)
        if math.prod(A.shape) > DENSE_ENTRIES:
            operator = aslinearoperator(A.tocsr())
            return Source(Products(operator, symmetric, rng), True, restore)
        A = A.toarray()
    return Source(_checked(host_array(A, "the matrix")), False, restore)


def _operator(A: Any) -> Any:
    if is_operator(A):
        return A
    raise InputError(
        f"a matrix of type {type(A).__module__}.{type(A).__qualname__}; expected a 2-D array, "
        "a structured or sparse matrix, or an operator with shape and matmat, matvec or @ (a "
        "table becomes an array with numpy.asarray, a function an operator with "
        "scipy.sparse.linalg.LinearOperator)"
    )


def _from_library(
    A: Any, xp: ModuleType
) -> tuple[Any, Callable[[StructuredMatrix], StructuredMatrix]]:
    """An array of another library as one of NumPy, or of SciPy if it is sparse, and the way back.

    Values are read as they are: gradients do not follow.
    """
    backend = _array.backend_of(xp)
    try:
        _check_dimensions(A.shape)
        restore = _back_to(xp, _array.common_device(A))
        sparse = None if backend.to_scipy is None else backend.to_scipy(A)
        return (_array.to_numpy(A) if sparse is None else sparse), restore
    except (BackendError, ShapeError):
        raise
    except Exception as error:  # libraries have errors of their own
        reason = first_line(error)
        fault = backend.fault(A) or (
            f"of dtype {A.dtype} on {_array.device(A)} cannot be read ({reason}); expected values "
            "that NumPy has a dtype for (convert it first)"
        )
        raise InputError(f"the matrix {fault}") from None


def _back_to(xp: Any, device: Any) -> Callable[[StructuredMatrix], StructuredMatrix]:
    def restore(matrix: StructuredMatrix) -> StructuredMatrix:
        moved = matrix.to(xp)
        return moved if moved.device == device else moved.to(device)

    return restore


def _unchanged(matrix: StructuredMatrix) -> StructuredMatrix:
    return matrix


def _check_dimensions(shape: Any) -> None:
    if len(shape) != 2:
        raise ShapeError(f"a matrix of shape {tuple(shape)}; expected two dimensions (m, n)")


def _checked(A: NDArray) -> NDArray:
    """A finite array of one of the four dtypes; copied only if the dtype changes."""
    _check_dimensions(A.shape)
    A = A.astype(working_dtype(A.dtype), copy=False)
    largest = 0.0
    for some in column_slices((A.shape[0], A.shape[1])):
        part = np.abs(A[:, some])
        if not np.isfinite(part).all():
            i, j = np.argwhere(~np.isfinite(part))[0]
            raise InputError(
                f"entry ({i}, {some.start + j}) is {A[i, some.start + j]}; expected finite "
                "numbers (drop or fill such rows first)"
            )
        largest = max(largest, float(part.max(initial=0.0)))
    check_range(largest, A.dtype)
    return A


def check_range(largest: float, dtype: np.dtype) -> None:
    """Refuse a matrix whose squares overflow or vanish, by its largest entry."""
    bound = ENTRY_BOUND[dtype.char]
    if largest and not 1 / bound <= largest <= bound:
        raise InputError(
            f"the largest entry is {largest:.3g} in {dtype}; expected {1 / bound:.0e} to "
            f"{bound:.0e}, whose squares do not overflow or vanish (divide the matrix by a number "
            "first and multiply the result by it)"
        )


def column_slices(shape: tuple[int, int]) -> Iterator[slice]:
    """Slices of columns whose temporaries stay a small part of the matrix."""
    m, n = shape
    width = (m * n) // (16 * max(m + n, 1))
    width = max(1, min(max(16, width), COLUMNS_ENTRIES // max(m + n, 1)))
    for start in range(0, n, width):
        yield slice(start, min(start + width, n))


def norm(A: Any) -> float:
    """Frobenius norm of an array or an operator, accumulated in double precision."""
    return _root(_columns(A, some) for some in column_slices(A.shape))


def _norm_of(op: Products, exact: bool) -> float:
    """Frobenius norm of an operator: that of a sparse matrix's entries, or by products."""
    op.check_symmetry()
    if op.sparse is not None:
        if not np.isfinite(op.sparse.data).all():
            raise InputError("a sparse matrix with NaN or infinity; expected finite numbers")
        op.largest = float(np.abs(op.sparse.data).max(initial=0.0))
        op.size = float(np.linalg.norm(op.sparse.data))
        return op.size
    if exact:
        op.size = norm(op)
        return op.size
    X, Y = op.sample()
    return float(np.linalg.norm(Y) / np.sqrt(X.shape[1]))


def residual(A: Any, B: Any) -> float:
    """Frobenius norm of A - B, for arrays or anything with `matmat`."""
    if isinstance(A, Products):
        found = A.residual(factors_of(B))
        if found is not None:
            return found
    if isinstance(B, StructuredMatrix) and _is_small(B):
        # One product, for which no kernel is worth choosing.
        with using("panels"):
            B = B.matmat(np.eye(B.shape[1], dtype=B.dtype))
    return _root(_columns(A, some) - _columns(B, some) for some in column_slices(A.shape))


def svd_residual(A: Any, triple: Triple) -> float:
    """Frobenius norm of A - U diag(s) Vh."""
    U, s, Vh = triple
    left = U * s
    found = A.residual((left, Vh.conj().T)) if isinstance(A, Products) else None
    if found is not None:
        return found
    return _root(_columns(A, some) - left @ Vh[:, some] for some in column_slices(A.shape))


def _is_small(B: StructuredMatrix) -> bool:
    m, n = B.shape
    return n <= m and m * n <= SMALL_ENTRIES


def _columns(A: Any, some: slice) -> NDArray:
    if isinstance(A, np.ndarray):
        return A[:, some]
    unit = np.zeros((A.shape[1], some.stop - some.start), A.dtype)
    unit[np.arange(some.start, some.stop), np.arange(unit.shape[1])] = 1
    return A.matmat(unit)


def _root(parts: Iterator[NDArray]) -> float:
    total = 0.0
    for part in parts:
        if part.dtype.kind == "c":
            total += float((part.real.astype(np.float64) ** 2).sum())
            total += float((part.imag.astype(np.float64) ** 2).sum())
        else:
            total += float((part.astype(np.float64) ** 2).sum())
    return float(np.sqrt(total))
