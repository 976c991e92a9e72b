"""A permutation of positions, which costs no multiplications."""

import math
from types import ModuleType
from typing import Any

import numpy as np

from structmat._array import (
    Array,
    check_plain,
    computing_on,
    device,
    integers,
    is_dtype,
    namespace,
    stored_by_columns,
    taken,
    to_numpy,
)
from structmat._checks import host_array, integer_array
from structmat.errors import InputError
from structmat.intervals import IntArray
from structmat.kinds import rule
from structmat.matrix import StructuredMatrix


class Permutation(StructuredMatrix, kind="permutation"):
    """Reordering of n positions: ``(P @ x)[i] = x[p[i]]``; cost 0.

    Parameters
    ----------
    p : array of int, shape (n,)
        Every position 0 to n - 1, once.

    Raises
    ------
    InputError
        If `p` is no permutation.

    Notes
    -----
    A permutation has no precision of its own: products keep the dtype of the operand, and
    `dtype` is float64 for solvers that ask. Storage counts the n indices. They are structure, and
    must not change after construction.

    Around another matrix it is an order of the rows or the columns. Permutations that meet there
    are one, and an identity vanishes: ``P.H @ (P @ A)`` is A.

    Examples
    --------
    >>> import numpy as np
    >>> P = Permutation([2, 0, 1])
    >>> P @ np.array([10.0, 20.0, 30.0])
    array([30., 10., 20.])
    >>> P.H @ (P @ np.array([10.0, 20.0, 30.0]))
    array([10., 20., 30.])
    """

    data_names = ("p",)
    p: Array

    def __init__(self, p: Array) -> None:
        if isinstance(p, (list, tuple)):
            p = integer_array(p, "p")
        elif isinstance(p, np.ndarray):
            p = host_array(p, "p")
        xp = namespace(p)
        check_plain(p, xp, "p")
        if p.ndim != 1 or not is_dtype(p.dtype, "integral", xp):
            raise InputError(
                f"p has shape {tuple(p.shape)} and dtype {p.dtype}; expected integers, shape (n,)"
            )
        n = p.shape[0]
        if not np.array_equal(np.sort(to_numpy(p)), np.arange(n)):
            raise InputError(f"p is no permutation: expected each of 0 to {n - 1} exactly once")
        with computing_on(xp, device(p)):
            p = xp.astype(p, xp.int64)
        super().__init__((n, n), {"p": p}, neutral=True)

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: none."""
        return 0

    @property
    def _inverse(self) -> Array:
        # Structure, as `p` is: a layer that is traced has it already.
        return self._structural("inverse", lambda: self.xp.argsort(self.p))

    def _is_identity(self) -> bool:
        return np.array_equal(to_numpy(self.p), np.arange(self.shape[0]))

    def _multiply(self, x: Array) -> Array:
        return _rows(x, self.p, self.xp)

    def _multiply_adjoint(self, y: Array) -> Array:
        return _rows(y, self._inverse, self.xp)

    def _dense(self) -> Array:
        xp = self.xp
        columns = xp.arange(self.shape[1], dtype=self.p.dtype, device=self.device)
        return xp.astype(self.p[:, None] == columns[None, :], self.dtype)

    def _adjoint(self) -> "Permutation":
        return Permutation(self._inverse)

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        xp = self.xp
        found = xp.take(self.p, integers(rows, xp, self.device), axis=0)
        return xp.astype(found == integers(cols, xp, self.device), self.dtype)

    def _norm(self, ord: Any) -> float:
        return math.sqrt(self.shape[0]) if ord == "fro" else 1.0


def _rows(x: Array, at: Array, xp: ModuleType) -> Array:
    """Rows of x, in the order of its memory: a copy to the other order takes longer."""
    if stored_by_columns(x, xp):
        return xp.matrix_transpose(taken(xp.matrix_transpose(x), at, xp, axis=1))
    return taken(x, at, xp, axis=0)


@rule("matmul", "permutation", "*")
def _identity_times(a: Permutation, b: StructuredMatrix) -> Any:
    return b if a._is_identity() else NotImplemented


@rule("matmul", "*", "permutation")
def _times_identity(a: StructuredMatrix, b: Permutation) -> Any:
    return a if b._is_identity() else NotImplemented


@rule("matmul", "permutation", "permutation")
def _compose(a: Permutation, b: Permutation) -> Permutation:
    return Permutation(a.xp.take(b.p, a.p, axis=0))
