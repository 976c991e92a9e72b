"""Who compresses to which kind: one line a structure."""

from collections.abc import Callable
from dataclasses import dataclass

from structmat.compress import block_low_rank, block_sparse, low_rank, monarch
from structmat.compress.gblr import implicit, portfolio
from structmat.matrix import StructuredMatrix


@dataclass(frozen=True)
class Compressor:
    """How a structure is fitted.

    Parameters
    ----------
    fit : callable
        ``fit(A, goal, *, rng, progress)`` for a finite array (m, n) of float32, float64,
        complex64 or complex128; returns a matrix that respects the goal.
    fit_implicit : callable, optional
        The same for an `Operator`, which must not be made dense.
    """

    fit: Callable[..., StructuredMatrix]
    fit_implicit: Callable[..., StructuredMatrix] | None = None


KINDS = {
    "low_rank": Compressor(low_rank.fit, low_rank.fit_implicit),
    "block_sparse": Compressor(block_sparse.fit),
    "block_low_rank": Compressor(block_low_rank.fit),
    "monarch": Compressor(monarch.fit),
    "gblr": Compressor(portfolio.fit, implicit.fit_implicit),
}
