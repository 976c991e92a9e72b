"""Structured matrices with few entries as sparse arrays of SciPy, for eliminations."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array, csr_array, eye_array, kron

from structmat._array import to_numpy
from structmat.intervals import offsets, positions
from structmat.matrices.block_low_rank import BlockLowRank
from structmat.matrices.block_sparse import BlockSparse
from structmat.matrices.diagonal import Diagonal, Identity
from structmat.matrices.gblr import GBLR
from structmat.matrices.grid import Grid
from structmat.matrices.hermitian import Mirrored
from structmat.matrices.kronecker import Kronecker
from structmat.matrices.lazy import Adjoint, Product, Scaled, Sum
from structmat.matrices.permutation import Permutation
from structmat.matrix import StructuredMatrix

#: Most entries that are put down, each as often as it is covered: 1 GiB with their places.
MOST_ENTRIES = 2**26


def sparse_form(A: StructuredMatrix, most_entries: float = MOST_ENTRIES) -> csr_array | None:
    """All entries of a matrix that its structure does not say are zero, shape (m, n).

    None if they may be more than `most_entries`, an entry counted as often as it is covered, or
    if the matrix has structure of another kind.

    Examples
    --------
    >>> import structmat
    >>> sparse_form(2 * structmat.Identity(3) + structmat.Diagonal([1.0, 2.0, 3.0])).diagonal()
    array([3., 4., 5.])
    """
    if _entry_bound(A) > most_entries:
        return None
    form = csr_array(_form(A)).astype(A.dtype)
    form.sum_duplicates()
    return form


def _entry_bound(A: StructuredMatrix) -> float:
    """Most entries of the form, those of its parts included; infinite for other structures."""
    found = _FORMS.get(type(A))
    return np.inf if found is None else float(found[0](A))


def _form(A: StructuredMatrix) -> Any:
    return _FORMS[type(A)][1](A)


def _of_diagonal(A: Diagonal) -> Any:
    at = np.arange(A.shape[0])
    return coo_array((to_numpy(A.d), (at, at)), shape=A.shape)


def _of_permutation(A: Permutation) -> Any:
    p = to_numpy(A.p)
    return coo_array((np.ones(len(p), np.float32), (np.arange(len(p)), p)), shape=A.shape)


def _of_blocks(A: BlockSparse) -> Any:
    (m, n), (p, q) = A.shape, A.block_shape
    rows = (A.rows[:, None, None] * p + np.arange(p)[:, None]) + np.zeros(q, np.int64)
    cols = (A.cols[:, None, None] * q + np.arange(q)) + np.zeros((p, 1), np.int64)
    inside = (rows < m) & (cols < n)
    return coo_array((to_numpy(A.blocks)[inside], (rows[inside], cols[inside])), shape=A.shape)


def _of_tiles(A: BlockLowRank) -> Any:
    tops, lefts = offsets(A.row_sizes), offsets(A.col_sizes)
    rows, cols, values = [], [], [np.zeros(0, A.dtype)]
    for (i, j), tile in A.tiles.items():
        dense = tile[0] @ tile[1].conj().T if isinstance(tile, tuple) else tile
        at = np.indices(dense.shape)
        rows.append((at[0] + tops[i]).ravel())
        cols.append((at[1] + lefts[j]).ravel())
        values.append(dense.ravel())
    none = np.zeros(0, np.int64)
    places = np.concatenate([none, *rows]), np.concatenate([none, *cols])
    return coo_array((np.concatenate(values), places), shape=A.shape)


def _of_runs(A: GBLR) -> Any:
    (m, n), sides = A.shape, []
    for contents, start, width, size in (
        (A.u, A.row_start, A.row_width, m),
        (A.v, A.col_start, A.col_width, n),
    ):
        parts = to_numpy(contents), positions(start, width, size), offsets(width)
        sides.append(csc_array(parts, shape=(size, len(width))))
    return sides[0] @ sides[1].conj().T


def _of_sum(A: Sum) -> Any:
    total = _form(A.children[0])
    for term in A.children[1:]:
        total = total + _form(term)
    return total


def _of_mirrored(A: Mirrored) -> Any:
    half = _form(A.children[0])
    return half + half.conj().T


def _of_product(A: Product) -> Any:
    form = csr_array(_form(A.children[0]))
    for factor in A.children[1:]:
        form = form @ csr_array(_form(factor))
    return form


def _of_grid(A: Grid) -> Any:
    tops, lefts = offsets(A.row_sizes), offsets(A.col_sizes)
    total = csr_array(A.shape, dtype=A.dtype)
    for block, (i, j) in zip(A.children, A.places, strict=True):
        part = coo_array(_form(block))
        places = part.row + tops[i], part.col + lefts[j]
        total = total + coo_array((part.data, places), shape=A.shape)
    return total


def _product_bound(A: Product) -> float:
    """Bound of a product with diagonals and permutations, which add no entries."""
    bounds = [_entry_bound(factor) for factor in A.children]
    wide = [factor for factor in A.children if not isinstance(factor, (Diagonal, Permutation))]
    return float(max(bounds)) if len(wide) <= 1 else np.inf


#: Most entries of a kind, and its sparse form.
_FORMS: dict[type, tuple[Callable[[Any], float], Callable[[Any], Any]]] = {
    Identity: (lambda A: A.n, lambda A: eye_array(A.n, dtype=np.float32)),
    Diagonal: (lambda A: A.shape[0], _of_diagonal),
    Permutation: (lambda A: A.shape[0], _of_permutation),
    BlockSparse: (lambda A: A.cost, _of_blocks),
    BlockLowRank: (
        lambda A: int((A.row_sizes[A.places[:, 0]] * A.col_sizes[A.places[:, 1]]).sum()),
        _of_tiles,
    ),
    GBLR: (lambda A: float(A.row_width.astype(float) @ A.col_width.astype(float)), _of_runs),
    Sum: (lambda A: sum(map(_entry_bound, A.children)), _of_sum),
    Mirrored: (lambda A: 2 * _entry_bound(A.children[0]), _of_mirrored),
    Product: (_product_bound, _of_product),
    Kronecker: (
        lambda A: _entry_bound(A.children[0]) * _entry_bound(A.children[1]),
        lambda A: kron(*map(_form, A.children)),
    ),
    Grid: (lambda A: sum(map(_entry_bound, A.children)), _of_grid),
    Scaled: (
        lambda A: _entry_bound(A.children[0]),
        lambda A: _form(A.children[0]) * to_numpy(A.alpha)[()],
    ),
    Adjoint: (
        lambda A: _entry_bound(A.children[0]),
        lambda A: _form(A.children[0]).conj().T,
    ),
}


def bandwidths(form: Any) -> tuple[int, int]:
    """Diagonals below and above the main one that hold entries.

    Examples
    --------
    >>> bandwidths(eye_array(4, k=1) + eye_array(4, k=-2))
    (2, 1)
    """
    entries = form.tocoo()
    below = entries.row.astype(np.int64) - entries.col
    return int(below.max(initial=0)), int(-below.min(initial=0))


def is_hermitian(form: Any) -> bool:
    """True for a sparse array that is its own conjugate transpose, to the last bit."""
    apart = (form - form.conj().T).tocoo()
    return not apart.data.any()


def banded_form(form: Any, below: int, above: int, *, spare: int) -> NDArray:
    """Diagonals of a sparse array as LAPACK stores them, below `spare` rows of zeros."""
    entries = form.tocoo()
    band = np.zeros((spare + above + below + 1, form.shape[1]), form.dtype, order="F")
    band[spare + above + entries.row - entries.col, entries.col] = entries.data
    return band
