"""Diagonal tiles taken apart by LAPACK: D = P^T L U, or D = L L^H.

Each half has a product with its inverse and one with the inverse of its adjoint: `first` is
(P^T L)^-1 and `last` is U^-1, so that D^-1 b = last(first(b)).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs, get_lapack_funcs


def _triangle(factor: NDArray, b: NDArray, *, lower: bool, adjoint: bool, unit: bool) -> NDArray:
    """Solution of a triangular system, or of its adjoint."""
    if not b.size:
        return b
    (trsm,) = get_blas_funcs(("trsm",), (factor,))
    return trsm(1.0, factor, b, lower=lower, trans_a=2 if adjoint else 0, diag=unit)


class LU:
    """D = P^T L U of a square tile, with row interchanges inside it.

    `singular` is the column whose pivot is zero, or None.
    """

    definite = False

    def __init__(self, D: NDArray) -> None:
        (getrf,) = get_lapack_funcs(("getrf",), (D,))
        self.factor, pivots, info = getrf(D)
        self.singular = int(info) - 1 if info > 0 else None
        self.pivots, self.order = pivots, _order_of_swaps(pivots)

    def first(self, b: NDArray) -> NDArray:
        """(P^T L)^-1 b."""
        return _triangle(self.factor, b[self.order], lower=True, adjoint=False, unit=True)

    def last(self, b: NDArray) -> NDArray:
        """U^-1 b."""
        return _triangle(self.factor, b, lower=False, adjoint=False, unit=False)

    def first_adjoint(self, b: NDArray) -> NDArray:
        """(P^T L)^-H b."""
        x = np.empty_like(b)
        x[self.order] = _triangle(self.factor, b, lower=True, adjoint=True, unit=True)
        return x

    def last_adjoint(self, b: NDArray) -> NDArray:
        """U^-H b."""
        return _triangle(self.factor, b, lower=False, adjoint=True, unit=False)

    def log_determinant(self) -> tuple[Any, float]:
        """Sign and logarithm of the determinant."""
        return of_lu(np.diagonal(self.factor), self.pivots)


class Cholesky:
    """D = L L^H of a hermitian tile; `singular` is the column where D is not definite, or None."""

    definite = True

    def __init__(self, D: NDArray) -> None:
        (potrf,) = get_lapack_funcs(("potrf",), (D,))
        self.factor, info = potrf(D, lower=True, clean=True)
        self.singular = int(info) - 1 if info > 0 else None

    def first(self, b: NDArray) -> NDArray:
        """L^-1 b."""
        return _triangle(self.factor, b, lower=True, adjoint=False, unit=False)

    def last(self, b: NDArray) -> NDArray:
        """L^-H b."""
        return _triangle(self.factor, b, lower=True, adjoint=True, unit=False)

    first_adjoint, last_adjoint = last, first

    def log_determinant(self) -> tuple[Any, float]:
        """Sign and logarithm of the determinant."""
        return of_cholesky(np.diagonal(self.factor))


def _order_of_swaps(pivots: NDArray) -> NDArray[np.int64]:
    """Order of rows that LAPACK's interchanges make, one after another."""
    order = np.arange(len(pivots))
    for i, j in enumerate(pivots):
        order[i], order[j] = order[j], order[i]
    return order


def sign_and_log(pivots: NDArray) -> tuple[Any, float]:
    """Sign and logarithm of the product of numbers; complex ones have a sign on the circle.

    Examples
    --------
    >>> sign_and_log(np.array([-1.0, 1.0, 1.0]))
    (-1.0, 0.0)
    """
    wide = pivots.astype(np.result_type(pivots.dtype, np.float64))
    size = np.abs(wide)
    if not size.all():
        return 0.0, -np.inf
    signs = wide / size
    if wide.dtype.kind == "c":
        turn = np.exp(1j * np.angle(signs).sum())
        return complex(turn / abs(turn)), float(np.log(size).sum())
    return float(1 - 2 * ((signs < 0).sum() % 2)), float(np.log(size).sum())


def of_lu(diagonal: NDArray, pivots: NDArray) -> tuple[Any, float]:
    """Sign and logarithm of the determinant of LU factors, from the diagonal of U.

    Row i was interchanged with row ``pivots[i]``, as LAPACK does it.

    Examples
    --------
    >>> of_lu(np.array([1.0, 1.0]), np.array([1, 1]))
    (-1.0, 0.0)
    """
    sign, log = sign_and_log(diagonal)
    swaps = int((pivots != np.arange(len(pivots))).sum())
    return sign * (-1) ** swaps, log


def of_cholesky(diagonal: NDArray) -> tuple[float, float]:
    """Sign and logarithm of the determinant of L L^H, from the diagonal of L.

    Examples
    --------
    >>> of_cholesky(np.array([1.0, 1.0]))
    (1.0, 0.0)
    """
    return 1.0, 2 * float(np.log(diagonal.real.astype(np.float64)).sum())
