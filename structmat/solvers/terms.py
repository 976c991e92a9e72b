"""A matrix S = A + shift I taken apart: a base, and one product of thin factors.

Terms of low rank are joined side by side; what is left is the base.
"""

from functools import reduce
from operator import add
from typing import NamedTuple

from structmat.matrices import LowRank, Sum
from structmat.matrix import StructuredMatrix
from structmat.solvers.shifted import multiple


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
    terms = A.children if isinstance(A, Sum) else (A,)
    thin = [term for term in terms if isinstance(term, LowRank)]
    rest = [term for term in terms if not isinstance(term, LowRank)]
    joined = reduce(add, thin) if thin else None
    if not rest:  # the shift alone
        return Terms(multiple(A, shift), 0.0, joined)
    return Terms(reduce(add, rest), shift, joined)
