"""Errors from inner products: ‖A - B‖² = ‖A‖² - 2 Re⟨A, B⟩ + ‖B‖², for B of few columns."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from structmat.matrices import GBLR, LowRank
from structmat.matrices.inner_products import (
    ENTRIES,
    columns_of_runs,
    product_sum,
    square_of_factors,
)

#: Least difference, in rounding errors of its terms; below it the entries are measured.
ROUNDINGS = 1e6
#: Most columns of B beside those of A for which products are worth their time.
SHARE_OF_COLUMNS = 0.25


def sparse_entries(operator: Any) -> Any:
    """Sparse array behind an operator of SciPy, each entry once, in wide precision, or None."""
    entries: Any = getattr(operator, "A", None)
    if not issparse(entries) or entries.dtype.kind not in "biufc":
        return None
    wide = entries.tocsr(copy=True)
    wide.sum_duplicates()
    return wide.astype(np.result_type(wide.dtype, np.float64))


def factors_of(B: Any) -> tuple[Any, Any] | None:
    """Factors (U, V) of B = U V^H on NumPy, dense or sparse; None for other structures."""
    if isinstance(B, LowRank):
        return B.U, B.V
    if isinstance(B, GBLR):
        m, n = B.shape
        rows = columns_of_runs(B.u, B.row_start, B.row_width, m)
        return rows, columns_of_runs(B.v, B.col_start, B.col_width, n)
    return None


def factors_square(U: Any, V: Any) -> float:
    """‖U V^H‖²."""
    return square_of_factors(U, V)[0]


def residual_by_products(A: Any, size: float, factors: tuple[Any, Any]) -> float | None:
    """Frobenius norm of A - U V^H, from the norm of A and one product for each column of V.

    None if cancellation would leave too few digits, or if there are too many columns.
    `A` has `shape`, `dtype`, `matmat`, and `sparse`, its entries or None.
    """
    U, V = factors
    if A.sparse is None and V.shape[1] > SHARE_OF_COLUMNS * A.shape[1]:
        return None
    inner, inner_terms = _inner(A, U, V)
    square, square_terms = square_of_factors(U, V)
    terms = size * size + 2 * inner_terms + square_terms
    found = size * size - 2 * inner + square
    eps = float(np.finfo(np.float64 if A.sparse is not None else A.dtype).eps)
    if not np.isfinite(terms) or found <= ROUNDINGS * eps * terms:
        return None
    return math.sqrt(found)


def _inner(A: Any, U: Any, V: Any) -> tuple[float, float]:
    """Re⟨A, U V^H⟩, and the sum of the absolute values of its terms."""
    total = terms = 0.0
    step = max(1, ENTRIES // max(A.shape[0], 1))
    for first in range(0, V.shape[1], step):
        some = slice(first, first + step)
        left, right = U[:, some], V[:, some]
        image = A.matmat(_dense(right).astype(A.dtype)) if A.sparse is None else A.sparse @ right
        part, part_terms = product_sum(image, left)
        total, terms = total + part, terms + part_terms
    return total, terms


def _dense(X: Any) -> NDArray:
    dense: NDArray = X.toarray() if issparse(X) else X
    return dense
