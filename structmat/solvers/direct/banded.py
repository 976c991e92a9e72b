"""Matrices of few entries: banded ones by LAPACK, others by SuperLU, and where these pay."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, eye_array

from structmat.errors import SolveError
from structmat.matrix import StructuredMatrix
from structmat.solvers.elimination.arranged import Arranged
from structmat.solvers.elimination.factorization import (
    EliminatedFactorization,
    in_double,
    is_single,
)
from structmat.solvers.elimination.inverse_norm import SINGLE_LIMIT, inverse_norm, single_dtype
from structmat.solvers.elimination.scaling import Scales, are_similar, levels_of, powers
from structmat.solvers.elimination.sparse_factors import (
    BandedCholesky,
    BandedLU,
    SingularColumn,
    SparseLU,
)
from structmat.solvers.elimination.sparse_form import MOST_ENTRIES, is_hermitian, sparse_form
from structmat.solvers.elimination.sparse_plan import plan
from structmat.solvers.shifted import shifted
from structmat.solvers.verify import LIMIT, has_source

#: A matrix with entries on more than this part of its places counts as dense.
SPARSE = 0.25


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """LU or Cholesky factors of A + shift I, for a matrix whose entries are few."""
    if has_source(A):
        return NotImplemented
    n, host = A.shape[0], in_double(A)
    form = sparse_form(host, min(SPARSE * n * n, MOST_ENTRIES))
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
    chosen = plan(csr_array(S))
    if chosen is None:
        return None
    S, scales, definite = balanced(chosen.matrix)
    if scales is not None and chosen.order is not None:
        scales = Scales(*(scale[np.argsort(chosen.order)] for scale in scales))
    norm = float(abs(S).sum(axis=0).max(initial=0))
    for dtype in (single_dtype(S.dtype), S.dtype) if single else (S.dtype,):
        try:
            factors = _factors(S.astype(dtype), banded=chosen.way == "banded", definite=definite)
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
    return Arranged(factors, dtype, scales, chosen.order), factors.name


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
        levels = levels_of(diagonal.real)
        if are_similar(levels):
            return S, None, True
        both = powers(levels / 2, S.dtype, of="row")
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
