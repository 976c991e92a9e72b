"""Factorizations of products, factor by factor: orders around a matrix, and Monarch's factors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from structmat._array import Array, integers, to_numpy
from structmat.errors import SolveError
from structmat.matrices import BlockSparse, Monarch, Permutation, Product, split_orders
from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import direct
from structmat.solvers.factorization import Factorization
from structmat.solvers.results import of_product
from structmat.solvers.shifted import shifted


class ProductFactorization(Factorization):
    """Factorizations of square factors, applied in turn."""

    def __init__(self, S: StructuredMatrix, factors: Sequence[Factorization], tol: float) -> None:
        super().__init__(S, tol)
        self.factors = tuple(factors)
        inner = [F for F in factors if not isinstance(F.matrix, Permutation)]
        self.method = inner[0].method if len(inner) == 1 else "product"
        self.rank = inner[0].rank if len(inner) == 1 else None

    def _solve(self, b: Array) -> Array:
        for F in self.factors:
            b = F.unmeasured(b)
        return b

    def _solve_adjoint(self, b: Array) -> Array:
        for F in reversed(self.factors):
            b = F.unmeasured(b, adjoint=True)
        return b

    def _logdet(self) -> Any:
        return of_product(F._logdet() for F in self.factors)


def factorize(A: Product, shift: complex, tol: float) -> Any:
    """Factorization of a product of square factors, or of a matrix with a shift in its orders."""
    if shift:
        return _in_orders(A, shift, tol)
    n = A.shape[0]
    sizes = [factor.shape[1] for factor in A.children]
    if min(sizes) < n:
        raise SolveError(
            f"{A!r} has a factor of {min(sizes)} columns, so it is singular; expected a shift, or "
            "structmat.lstsq for a least-squares solution"
        )
    if max(sizes) > n:
        return NotImplemented
    return _by_factors(A, A.children, tol)


def _in_orders(A: Product, shift: complex, tol: float) -> Any:
    """P A P^H + shift I has the factorization of A + shift I in the same order."""
    left, inner, right = split_orders(A)
    if left is None or right is None:
        return NotImplemented
    if not np.array_equal(to_numpy(left.p)[to_numpy(right.p)], np.arange(A.shape[0])):
        return NotImplemented
    found = direct(inner, shift, tol)
    if found is NotImplemented:
        return found
    around = (direct(left, 0.0, tol), found, direct(right, 0.0, tol))
    return ProductFactorization(shifted(A, shift), around, tol)


def _by_factors(A: StructuredMatrix, factors: Sequence[StructuredMatrix], tol: float) -> Any:
    found = []
    for factor in factors:
        found.append(direct(factor, 0.0, tol))
        if found[-1] is NotImplemented:
            return NotImplemented
    return ProductFactorization(A, found, tol)


def factorize_monarch(A: Monarch, shift: complex, tol: float) -> Any:
    """Factorization of a Monarch matrix of square blocks without padding, by its two factors."""
    (l, s, r), (_, q, p) = A.L.shape, A.R.shape
    if shift or s != r or q != p or l * s != A.shape[0] or not A.shape[0]:
        return NotImplemented
    return _by_factors(A, monarch_factors(A), tol)


def monarch_factors(A: Monarch) -> tuple[StructuredMatrix, ...]:
    """An order, a block-diagonal matrix, an order and a block-diagonal matrix: their product is A.

    Examples
    --------
    >>> A = Monarch(np.arange(1.0, 9.0).reshape(2, 2, 2), np.ones((2, 2, 2)))
    >>> bool(np.allclose(Product(*monarch_factors(A)).to_dense(), A.to_dense()))
    True
    """
    (l, s, r), (k, _, _) = A.L.shape, A.R.shape
    n = A.shape[0]
    out, middle = np.arange(l * s).reshape(l, s), np.arange(l * r).reshape(r, l)
    left, right = np.arange(l), np.arange(k)
    return (
        Permutation(integers(out.T.ravel(), A.xp, A.device)),
        BlockSparse(A.L, left, left, shape=(n, n)),
        Permutation(integers(middle.T.ravel(), A.xp, A.device)),
        BlockSparse(A.R, right, right, shape=(n, n)),
    )
