"""Monarch: two block-diagonal factors and a stride permutation between them."""

import math
from typing import Any

import numpy as np

from structmat._array import Array, as_content, integers, masked, stored_by_columns
from structmat._checks import matrix_shape
from structmat.errors import ShapeError
from structmat.intervals import IntArray
from structmat.kernels.arrays.monarch import monarch_matmat, monarch_rmatmat
from structmat.kinds import kind_class
from structmat.matrices.inner_products import LARGE
from structmat.matrix import StructuredMatrix


class Monarch(StructuredMatrix, kind="monarch"):
    """Block-diagonal times permutation times block-diagonal, then a permutation.

    The input is cut into k pieces of p, block k of `R` maps each to q numbers; the
    k q = l r numbers in between are dealt out in turn to l hands of r, block j of `L`
    maps each hand to s numbers, and output i l + j is number i of hand j. Written
    out, with t the middle index::

        A[i l + j, c p + d] = Σ_t L[j, i, t // l] R[c, t % q, d],   t % l = j, t // q = c

    so that, once its rows are sorted by hand, each tile (j, c) has low rank (rank one
    when q = l).

    Parameters
    ----------
    L : array, shape (l, s, r)
    R : array, shape (k, q, p)
        With k q = l r.
    shape : tuple of int, optional
        ``(m, n)``, at most ``(l s, k p)``, which is the default; the operands are
        padded with zeros and the result is cut.

    Raises
    ------
    ShapeError
        If the factors do not meet, or the shape is larger than they reach.

    Notes
    -----
    Cost and storage are k q p + l s r, padding included. Source: Dao et al. 2022,
    arXiv 2204.00595, whose square case is k = l = p = q = r = s.

    Examples
    --------
    >>> import numpy as np
    >>> A = Monarch(np.ones((2, 2, 2)), np.ones((2, 2, 2)))
    >>> A @ np.arange(4.0)
    array([6., 6., 6., 6.])
    >>> A.cost
    16
    """

    data_names = ("L", "R")
    static_names = ("shape",)
    scaled_names = ("L",)
    L: Array
    R: Array

    def __init__(self, L: Array, R: Array, *, shape: tuple[int, int] | None = None) -> None:
        L, R = as_content(L, "L", 3), as_content(R, "R", 3)
        (l, s, r), (k, q, p) = L.shape, R.shape
        if l * r != k * q:
            raise ShapeError(
                f"L has shape {(l, s, r)} and R {(k, q, p)}; expected (l, s, r) and (k, q, p) with "
                f"l r = k q, but {l * r} is not {k * q}"
            )
        full = (l * s, k * p)
        m, n = full if shape is None else matrix_shape(shape)
        if m > full[0] or n > full[1]:
            raise ShapeError(
                f"shape {(m, n)} does not fit the factors; expected at most {full}, the sizes "
                "(l s, k p) that L and R reach"
            )
        super().__init__((m, n), {"L": L, "R": R})

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: k q p + l s r."""
        (l, s, r), (k, q, p) = self.L.shape, self.R.shape
        return l * s * r + k * q * p

    @property
    def _padded_shape(self) -> tuple[int, int]:
        return self.L.shape[0] * self.L.shape[1], self.R.shape[0] * self.R.shape[2]

    def _padded(self, x: Array, size: int) -> Array:
        missing = size - x.shape[0]
        if not missing:
            return x
        zeros = self.xp.zeros((missing, x.shape[1]), dtype=x.dtype, device=self.device)
        return self.xp.concat([x, zeros], axis=0)

    def _multiply(self, x: Array) -> Array:
        xp, by_columns = self.xp, stored_by_columns(x, self.xp)
        x = self._padded(x, self._padded_shape[1])
        y = monarch_matmat(self.L, self.R, x, xp, by_columns=by_columns)
        return y[: self.shape[0], :]

    def _multiply_adjoint(self, y: Array) -> Array:
        y = self._padded(y, self._padded_shape[0])
        return monarch_rmatmat(self.L, self.R, y, self.xp)[: self.shape[1], :]

    def _dense(self) -> Array:
        return self._dense_by_products()

    def _adjoint(self) -> StructuredMatrix:
        # The adjoint strides over columns instead of rows: no Monarch matrix of this form.
        return kind_class("adjoint")(self)

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        """Sum over the middle indices between the hand of a row and the piece of a column."""
        (l, s, r), (k, q, p) = self.L.shape, self.R.shape
        if not rows.size or not k * q:
            return self.xp.zeros(rows.size, dtype=self.dtype, device=self.device)
        (i, j), (c, d) = np.divmod(rows[:, None], l), np.divmod(cols[:, None], p)
        t = c * q + (j - c * q) % l + l * np.arange(-(-q // l))
        inside = t < (c + 1) * q
        t = np.where(inside, t, 0)
        left = self._taken(self.L, (j * s + i) * r + t // l)
        right = self._taken(self.R, (c * q + t % q) * p + d)
        return self.xp.sum(masked(left * right, inside, self.xp), axis=1)

    def _norm(self, ord: Any) -> Any:
        """Norm of its tiles of low rank, of which no two share an entry."""
        if ord != "fro" or math.prod(self.shape) <= LARGE:
            return NotImplemented
        return self.to_kind("block_low_rank").norm()

    def _taken(self, contents: Array, at: IntArray) -> Array:
        xp = self.xp
        flat = integers(at.ravel(), xp, self.device)
        return xp.reshape(xp.take(xp.reshape(contents, (-1,)), flat, axis=0), at.shape)
