"""Rows and columns scaled by powers of two before an elimination, so that pivots compare.

Scales are exact: no entry is rounded. A matrix whose rows are of similar size stays as it is.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.errors import SolveError

#: Rows or columns whose sizes differ by fewer powers of two are of similar size.
SIMILAR = 10
#: Sizes within this many powers of two of 1 are moderate.
MODERATE = 40


class Scales(NamedTuple):
    """Factors of the rows and of the columns, shape (n,): S' = diag(rows) S diag(cols)."""

    rows: NDArray
    cols: NDArray

    def log_determinant(self) -> float:
        """Logarithm of the determinant of both."""
        return float(np.log(self.rows).sum() + np.log(self.cols).sum())


def powers(levels: NDArray, dtype: Any, *, of: str) -> NDArray:
    """Factors 2^-level, within the range of a dtype; a level of -inf is an entry of zeros alone.

    Examples
    --------
    >>> powers(np.array([3.2, -1.0]), np.float64, of="row")
    array([0.125, 2.   ])
    """
    if np.isneginf(levels).any():
        at = int(np.flatnonzero(np.isneginf(levels))[0])
        raise SolveError(
            f"{of} {at} of the matrix is zero, so it is singular; expected an invertible matrix "
            "(add a shift)"
        )
    most = np.finfo(dtype).maxexp - 2
    return np.ldexp(1.0, np.clip(-np.rint(levels), -most, most).astype(np.int64))


def are_similar(levels: NDArray) -> bool:
    """True for sizes 2^level that need no scaling; none of them is zero."""
    if not levels.size or not np.isfinite(levels).all():
        return not levels.size
    return bool(np.ptp(levels) <= SIMILAR and np.abs(levels).max() <= MODERATE)


def levels_of(sizes: NDArray) -> NDArray:
    """Base-two logarithm of sizes; -inf for zero."""
    with np.errstate(divide="ignore"):
        return np.log2(sizes.astype(np.float64))
