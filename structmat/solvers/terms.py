"""A matrix S = A + shift I taken apart: a base, a shift, and one product of thin factors.

Terms of low rank are joined side by side, multiples of the identity go to the shift, and what is
left is the base: one matrix, if some kind holds all of it.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from structmat.errors import ConversionError
from structmat.intervals import offsets
from structmat.matrices import LowRank, Sum
from structmat.matrices.grid import Grid
from structmat.matrix import StructuredMatrix
from structmat.solvers.shifted import multiple, number_of
from structmat.solvers.thin import FULL, in_columns, thin_form

#: Kinds that hold sums of their own, besides those of the terms.
_CLOSED = ("block_sparse", "block_low_rank", "gblr")


class Terms(NamedTuple):
    """S = base + shift I + U V^H, with thin factors U and V of n rows."""

    base: StructuredMatrix
    shift: complex
    low_rank: LowRank | None


def terms_of(A: StructuredMatrix, shift: complex) -> Terms:
    """Take A + shift I apart.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((3, 1))) + structmat.Diagonal(np.ones(3))
    >>> base, shift, low_rank = terms_of(A, 0.5)
    >>> base.kind, shift, low_rank.rank
    ('diagonal', 0.5, 1)
    """
    thin, rest = [], []
    for term in _terms(A):
        number = number_of(term)
        factors = thin_form(term)
        if number is not None:
            shift += number
        elif factors is not None:
            thin.append(factors)
        else:
            rest.append(term)
    joined = reduce(add, thin) if thin else None
    if not rest:
        return Terms(multiple(A, shift), 0.0, joined)
    return Terms(_joined(rest), shift, joined)


def _terms(A: StructuredMatrix) -> Sequence[StructuredMatrix]:
    """Terms of a sum; of a grid the thin blocks beside its diagonal, and what is left."""
    if not isinstance(A, Grid) or not np.array_equal(A.row_sizes, A.col_sizes):
        return A.children if isinstance(A, Sum) else (A,)
    thin, blocks, places = [], [], []
    for block, (i, j) in zip(A.children, A.places.tolist(), strict=True):
        factors = thin_form(block) if i != j else None
        if factors is None:
            blocks.append(block)
            places.append((i, j))
        else:
            thin.append(in_columns(factors, offsets(A.row_sizes)[i], offsets(A.col_sizes)[j], A))
    numbers = sum(term.storage for term in thin)
    if not thin or not blocks or numbers > FULL * A.storage:
        return (A,)
    return *thin, Grid(*blocks, places=places, row_sizes=A.row_sizes, col_sizes=A.col_sizes)


def _joined(terms: Sequence[StructuredMatrix]) -> StructuredMatrix:
    """The sum of some matrices as one of a kind that holds it exactly, or lazy."""
    total: StructuredMatrix = reduce(add, terms)
    kinds = [term.kind for term in terms if term.kind != "diagonal"]
    for kind in dict.fromkeys([*kinds, *_CLOSED]):
        if not isinstance(total, Sum):
            return total
        try:
            total = reduce(add, [term.to_kind(kind) for term in terms])
        except ConversionError:
            continue
    return total
