"""Bound kernels: products by one matrix, and by its factors one after the other."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from structmat._array import Array
from structmat.intervals import IntArray
from structmat.kernels.layouts.factors import FactorStructure


class BoundKernel(Protocol):
    """A kernel with the contents of one matrix A, (m, n), ready to multiply.

    `by_columns` asks for a result that lies in memory column after column; kernels whose
    results have one order ignore it.
    """

    def multiply(self, x: Array, *, by_columns: bool) -> Array:
        """A x: (n, k) to (m, k)."""

    def multiply_adjoint(self, y: Array, *, by_columns: bool) -> Array:
        """A^H y: (m, k) to (n, k)."""


class Orders(NamedTuple):
    """Places of the rows and columns of a matrix in another one; None for their own."""

    rows: IntArray | None = None
    cols: IntArray | None = None

    def in_orders(self, rows: IntArray | None, cols: IntArray | None) -> "Orders":
        """The places where row i lies at ``rows[i]`` and column j at ``cols[j]``."""
        sides = zip(self, (rows, cols), strict=True)
        return Orders(*(own if to is None else to if own is None else to[own] for own, to in sides))

    def moved(self, dense: np.ndarray) -> np.ndarray:
        """A dense matrix with its rows and columns at their places."""
        for axis, places in enumerate(self):
            if places is not None:
                dense = np.take(dense, np.argsort(places), axis=axis)
        return dense


class ListingKernel(BoundKernel, Protocol):
    """A bound kernel that can put rows and columns elsewhere: any order costs nothing."""

    #: The places, with a method `in_orders` that moves them.
    index: Any

    def lists(self, x: Array) -> bool:
        """Tell whether an operand is multiplied by the lists."""

    def listed(self, index: Any) -> BoundKernel:
        """The kernel of the same contents at other places."""


class DirectKernel(BoundKernel, Protocol):
    """A compiled kernel on NumPy, on at most `threads` threads."""

    threads: int

    def multiply(self, x: Array, *, by_columns: bool, plus: Array | None = None) -> Array:
        """A x: (n, k) to (m, k), with `plus`, (m,) in a row of memory, added to every column."""


class BoundFactor(Protocol):
    """A sparse factor S, (n, K), ready to multiply."""

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z: (K, k) to (n, k)."""

    def rmatmat(self, y: Array) -> Array:
        """S^H y: (n, k) to (K, k)."""


class Chain:
    """Products by R [C^H; I], one factor after the other; `row` is R and `col` C."""

    def __init__(
        self, structure: FactorStructure, row: BoundFactor, col: BoundFactor | None = None
    ) -> None:
        self._structure, self._row, self._col = structure, row, col

    def multiply(self, x: Array, *, by_columns: bool) -> Array:
        """A x: (n, k) to (m, k)."""
        structure, middle = self._structure, []
        if self._col is not None:
            middle.append(self._col.rmatmat(x))
        if structure.through:
            middle.append(x)
        z = middle[0] if len(middle) == 1 else structure.xp.concat(middle, axis=0)
        return self._row.matmat(z, by_columns=by_columns)

    def multiply_adjoint(self, y: Array, *, by_columns: bool) -> Array:
        """A^H y: (m, k) to (n, k)."""
        z = self._row.rmatmat(y)
        if self._col is None:
            return z
        count = self._structure.middle
        x = self._col.matmat(z[:count, :], by_columns=by_columns)
        return x + z[count:, :] if self._structure.through else x
