"""Direct factorization of sources: compressed with respect to the shift, then factored."""

from functools import partial, reduce
from operator import add
from typing import Any, cast

import numpy as np

from structmat._array import to_numpy
from structmat._progress import no_progress
from structmat.compress.contained import Bound
from structmat.compress.entries.run import Compression
from structmat.compress.entries.sampled import source_norm
from structmat.compress.hierarchical.clusters import weak_pairs
from structmat.compress.hierarchical.fit import fit_entries
from structmat.kernels.cpu.blas_threads import one_blas_thread
from structmat.matrices import Hierarchical
from structmat.solvers.choice import DENSE_ROWS
from structmat.solvers.hierarchical.direct import (
    LEAST,
    MOST,
    UNSHIFTED,
    beside_diagonals,
    factorize_with,
    share_of,
)
from structmat.solvers.iterative.known import Known, is_positive
from structmat.solvers.iterative.solver import factorize_known
from structmat.solvers.shifted import shifted
from structmat.sources.kernel_matrix import KernelMatrix
from structmat.sources.source import Source

#: Error of the compression as a share of that of the weak form.
COMPRESSED = 0.4
#: Definite kernels of more rows go by iterations: at 100 000 rows of the exponential kernel these
#: take a quarter of the time, compression included, and half of the memory.
DIRECT_ROWS = 2**16
#: Lengths of named kernels, as shares of the extent of the points, from which on blocks that touch
#: may be of so low rank that weak admissibility pays. To find that out takes a third of the time.
SMOOTH = {"matern32": 0.5, "matern52": 0.2, "gaussian": 0.15}


def factorize(A: Source, shift: complex, tol: float) -> Any:
    """Factorization of a source with a shift by its compression.

    The compression's error is at most `tol`, and a share of the shift: solutions, and their
    errors, are those of the compressed matrix. Where iterations are cheaper, it is theirs.
    NotImplemented for small sources.
    """
    if A.shape[0] < DENSE_ROWS:
        return NotImplemented
    matrix, norm = compressed(A, shift, tol)
    S, definite = shifted(matrix, shift), _is_definite(A, shift)
    direct = partial(factorize_with, matrix, shift, S, tol, definite=definite, norm=norm)
    # The compression serves for iterations, too, and log-determinants are worth the factors.
    if definite and A.compiled is not None and A.shape[0] > DIRECT_ROWS:
        return factorize_known(Known(A, matrix, shift), tol, direct)
    found = direct()
    return factorize_known(Known(A, matrix, shift), tol) if found is NotImplemented else found


def factorize_sum(A: Any, shift: complex, tol: float) -> Any:
    """Factorization of a source and diagonals; NotImplemented for other sums."""
    terms = beside_diagonals(A, Source)
    if terms is None or A.shape[0] < DENSE_ROWS:
        return NotImplemented
    source, diagonal = terms[0], terms[1] + shift
    matrix, norm = compressed(source, float(np.abs(diagonal).min()), tol)
    rest = [term for term in A.children if term is not source]
    S, definite = shifted(reduce(add, rest, matrix), shift), _is_definite(source, diagonal)
    return factorize_with(matrix, diagonal, S, tol, definite=definite, norm=norm)


def _is_definite(A: Source, diagonal: Any) -> bool:
    """Tell whether a source and a diagonal make a positive definite matrix for certain."""
    d = np.asarray(diagonal)
    return bool(is_positive(A) and np.isrealobj(d) and d.min() > 0)


@one_blas_thread()
def compressed(A: Source, shift: complex, tol: float) -> tuple[Hierarchical, float]:
    """The hierarchical matrix near a source, and an estimate of the Frobenius norm.

    Its error is at most `tol` of the norm, and a share of the shift.
    """
    weak = None if _may_be_smooth(A) else False
    run, rng = _run(A, weak), np.random.default_rng(0)
    norm = source_norm(run.source, rng)
    return _fitted(run, tolerance_for(A.shape[0], norm, shift, tol), rng), norm


def tolerance_for(rows: int, norm: float, shift: complex, tol: float) -> float:
    """The tolerance of a compression: `tol` at most, and a share of the shift.

    Examples
    --------
    >>> tolerance_for(10_000, norm=100.0, shift=0.01, tol=1e-3)
    1.264...e-05
    """
    share = UNSHIFTED
    if shift and norm:
        share = COMPRESSED * share_of(rows) * abs(shift) / norm
    return min(max(min(share, tol), LEAST), MOST)


def compressed_beside(A: Source, other: Hierarchical, tol: float) -> Hierarchical:
    """The hierarchical matrix near a source, in the orders of another one of the same points."""
    order = weak_pairs(np.asarray(A.points), symmetric=True).row_order
    weak = bool(np.array_equal(other.row_order, order))
    found = _fitted(_run(A, weak), tol, np.random.default_rng(0))
    assert np.array_equal(found.row_order, other.row_order)
    return found


def _run(A: Source, weak: bool | None) -> Compression:
    return Compression(A, "hierarchical", partial(fit_entries, weak=weak))


def _fitted(run: Compression, tol: float, rng: np.random.Generator) -> Hierarchical:
    found = run.fit(Bound(tol=tol), rng, no_progress, exact=False)
    assert found is not None
    matrix: Any = run.restored(run.in_place(found[0]))
    return cast(Hierarchical, matrix)


def _may_be_smooth(A: Source) -> bool:
    """Tell whether the kernel changes little over the points."""
    if not isinstance(A, KernelMatrix) or not A.shape[0]:
        return False
    share = SMOOTH.get(A.kernel) if isinstance(A.kernel, str) else None
    extent = float(np.ptp(A.points, axis=0).max(initial=0.0))
    return share is not None and float(to_numpy(A.length)) >= share * extent
