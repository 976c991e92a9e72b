"""A dense array behind the same interface as the structures."""

from typing import Any

import numpy as np

from structmat._array import (
    Array,
    adjoint,
    adjoint_times,
    as_content,
    integers,
    product,
    stored_by_columns,
    to_numpy,
)
from structmat.intervals import IntArray
from structmat.kinds import rule
from structmat.matrices.low_rank import LowRank
from structmat.matrix import StructuredMatrix


class Dense(StructuredMatrix, kind="dense"):
    """A dense matrix; cost and storage m n.

    Parameters
    ----------
    A : array, shape (m, n)

    Examples
    --------
    >>> import numpy as np
    >>> A = Dense(np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> A @ np.array([1.0, 1.0])
    array([3., 7.])
    >>> A.cost
    4
    """

    data_names = ("A",)
    scaled_names = ("A",)
    A: Array

    def __init__(self, A: Array) -> None:
        A = as_content(A, "A", 2)
        super().__init__((A.shape[0], A.shape[1]), {"A": A})

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: m n."""
        return self.shape[0] * self.shape[1]

    def _multiply(self, x: Array) -> Array:
        return product(self.A, x, self.xp, by_columns=stored_by_columns(x, self.xp))

    def _multiply_adjoint(self, y: Array) -> Array:
        return adjoint_times(self.A, y, self.xp)

    def _dense(self) -> Array:
        return self.A

    def _adjoint(self) -> "Dense":
        return Dense(adjoint(self.A, self.xp))

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        at = integers(rows * self.shape[1] + cols, self.xp, self.device)
        return self.xp.take(self.xp.reshape(self.A, (-1,)), at, axis=0)

    def _part(self, rows: IntArray, cols: IntArray) -> "Dense":
        xp = self.xp
        part = xp.take(self.A, integers(rows, xp, self.device), axis=0)
        return Dense(xp.take(part, integers(cols, xp, self.device), axis=1))

    def _norm(self, ord: Any) -> float:
        return float(np.linalg.norm(to_numpy(self.A), ord))


@rule("add", "dense", "*")
def _dense_plus(a: Dense, b: StructuredMatrix) -> Dense:
    return Dense(a.A + _precise(b, a))


@rule("add", "*", "dense")
def _plus_dense(a: StructuredMatrix, b: Dense) -> Dense:
    return Dense(_precise(a, b) + b.A)


def _precise(matrix: StructuredMatrix, other: Dense) -> Array:
    """Dense form; a matrix without a precision of its own takes that of the other."""
    dense = matrix.to_dense()
    return other.xp.astype(dense, other.dtype) if matrix.neutral else dense


@rule("matmul", "dense", "*")
def _dense_times(a: Dense, b: StructuredMatrix) -> Any:
    if _is_cheapest(a, b):
        return Dense(b.rdot(a.A))
    if _is_thin(a, b):
        return LowRank(a.A, adjoint(_precise(b, a), a.xp))
    return NotImplemented


@rule("matmul", "*", "dense")
def _times_dense(a: StructuredMatrix, b: Dense) -> Any:
    if _is_cheapest(a, b):
        return Dense(a.matmat(b.A))
    if _is_thin(a, b):
        return LowRank(_precise(a, b), adjoint(b.A, b.xp))
    return NotImplemented


def _is_cheapest(a: StructuredMatrix, b: StructuredMatrix) -> bool:
    """True where the entries of a product take no more than its factors."""
    m, k, n = *a.shape, b.shape[1]
    return m * n <= min(k * (m + n), a.cost + b.cost)


def _is_thin(a: StructuredMatrix, b: StructuredMatrix) -> bool:
    """True where dense factors with a short side between them take no more than these factors."""
    return a.shape[1] * (a.shape[0] + b.shape[1]) <= a.cost + b.cost
