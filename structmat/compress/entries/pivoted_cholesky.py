"""Pivoted Cholesky factors of positive semidefinite sources, with random pivots.

The next pivot is drawn with a probability proportional to what is left of its diagonal entry (Chen,
Epperly, Tropp and Webber 2025, "Randomly pivoted Cholesky"). Pivots are proposed and tried many at
a time, so that most work is in products of matrices; by rejection, the result has the same
distribution (Epperly, Tropp and Webber 2024, "Embrace rejection").
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from structmat.errors import InputError
from structmat.intervals import IntArray
from structmat.sources.source import Source

Real = NDArray[np.float64]

#: Pivots that are proposed at once.
PROPOSED = 128
#: What is left of a diagonal entry counts as zero below this share of the largest one, and as a
#: sign of an indefinite matrix below that one.
ZERO, NEGATIVE = 1e-12, -1e-8


class PivotedCholesky(NamedTuple):
    """K near F^T F, exact in the rows and columns of the pivots."""

    #: Positions of the pivots, (k,), in the order of their choice.
    pivots: IntArray
    #: Upper factor, (k, n). Its columns at the pivots are upper triangular.
    F: Real
    #: What is left of the diagonal, (n,); the sum is the error in the trace norm.
    left: Real
    #: Trace of K.
    trace: float


def pivoted_cholesky(K: Source, most: int, rng: np.random.Generator) -> PivotedCholesky:
    """Factor a symmetric positive semidefinite source (n, n) by at most `most` pivots.

    It evaluates ``(k + 1) n`` entries for k pivots, and takes about 2 k^2 n multiplications. There
    are fewer pivots where nothing but rounding is left.

    Raises
    ------
    InputError
        If a diagonal entry is negative, or gets so: then K is not positive semidefinite.

    Examples
    --------
    >>> from structmat import KernelMatrix
    >>> K = KernelMatrix(np.linspace(0, 1, 50)[:, None], "gaussian")
    >>> found = pivoted_cholesky(K, 8, np.random.default_rng(0))
    >>> bool(np.allclose(found.F.T @ found.F, K.to_dense(), atol=1e-4))
    True
    """
    n = K.shape[0]
    left = np.asarray(K.diagonal(), np.float64).copy()
    trace, largest = float(left.sum()), float(left.max(initial=0.0))
    _check(left, largest)
    F, pivots, every = np.empty((min(most, n), n)), np.empty(0, np.int64), np.arange(n)
    while pivots.size < len(F) and left.any():
        k = pivots.size
        proposed = rng.choice(n, PROPOSED, p=left / left.sum())
        kept, L = _accepted(_residual(K, F[:k], proposed, proposed), ZERO * largest, rng)
        kept, L = kept[: len(F) - k], L[: len(F) - k, : len(F) - k]
        new = proposed[kept]
        if not new.size:
            # Their diagonal entries differ from zero by rounding alone.
            left[proposed] = 0.0
            continue
        end = k + new.size
        F[k:end] = solve_triangular(L, _residual(K, F[:k], new, every), lower=True)
        left -= np.einsum("ij,ij->j", F[k:end], F[k:end])
        _check(left, largest)
        left[left < ZERO * largest] = 0.0
        pivots = np.concatenate([pivots, new])
        left[pivots] = 0.0
    return PivotedCholesky(pivots, F[: pivots.size], left, trace)


def _residual(K: Source, F: Real, rows: IntArray, cols: IntArray) -> Real:
    block = np.asarray(K.block(rows, cols), np.float64)
    return block - F[:, rows].T @ F[:, cols] if len(F) else block


def _accepted(H: Real, zero: float, rng: np.random.Generator) -> tuple[IntArray, Real]:
    """Positions of the proposals that are accepted, and their lower Cholesky factor.

    H is what is left of K at the proposals; it is overwritten. A proposal is accepted with the
    probability that those before it leave of its diagonal entry.
    """
    kept: list[int] = []
    size, L = np.diag(H).copy(), np.zeros_like(H)
    for i, chance in enumerate(rng.random(len(H))):
        if H[i, i] > max(chance * size[i], zero):
            column = H[:, i] / np.sqrt(H[i, i])
            H -= np.outer(column, column)
            L[:, len(kept)] = column
            kept.append(i)
    at = np.array(kept, np.int64)
    return at, L[at, : at.size]


def _check(left: Real, largest: float) -> None:
    """Refuse a negative diagonal entry."""
    if left.size and not left.min() >= NEGATIVE * largest:
        i = int(left.argmin())
        raise InputError(
            f"the kernel has {left[i]:.3g} left on the diagonal at point {i}, of at most "
            f"{largest:.3g}; expected a positive semidefinite kernel, such as 'matern32'"
        )
