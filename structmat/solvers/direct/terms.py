"""A matrix S = A + shift I taken apart: a base, a shift, and one product of thin factors.

Terms of low rank are joined side by side, multiples of the identity go to the shift, and what is
left is the base: one matrix, if some kind holds all of it. A product whose factors are diagonals or
orders with thin terms is one more diagonal or order with thin terms.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from structmat._array import to_numpy
from structmat.errors import ConversionError
from structmat.intervals import offsets
from structmat.matrices import Diagonal, Identity, LowRank, Permutation, Product, Scaled, Sum
from structmat.matrices.grid import Grid
from structmat.matrix import StructuredMatrix
from structmat.solvers.direct.thin import FULL, in_columns, thin_form
from structmat.solvers.shifted import identity_of, multiple, number_of, shifted

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
        own, factors = _apart(term)
        if factors is not None:
            thin.append(factors)
        if own is None:
            continue
        number = number_of(own)
        if number is None:
            rest.append(own)
        shift += number or 0.0
    joined = reduce(add, thin) if thin else None
    if not rest:
        return Terms(multiple(A, shift), 0.0, joined)
    return Terms(_joined(rest), shift, joined)


def _apart(A: StructuredMatrix) -> tuple[StructuredMatrix | None, LowRank | None]:
    """A as a matrix, None if nothing is left, and thin factors."""
    factors = thin_form(A)
    if factors is not None:
        return None, factors
    return _factors_apart(A) if isinstance(A, Product) else (A, None)


def _factors_apart(A: Product) -> tuple[StructuredMatrix | None, LowRank | None]:
    """(B1 + L1) (B2 + L2) = B1 B2 + (L1 (B2 + L2) + B1 L2), if each base B has one entry a row."""
    one = identity_of(A)
    base: StructuredMatrix = one
    number: complex = 1.0
    low_rank: LowRank | None = None
    for factor in A.children:
        if factor.shape != A.shape:
            return A, None
        terms = terms_of(factor, 0.0)
        own = shifted(terms.base, terms.shift)
        if not _is_monomial(own):
            return A, None
        thin = [] if low_rank is None else [LowRank(low_rank.U, factor.H @ low_rank.V)]
        if terms.low_rank is not None:
            thin.append(LowRank(base @ terms.low_rank.U, terms.low_rank.V) * number)
        low_rank = reduce(add, thin) if thin else None
        multiplier = number_of(own)
        if multiplier is None:
            base = base @ own
            base = one if _is_in_place(base) else base
        else:
            number *= multiplier
    if low_rank is None:
        return A, None
    if number == 0:
        return None, low_rank
    return (base if number == 1 else base * number), low_rank


def _is_in_place(A: StructuredMatrix) -> bool:
    """True for a permutation that leaves all rows where they are."""
    return isinstance(A, Permutation) and bool((to_numpy(A.p) == np.arange(A.shape[0])).all())


def _is_monomial(A: StructuredMatrix) -> bool:
    """True where the kind guarantees at most one entry in each row and column."""
    if isinstance(A, Scaled | Product):
        return all(map(_is_monomial, A.children))
    return isinstance(A, Diagonal | Identity | Permutation)


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
