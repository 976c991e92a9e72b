"""Low rank: a tall factor times a wide one."""

from types import ModuleType
from typing import Any

from structmat._array import (
    Array,
    adjoint,
    adjoint_times,
    as_content,
    conj,
    integers,
    product,
    stored_by_columns,
)
from structmat.contract.entries import factored_norm
from structmat.errors import ShapeError
from structmat.intervals import IntArray
from structmat.kinds import rule
from structmat.matrix import StructuredMatrix


class LowRank(StructuredMatrix, kind="low_rank"):
    """A = U V^H of rank at most r; cost and storage r (m + n).

    Parameters
    ----------
    U : array, shape (m, r)
    V : array, shape (n, r)

    Raises
    ------
    ShapeError
        If the ranks differ.

    Examples
    --------
    >>> import numpy as np
    >>> A = LowRank(np.ones((4, 1)), np.ones((3, 1)))
    >>> A @ np.array([1.0, 2.0, 3.0])
    array([6., 6., 6., 6.])
    >>> A.cost, A.rank
    (7, 1)
    """

    data_names = ("U", "V")
    scaled_names = ("U",)
    U: Array
    V: Array

    def __init__(self, U: Array, V: Array) -> None:
        U, V = as_content(U, "U", 2), as_content(V, "V", 2)
        if U.shape[1] != V.shape[1]:
            raise ShapeError(
                f"U has shape {tuple(U.shape)} and V {tuple(V.shape)}; expected (m, r) and (n, r) "
                "with the same rank r"
            )
        super().__init__((U.shape[0], V.shape[0]), {"U": U, "V": V})

    @property
    def rank(self) -> int:
        """Number of columns of both factors."""
        return self.U.shape[1]

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: r (m + n)."""
        return self.rank * sum(self.shape)

    def _multiply(self, x: Array) -> Array:
        return _through(self.U, self.V, x, self.xp)

    def _multiply_adjoint(self, y: Array) -> Array:
        return _through(self.V, self.U, y, self.xp)

    def _dense(self) -> Array:
        return self.U @ adjoint(self.V, self.xp)

    def _adjoint(self) -> "LowRank":
        return LowRank(self.V, self.U)

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        xp = self.xp
        U, V = self._rows(self.U, rows), self._rows(self.V, cols)
        return xp.sum(U * conj(V, xp), axis=1)

    def _part(self, rows: IntArray, cols: IntArray) -> "LowRank":
        return LowRank(self._rows(self.U, rows), self._rows(self.V, cols))

    def _rows(self, F: Array, at: IntArray) -> Array:
        return self.xp.take(F, integers(at, self.xp, self.device), axis=0)

    def _norm(self, ord: Any) -> Any:
        return factored_norm(self.U, self.V, ord) if ord in ("fro", 2) else NotImplemented


def _through(U: Array, V: Array, x: Array, xp: ModuleType) -> Array:
    """U V^H x."""
    middle = adjoint_times(V, x, xp)
    return product(U, middle, xp, by_columns=stored_by_columns(x, xp))


@rule("add", "low_rank", "low_rank")
def _sum(a: LowRank, b: LowRank) -> LowRank:
    return LowRank(a.xp.concat([a.U, b.U], axis=1), a.xp.concat([a.V, b.V], axis=1))


@rule("matmul", "low_rank", "low_rank")
def _product(a: LowRank, b: LowRank) -> LowRank:
    if a.rank <= b.rank:
        return LowRank(a.U, b.rmatmat(a.V))
    return LowRank(a.matmat(b.U), b.V)


@rule("matmul", "low_rank", "*")
def _low_rank_times(a: LowRank, b: StructuredMatrix) -> Any:
    if _is_cheaper(a.rank, a, b):
        return LowRank(a.U, b.rmatmat(a.V))
    return NotImplemented


@rule("matmul", "dense", "low_rank")
@rule("matmul", "*", "low_rank")
def _times_low_rank(a: StructuredMatrix, b: LowRank) -> Any:
    if _is_cheaper(b.rank, a, b):
        return LowRank(a.matmat(b.U), b.V)
    return NotImplemented


def _is_cheaper(rank: int, a: StructuredMatrix, b: StructuredMatrix) -> bool:
    """True where a product of this rank takes no more than its factors."""
    return rank * (a.shape[0] + b.shape[1]) <= a.cost + b.cost
