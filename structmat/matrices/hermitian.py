"""Hermitian matrices of half the storage: T + T^H of any structure, and U D U^H of low rank."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from structmat._array import (
    Array,
    adjoint,
    adjoint_times,
    as_content,
    conj,
    integers,
    is_complex,
    product,
    stored_by_columns,
    to_numpy,
)
from structmat.contract.operand import multiplied
from structmat.errors import ShapeError
from structmat.intervals import IntArray
from structmat.kinds import rule
from structmat.matrices.inner_products import LARGE
from structmat.matrices.lazy import Product, Scaled, Sum
from structmat.matrices.low_rank import LowRank
from structmat.matrices.permutation import Permutation
from structmat.matrix import StructuredMatrix


class HermitianLowRank(StructuredMatrix, kind="hermitian_low_rank"):
    """A = U diag(d) U^H with a real d; storage (n + 1) r, and cost (2 n + 1) r.

    Parameters
    ----------
    U : array, shape (n, r)
    d : array, shape (r,)
        Of complex numbers the real parts count.

    Raises
    ------
    ShapeError
        If there are not as many entries as columns.

    Examples
    --------
    >>> import numpy as np
    >>> A = HermitianLowRank(np.array([[1.0], [2.0]]), np.array([3.0]))
    >>> A.to_dense(), A.cost, A.storage, A.hermitian
    (array([[ 3.,  6.],
           [ 6., 12.]]), 5, 3, True)
    """

    data_names = ("U", "d")
    U: Array
    d: Array

    def __init__(self, U: Array, d: Array) -> None:
        U, d = as_content(U, "U", 2), as_content(d, "d", 1)
        if U.shape[1] != d.shape[0]:
            raise ShapeError(
                f"U has shape {tuple(U.shape)} and d {tuple(d.shape)}; expected (n, r) and (r,)"
            )
        super().__init__((U.shape[0], U.shape[0]), {"U": U, "d": d})

    @property
    def rank(self) -> int:
        """Number of columns of U."""
        return self.U.shape[1]

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: (2 n + 1) r."""
        return self.rank * (2 * self.shape[0] + 1)

    def _hermitian(self) -> bool:
        return True

    @property
    def _weights(self) -> Array:
        """Real part of d, in the dtype of the matrix."""
        return (self.d + conj(self.d, self.xp)) / 2 if is_complex(self.d, self.xp) else self.d

    def _multiply(self, x: Array) -> Array:
        middle = self._weights[:, None] * adjoint_times(self.U, x, self.xp)
        return product(self.U, middle, self.xp, by_columns=stored_by_columns(x, self.xp))

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._multiply(y)

    def _dense(self) -> Array:
        return (self.U * self._weights) @ adjoint(self.U, self.xp)

    def _adjoint(self) -> "HermitianLowRank":
        return self

    def _scaled(self, scalar: Any, apply: Callable[[Any, Any], Any]) -> Any:
        if _is_complex(scalar, self.xp):
            return NotImplemented
        return HermitianLowRank(self.U, apply(self.d, scalar))

    def _rows(self, at: IntArray) -> Array:
        return self.xp.take(self.U, integers(at, self.xp, self.device), axis=0)

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        left, right = self._rows(rows) * self._weights, conj(self._rows(cols), self.xp)
        return self.xp.sum(left * right, axis=1)

    def _part(self, rows: IntArray, cols: IntArray) -> StructuredMatrix:
        if np.array_equal(rows, cols):
            return HermitianLowRank(self._rows(rows), self.d)
        return LowRank(self._rows(rows) * self._weights, self._rows(cols))

    def _norm(self, ord: Any) -> Any:
        if ord not in ("fro", 2):
            return NotImplemented
        R = np.asarray(np.linalg.qr(to_numpy(self.U), mode="r"))
        middle = (R * to_numpy(self._weights)) @ R.conj().T
        return float(np.linalg.norm(middle, ord)) if middle.size else 0.0


class Mirrored(StructuredMatrix, kind="mirrored"):
    """T + T^H of a square matrix T: the storage of T, and twice its cost.

    A product takes one of T and one of its adjoint.

    Examples
    --------
    >>> A = Mirrored(LowRank([[0.0], [1.0]], [[2.0], [3.0]]))
    >>> A.to_dense(), A.cost, A.storage
    (array([[0., 2.],
           [2., 6.]]), 8, 4)
    """

    def __init__(self, T: StructuredMatrix) -> None:
        if T.shape[0] != T.shape[1]:
            raise ShapeError(f"T has shape {T.shape}; expected a square matrix")
        super().__init__(T.shape, {}, (T,))

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: twice those of T."""
        return 2 * self.children[0].cost

    def _hermitian(self) -> bool:
        return True

    def _multiply(self, x: Array) -> Array:
        T = self.children[0]
        return multiplied(T, x, adjoint=False) + multiplied(T, x, adjoint=True)

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._multiply(y)

    def _dense(self) -> Array:
        dense = self.xp.astype(self.children[0].to_dense(), self.dtype)
        return dense + adjoint(dense, self.xp)

    def _adjoint(self) -> "Mirrored":
        return self

    def _scaled(self, scalar: Any, apply: Callable[[Any, Any], Any]) -> Any:
        if _is_complex(scalar, self.xp):
            return NotImplemented
        T = self.children[0]._scale(scalar, apply)
        added = isinstance(T, Scaled) and not isinstance(self.children[0], Scaled)
        return NotImplemented if added else Mirrored(T)

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        T, xp = self.children[0], self.xp
        one, other = T._entries_at(rows, cols), T._entries_at(cols, rows)
        return xp.astype(one, self.dtype) + conj(xp.astype(other, self.dtype), xp)

    def _norm(self, ord: Any) -> Any:
        T = self.children[0]
        if ord != "fro" or T.kind != "gblr" or math.prod(self.shape) <= LARGE:
            return NotImplemented
        return (T + T.H).norm()

    def _part(self, rows: IntArray, cols: IntArray) -> StructuredMatrix:
        T = self.children[0]
        one = T._submatrix(rows, cols)
        if np.array_equal(rows, cols):
            return Mirrored(one)
        return Sum(one, T._submatrix(cols, rows).H)


def _is_complex(scalar: Any, xp: Any) -> bool:
    return isinstance(scalar, complex) or (hasattr(scalar, "dtype") and is_complex(scalar, xp))


@rule("add", "hermitian_low_rank", "hermitian_low_rank")
def _low_rank_sum(a: HermitianLowRank, b: HermitianLowRank) -> HermitianLowRank:
    return HermitianLowRank(a.xp.concat([a.U, b.U], axis=1), a.xp.concat([a.d, b.d]))


@rule("add", "mirrored", "mirrored")
def _sum(a: Mirrored, b: Mirrored) -> Mirrored:
    return Mirrored(a.children[0] + b.children[0])


@rule("convert", "hermitian_low_rank", "low_rank")
def _to_low_rank(A: HermitianLowRank) -> LowRank:
    return LowRank(A.U * A._weights, A.U)


@rule("matmul", "hermitian_low_rank", "*")
def _low_rank_times(a: HermitianLowRank, b: StructuredMatrix) -> Any:
    return _to_low_rank(a) @ b


@rule("matmul", "*", "hermitian_low_rank")
def _times_low_rank(a: StructuredMatrix, b: HermitianLowRank) -> Any:
    return a @ _to_low_rank(b)


@rule("matmul", "permutation", "hermitian_low_rank")
def _rows_in_order(a: Permutation, b: HermitianLowRank) -> StructuredMatrix:
    """An order costs nothing; with its inverse on the other side the matrix stays Hermitian."""
    return b if a._is_identity() else Product(a, b)


@rule("matmul", "hermitian_low_rank", "permutation")
def _columns_in_order(a: HermitianLowRank, b: Permutation) -> StructuredMatrix:
    return a if b._is_identity() else Product(a, b)
