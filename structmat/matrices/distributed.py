"""Entries of products with sums among the factors: term by term, where each term has them."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from structmat.intervals import IntArray
from structmat.matrices.inner_products import is_simple, unscaled
from structmat.matrix import StructuredMatrix

#: Most products of one term of each factor.
_MOST_TERMS = 64
#: Kinds whose product with any matrix is of their kind.
_LOW_RANK = ("low_rank", "hermitian_low_rank")


def entries_by_terms(A: StructuredMatrix, rows: IntArray, cols: IntArray) -> Any:
    """Entries of a product of sums, as sums of those of products of their terms.

    NotImplemented for a product without sums, where a term has no entries by its structure, and
    for fewer entries than that takes products.
    """
    terms = [factor.children if factor.kind == "sum" else (factor,) for factor in A.children]
    count = math.prod(len(some) for some in terms)
    if count == 1 or count > _MOST_TERMS:
        return NotImplemented
    chosen = [[unscaled(term) for term in some] for some in itertools.product(*terms)]
    prices = [_price([M for M, _ in some]) for some in chosen]
    if sum(prices) >= rows.size:  # one product an entry takes less, or no term helps
        return NotImplemented
    xp, dtype = A.xp, A.dtype
    total = xp.zeros(rows.size, dtype=dtype, device=A.device)
    for some in chosen:
        product = _multiplied([M for M, _ in some])
        if product.kind == "product":
            special: Any = product
            found = special._pick(rows, cols)
        else:
            found = product._entries_at(rows, cols)
        if found is NotImplemented:
            return found
        found = xp.astype(found, dtype)
        for number in (alpha for _, alpha in some if alpha is not None):
            found = found * xp.astype(number, dtype)
        total = total + found
    return total


def _price(factors: Sequence[Any]) -> float:
    """Products with single vectors that a product of these takes; infinite for one of each entry.

    One factor is of low rank, or all but one at most are diagonals and orders.
    """
    ranks = [factor.rank for factor in factors if factor.kind in _LOW_RANK]
    if ranks:
        return min(ranks)
    return 1 if sum(not is_simple(factor) for factor in factors) <= 1 else math.inf


def _multiplied(factors: Sequence[StructuredMatrix]) -> StructuredMatrix:
    """The product, from a factor of low rank outwards."""
    kinds = [factor.kind in _LOW_RANK for factor in factors]
    at = kinds.index(True) if True in kinds else 0
    product = factors[at]
    for factor in reversed(factors[:at]):
        product = factor @ product
    for factor in factors[at + 1 :]:
        product = product @ factor
    return product
