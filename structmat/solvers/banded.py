"""Matrices of few entries: banded ones by LAPACK, others by SuperLU, and where these pay."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, eye_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from structmat.errors import SolveError
from structmat.intervals import IntArray
from structmat.matrix import StructuredMatrix
from structmat.solvers.condition import LIMIT
from structmat.solvers.elimination.arranged import Arranged
from structmat.solvers.elimination.factorization import (
    EliminatedFactorization,
    in_double,
    is_single,
)
from structmat.solvers.elimination.inverse_norm import SINGLE_LIMIT, inverse_norm
from structmat.solvers.elimination.scaling import Scales, are_similar, levels_of, powers
from structmat.solvers.elimination.sparse_factors import (
    BandedCholesky,
    BandedLU,
    SingularColumn,
    SparseLU,
)
from structmat.solvers.elimination.sparse_form import bandwidths, is_hermitian, sparse_form
from structmat.solvers.shifted import shifted

#: A matrix with entries on more than this part of its places counts as dense.
SPARSE = 0.25
#: A band may hold this many places for each entry.
PLACES = 16
#: An elimination of more than this part of the multiplications of a dense one does not pay.
SHARE = 0.25
#: A row of more entries than this number of times the mean is ordered last.
HUB = 10
#: Most scalars of the factors: 1 GiB in double precision.
MOST_SIZE = 2**27


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """LU or Cholesky factors of A + shift I, for a matrix whose entries are few."""
    n, host = A.shape[0], in_double(A)
    form = sparse_form(host, SPARSE * n * n)
    if form is None:
        return NotImplemented
    found = sparse_factors(form + shift * eye_array(n), single=is_single(A))
    if found is None:
        return NotImplemented
    factors, method = found
    return EliminatedFactorization(shifted(A, shift), tol, factors, method=method)


def sparse_factors(S: csr_array, *, single: bool) -> tuple[Arranged, str] | None:
    """Factors of a sparse matrix in double precision, and the name of their method.

    The factors are in single precision if that is asked for, and enough. None where an
    elimination would fill the matrix, or take too much memory.

    Raises
    ------
    SolveError
        If the matrix is singular, exactly or numerically.
    """
    S, scales, definite = balanced(csr_array(S))
    S, order, way = arranged(S)
    if way is None:
        return None
    narrow = np.result_type(np.float32, 1j) if S.dtype.kind == "c" else np.dtype(np.float32)
    norm = float(abs(S).sum(axis=0).max(initial=0))
    for dtype in (narrow, S.dtype) if single else (S.dtype,):
        try:
            factors = _factors(S.astype(dtype), banded=way == "banded", definite=definite)
            condition = inverse_norm(factors, S.shape[0], dtype) * norm
        except SingularColumn:
            condition = np.inf
        if condition <= SINGLE_LIMIT:
            break
    if not condition < LIMIT:
        raise SolveError(
            f"the matrix is singular, exactly or numerically: its condition number is about "
            f"{condition:.2g}; expected less than {LIMIT:.2g} (add a shift)"
        )
    return Arranged(factors, dtype, scales, order), factors.name


def _factors(S: csr_array, *, banded: bool, definite: bool) -> Any:
    """Cholesky factors where the matrix is definite, or else LU."""
    if not banded:
        return SparseLU(S)
    if definite:
        try:
            return BandedCholesky(S)
        except SingularColumn:
            pass
    return BandedLU(S)


def balanced(S: csr_array) -> tuple[csr_array, Scales | None, bool]:
    """The matrix with rows and columns of similar sizes, its scales, and if it may be definite."""
    diagonal = S.diagonal()
    definite = is_hermitian(S) and bool((diagonal.real > 0).all())
    if definite:
        levels = levels_of(diagonal.real) / 2
        if are_similar(levels):
            return S, None, True
        both = powers(levels, S.dtype, of="row")
        return _scaled(S, both, both), Scales(both, both), True
    rows, cols = (levels_of(_peaks(side)) for side in (S, S.T))
    if are_similar(rows) and are_similar(cols):
        return S, None, False
    tops = powers(rows, S.dtype, of="row")
    S = _scaled(S, tops, np.ones(len(tops)))
    lefts = powers(levels_of(_peaks(S.T)), S.dtype, of="column")
    return _scaled(S, np.ones(len(lefts)), lefts), Scales(tops, lefts), False


def _peaks(S: Any) -> NDArray:
    """Largest absolute value of each row."""
    return abs(S).max(axis=1).toarray().ravel()


def _scaled(S: csr_array, rows: NDArray, cols: NDArray) -> csr_array:
    left, right = (diags_array(side.astype(S.dtype)) for side in (rows, cols))
    return csr_array(left @ S @ right)


def arranged(S: csr_array) -> tuple[csr_array, IntArray | None, str | None]:
    """The matrix in its own order or in a narrower one, that order, and the way to factor it.

    The way is ``"banded"`` for a band that is full enough, ``"sparse"`` for a matrix that stays
    sparse, or None. The other order is that of reverse Cuthill and McKee; it folds a band that
    wraps around, so that corners lie on a band of twice the width.
    """
    n = S.shape[0]
    most = min(PLACES * max(S.nnz, n), MOST_SIZE)
    if 4 * _band_size(S) <= most:
        return S, None, "banded"
    pattern = csr_array((np.ones(S.nnz, np.int8), S.indices, S.indptr), shape=S.shape)
    order = reverse_cuthill_mckee(csr_array(pattern + pattern.T), symmetric_mode=True)
    turned = csr_array(S[order][:, order])
    if _band_size(turned) < _band_size(S) and _band_size(turned) <= most:
        return turned, order.astype(np.int64), "banded"
    if _band_size(S) <= most:
        return S, None, "banded"
    return S, None, "sparse" if _stays_sparse(csr_array(pattern + pattern.T)) else None


def _band_size(S: csr_array) -> int:
    below, above = bandwidths(S)
    return (2 * below + above + 1) * S.shape[0]


def _stays_sparse(pattern: csr_array) -> bool:
    """Tell whether an elimination within the profile of a pattern is cheap beside a dense one.

    Rows of many entries come last, where they fill no others. SuperLU chooses another order,
    whose fill is less as a rule.
    """
    n, degrees = pattern.shape[0], np.diff(pattern.indptr)
    kept = np.flatnonzero(degrees <= HUB * max(degrees.mean(), 1))
    rest = csr_array(pattern[kept][:, kept])
    order = reverse_cuthill_mckee(rest, symmetric_mode=True)
    entries = rest[order][:, order].tocoo()
    widths = np.zeros(len(kept), np.int64)
    np.maximum.at(widths, entries.row, entries.row.astype(np.int64) - entries.col)
    filled = np.concatenate([widths + (n - len(kept)), np.arange(n - len(kept))]).astype(np.float64)
    return bool(2 * filled.sum() <= MOST_SIZE and filled @ filled <= SHARE * n**3 / 3)
