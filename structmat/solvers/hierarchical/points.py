"""Direct factorization of sources: compressed with respect to the shift, then factored."""

from typing import Any

import numpy as np

from structmat.compress import compress
from structmat.compress.entries.sampled import source_norm
from structmat.matrices import Hierarchical
from structmat.solvers.hierarchical.direct import LEAST, MOST, UNSHIFTED, factorize_with
from structmat.solvers.shifted import shifted
from structmat.sources.kernel_matrix import KernelMatrix
from structmat.sources.source import Source

#: Error of the compression as a share of the shift.
COMPRESSED = 0.3
#: Fewer rows are formed.
ROWS = 2048
#: Named kernels that are positive definite.
DEFINITE = ("exponential", "matern32", "matern52", "gaussian")


def factorize(A: Source, shift: complex, tol: float) -> Any:
    """Factorization of a source with a shift by its compression.

    The compression's error is `COMPRESSED` times the shift: solutions, and their errors, are
    those of the compressed matrix. NotImplemented for small sources, and where iterations are
    cheaper.
    """
    if A.shape[0] < ROWS:
        return NotImplemented
    matrix = compressed(A, shift)
    named = isinstance(A, KernelMatrix) and A.kernel in DEFINITE and A.one_set
    definite = bool(named and np.isreal(shift) and np.real(shift) > 0)
    return factorize_with(matrix, shift, shifted(matrix, shift), tol, definite=definite)


def compressed(A: Source, shift: complex) -> Hierarchical:
    """The hierarchical matrix near a source, to a share of the shift."""
    norm = source_norm(A, np.random.default_rng(0))
    share = COMPRESSED * abs(shift) / norm if shift and norm else UNSHIFTED
    found: Hierarchical = compress(
        A, "hierarchical", tol=min(max(share, LEAST), MOST), rng=0
    ).matrix
    return found
