"""Before an elimination of a sparse matrix: its order, its band or profile, and if that pays."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, reverse_cuthill_mckee

from structmat.intervals import IntArray
from structmat.solvers.elimination.sparse_form import bandwidths

#: A band may hold this many places for each entry.
PLACES = 16
#: SuperLU takes longer than dense factors with more than this part of their multiplications.
SHARE = 0.25
#: A row of more entries than this number of times the mean is ordered last.
HUB = 10
#: Most scalars of the factors: 1 GiB in double precision.
MOST_SIZE = 2**27
#: Parts of a matrix with at most this many rows are cheap to form.
FORMED_ROWS = 512


class SparsePlan(NamedTuple):
    """A way to factor a matrix: ``"banded"`` in an order, or ``"sparse"``.

    Attributes
    ----------
    matrix : csr_array
        The matrix with rows and columns in the order.
    order : ndarray of int or None
    way : str
    work : float
        Multiplications, or more than these.
    """

    matrix: csr_array
    order: IntArray | None
    way: str
    work: float


def plan(S: csr_array) -> SparsePlan | None:
    """The cheaper of a band and of SuperLU; None where dense factors take less.

    A band is that of the given order or of reverse Cuthill and McKee's, which folds a band that
    wraps around, so that corners lie on a band of twice the width. Dense factors may be those of
    small parts that share no rows and no columns.
    """
    found = _banded(S)
    if found is None:
        pattern = _symmetric(S)
        size, work = _within_profile(pattern)
        if size > MOST_SIZE or work > SHARE * S.shape[0] ** 3 / 3:
            return None
        found = SparsePlan(S, None, "sparse", work)
    return found if found.work <= _work_of_parts(S) else None


def _banded(S: csr_array) -> SparsePlan | None:
    """The matrix as a band that is full enough, in one of two orders."""
    most = min(PLACES * max(S.nnz, S.shape[0]), MOST_SIZE)
    if 4 * _band_size(S) <= most:
        return _band(S, None)
    order = reverse_cuthill_mckee(_symmetric(S), symmetric_mode=True).astype(np.int64)
    turned = csr_array(S[order][:, order])
    if _band_size(turned) < _band_size(S):
        S, kept = turned, order
    else:
        kept = None
    return _band(S, kept) if _band_size(S) <= most else None


def _band(S: csr_array, order: IntArray | None) -> SparsePlan:
    below, above = bandwidths(S)
    return SparsePlan(S, order, "banded", float(S.shape[0]) * (below + 1) * (below + above + 1))


def _band_size(S: csr_array) -> int:
    below, above = bandwidths(S)
    return (2 * below + above + 1) * S.shape[0]


def _symmetric(S: csr_array) -> csr_array:
    pattern = csr_array((np.ones(S.nnz, np.int8), S.indices, S.indptr), shape=S.shape)
    return csr_array(pattern + pattern.T)


def _within_profile(pattern: csr_array) -> tuple[float, float]:
    """Scalars and multiplications of an elimination within the profile of a narrow order.

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
    hubs = np.arange(n - len(kept))
    filled = np.concatenate([widths + len(hubs), hubs]).astype(np.float64)
    return 2 * float(filled.sum()), float(filled @ filled)


def _work_of_parts(S: csr_array) -> float:
    """Multiplications of dense factors of the parts of a matrix; infinite for large ones.

    Parts of more rows than columns take none: the matrix is singular.
    """
    n, entries = S.shape[0], S.tocoo()
    graph = coo_array((np.ones(S.nnz, np.int8), (entries.row, n + entries.col)), (2 * n, 2 * n))
    labels = connected_components(graph, directed=False)[1]
    sizes, others = (np.bincount(side, minlength=2 * n) for side in np.split(labels, 2))
    if (sizes != others).any():
        return 0.0
    if sizes.max(initial=0) > FORMED_ROWS and sizes.max() < n:
        return np.inf
    return float((sizes.astype(np.float64) ** 3).sum() / 3)
