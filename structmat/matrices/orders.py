"""Orders of rows and columns: permutations around a matrix, which cost no multiplication.

Permutations that meet are one, an identity is none, and sums and conversions of the matrix
inside leave its orders where they are.
"""

from collections.abc import Sequence
from functools import reduce
from operator import matmul
from typing import Any

import numpy as np

from structmat._array import taken, to_numpy
from structmat.errors import ConversionError
from structmat.kinds import rule
from structmat.matrices.diagonal import Diagonal
from structmat.matrices.lazy import Product, split_orders
from structmat.matrices.permutation import Permutation
from structmat.matrix import StructuredMatrix

#: Kinds to which the matrix inside orders converts.
_INNER = ("block_sparse", "block_low_rank", "monarch", "gblr")


def in_orders(
    left: Permutation | None, A: StructuredMatrix, right: Permutation | None
) -> StructuredMatrix:
    """A matrix with an order of its rows and one of its columns, as `split_orders` gives them.

    Examples
    --------
    >>> P = Permutation([1, 2, 0])
    >>> in_orders(P, in_orders(P.H, P, None), None).p
    array([1, 2, 0])
    """
    A = A if left is None else left @ A
    return A if right is None else A @ right


def same_orders(A: StructuredMatrix, B: StructuredMatrix) -> bool:
    """True if the orders around two matrices of one shape are equal.

    Examples
    --------
    >>> A = Product(Permutation([1, 0]), Permutation([1, 0]))
    >>> same_orders(A, A), same_orders(A, Permutation([1, 0]))
    (True, False)
    """
    (left, _, right), (other_left, _, other_right) = split_orders(A), split_orders(B)
    return _equal(left, other_left) and _equal(right, other_right)


def _equal(P: Permutation | None, Q: Permutation | None) -> bool:
    if P is None or Q is None:
        return P is Q
    return np.array_equal(to_numpy(P.p), to_numpy(Q.p))


@rule("matmul", "permutation", "product")
@rule("matmul", "product", "permutation")
@rule("matmul", "product", "product")
def _joined(a: StructuredMatrix, b: StructuredMatrix) -> Any:
    """The factors that meet become one where that is exact."""
    *left, last = a.children or (a,)
    first, *right = b.children or (b,)
    joint = last @ first
    if isinstance(joint, Product):
        return NotImplemented
    if isinstance(joint, Permutation) and joint._is_identity():
        return reduce(matmul, [_chained(side) for side in (left, right) if side])
    return _chained([*left, joint, *right])


@rule("matmul", "diagonal", "product")
def _diagonal_times(a: Diagonal, b: Product) -> Any:
    """The diagonal goes through an order: D P = P (Pᴴ D P)."""
    left, inner, right = split_orders(b)
    if left is None:
        return _joined(a, b)
    d = Diagonal(taken(a.d, left._inverse, a.xp, axis=0))
    return in_orders(left, d @ inner, right)


@rule("matmul", "product", "diagonal")
def _times_diagonal(a: Product, b: Diagonal) -> Any:
    return (b.H @ a.H).H


def _chained(factors: Sequence[StructuredMatrix]) -> StructuredMatrix:
    return factors[0] if len(factors) == 1 else Product(*factors)


@rule("add", "product", "product")
def _sum(a: Product, b: Product) -> Any:
    """Matrices of the same orders are added inside them."""
    left, first, right = split_orders(a)
    if first is a or not same_orders(a, b):
        return NotImplemented
    return in_orders(left, first + split_orders(b)[1], right)


def _convert_inside(kind: str) -> None:
    @rule("convert", "product", kind, contains=False)
    def convert(A: Product) -> StructuredMatrix:
        left, inner, right = split_orders(A)
        if inner is A:
            raise ConversionError(
                f"{A!r} to {kind!r} would not be exact: it is a product of several matrices; "
                f"approximate it with structmat.compress(A, {kind!r}, budget=…)"
            )
        return in_orders(left, inner.to_kind(kind), right)


for _kind in _INNER:
    _convert_inside(_kind)
