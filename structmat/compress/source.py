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
from structmat.compress.inner import factors_of, residual_by_products, sparse_entries
from structmat.errors import BackendError, InputError, ShapeError
from structmat.kernels import using
from structmat.matrix import StructuredMatrix
from structmat.project.svd import Triple

#: A structured or sparse matrix with more entries is compressed through its products.
DENSE_ENTRIES = 2**26
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

    def norm(self) -> float:
        """Frobenius norm; an operator's entries are checked on the way."""
        with np.errstate(over="ignore"):
            size = self.data.norm() if self.implicit else norm(self.data)
        if self.implicit:
            _check_range(self.data.largest, self.data.dtype)
        return size


def source_of(A: Any) -> Source:
    """Check an input, and choose between its entries and its products."""
    restore: Callable[[StructuredMatrix], StructuredMatrix] = _unchanged
    if isinstance(A, StructuredMatrix):
        if math.prod(A.shape) > DENSE_ENTRIES:
            return Source(_Products(A.to("numpy")), True, _back_to(A.xp, A.device))
        A = A.to_dense()
    if not (issparse(A) or isinstance(A, (list, tuple, np.ndarray))):
        try:
            xp = _array.namespace(A)
        except BackendError:
            return Source(_Products(_operator(A)), True, _unchanged)
        A, restore = _from_library(A, xp)
    if issparse(A):
        _check_dimensions(A.shape)
        if math.prod(A.shape) > DENSE_ENTRIES:
            return Source(_Products(aslinearoperator(A.tocsr())), True, restore)
        A = A.toarray()
    return Source(_checked(host_array(A, "the matrix")), False, restore)


def _operator(A: Any) -> Any:
    if all(hasattr(A, name) for name in ("shape", "matmat", "rmatmat")):
        return A
    raise InputError(
        f"a matrix of type {type(A).__module__}.{type(A).__qualname__}; expected a 2-D array, "
        "a structured or sparse matrix, or an operator with shape, matmat and rmatmat (a table "
        "becomes an array with numpy.asarray)"
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
    except ShapeError:
        raise
    except Exception as error:  # libraries have errors of their own
        reason = (str(error).splitlines() or [""])[0]
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
    A = A.astype(_working_dtype(A.dtype), copy=False)
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
    _check_range(largest, A.dtype)
    return A


def _check_range(largest: float, dtype: np.dtype) -> None:
    bound = ENTRY_BOUND[dtype.char]
    if largest and not 1 / bound <= largest <= bound:
        raise InputError(
            f"the largest entry is {largest:.3g} in {dtype}; expected {1 / bound:.0e} to "
            f"{bound:.0e}, whose squares do not overflow or vanish (divide the matrix by a number "
            "first and multiply the result by it)"
        )


def _working_dtype(dtype: np.dtype) -> np.dtype:
    if dtype.char in ENTRY_BOUND:
        return np.dtype(dtype.char)
    if dtype.kind in "iu":
        return np.dtype(np.float64)
    if dtype == np.float16:
        return np.dtype(np.float32)
    raise InputError(
        f"a matrix of dtype {dtype}; expected real or complex numbers of single or double "
        "precision, or integers (convert it with A.astype(float))"
    )


class _Products:
    """An operator whose results are checked at each product."""

    def __init__(self, operator: Any) -> None:
        shape = tuple(operator.shape)
        if len(shape) != 2:
            raise ShapeError(f"an operator of shape {shape}; expected two dimensions (m, n)")
        self._operator = operator
        self.shape: tuple[int, int] = (int(shape[0]), int(shape[1]))
        given = getattr(operator, "dtype", None)
        if given is None:
            given = np.asarray(operator.matmat(np.zeros((self.shape[1], 1)))).dtype
        self.dtype = _working_dtype(np.dtype(given))
        #: Largest entry of any result so far.
        self.largest = 0.0
        #: All entries of a sparse matrix, in double precision; None of other operators.
        self.sparse = sparse_entries(operator)
        #: Frobenius norm, once it is measured.
        self.size: float | None = None

    def norm(self) -> float:
        """Frobenius norm: that of a sparse matrix's entries, or n products."""
        if self.sparse is None:
            self.size = norm(self)
            return self.size
        if not np.isfinite(self.sparse.data).all():
            raise InputError("a sparse matrix with NaN or infinity; expected finite numbers")
        self.largest = float(np.abs(self.sparse.data).max(initial=0.0))
        self.size = float(np.linalg.norm(self.sparse.data))
        return self.size

    def residual(self, factors: tuple[Any, Any] | None) -> float | None:
        """Norm of the difference to U V^H by inner products; None if entries must tell."""
        if factors is None or self.size is None:
            return None
        return residual_by_products(self, self.size, factors)

    def matmat(self, X: NDArray) -> NDArray:
        """A @ X, shape (m, k)."""
        return self._product("matmat", X, self.shape[0])

    def rmatmat(self, X: NDArray) -> NDArray:
        """A^H @ X, shape (n, k)."""
        return self._product("rmatmat", X, self.shape[1])

    def _product(self, name: str, X: NDArray, rows: int) -> NDArray:
        try:
            Y = np.asarray(getattr(self._operator, name)(X))
        except (NotImplementedError, TypeError, AttributeError) as reason:
            # SciPy's operators fail in any of these ways where an adjoint is missing.
            if name != "rmatmat":
                raise
            raise InputError(
                f"{name} of {type(self._operator).__name__} failed; expected products with the "
                "matrix and with its adjoint (give rmatvec or rmatmat)"
            ) from reason
        if Y.shape != (rows, X.shape[1]):
            raise ShapeError(
                f"{name} of a {self.shape[0]}x{self.shape[1]} operator gave shape {Y.shape}; "
                f"expected {(rows, X.shape[1])}"
            )
        if not np.isfinite(Y).all():
            raise InputError(f"{name} gave NaN or infinity; expected finite numbers")
        if np.iscomplexobj(Y) and self.dtype.kind != "c":
            raise InputError(
                f"{name} of an operator of dtype {self.dtype} gave {Y.dtype}; expected real "
                "numbers (give the operator a complex dtype)"
            )
        self.largest = max(self.largest, float(np.abs(Y).max(initial=0.0)))
        return Y.astype(self.dtype, copy=False)


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


def residual(A: Any, B: Any) -> float:
    """Frobenius norm of A - B, for arrays or anything with `matmat`."""
    if isinstance(A, _Products):
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
    found = A.residual((left, Vh.conj().T)) if isinstance(A, _Products) else None
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
