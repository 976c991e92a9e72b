"""Hierarchical factors of low accuracy as a preconditioner."""

from typing import Any

import numpy as np

from structmat._array import Array
from structmat.errors import SolveError
from structmat.matrices.hierarchical import Hierarchical
from structmat.solvers.hierarchical.direct import HierarchicalFactorization
from structmat.solvers.hierarchical.loose import loose_factorization
from structmat.solvers.iterative.preconditioners.preconditioner import Preconditioner

#: Largest error, as a share of the norm, and the one without a shift.
LOOSE, UNSHIFTED = 1e-2, 1e-3


class LooseFactors(Preconditioner):
    """Solves with a matrix near S."""

    name = "hierarchical"

    def __init__(self, F: HierarchicalFactorization, *, definite: bool) -> None:
        self._factors, self.definite = F, definite

    def multiply(self, r: Array) -> Array:
        """M r for columns r (n, k)."""
        return self._factors.xp.astype(self._factors._solve(r), r.dtype)

    def multiply_adjoint(self, r: Array) -> Array:
        """M^H r for columns r (n, k)."""
        return self._factors.xp.astype(self._factors._solve_adjoint(r), r.dtype)


def loose_factors(
    A: Hierarchical, shift: complex, *, definite: bool, most: float
) -> LooseFactors | None:
    """Factors near those of A + shift I, to an error near the shift.

    None where they promise to take more than `most` multiplications, or are singular, or are not
    definite although they have to be.
    """
    norm = float(A.norm())
    tol = min(max(abs(shift) / norm, 1e-12), LOOSE) if shift and norm else UNSHIFTED
    try:
        F = loose_factorization(A, shift, tol, most=most)
    except SolveError:
        return None
    if F is None or (definite and F.recursion.negative):
        return None
    return LooseFactors(F, definite=definite)


def is_hierarchical(A: Any) -> bool:
    """Tell whether a matrix is one that goes by recursion over one order."""
    return isinstance(A, Hierarchical) and np.array_equal(A.row_order, A.col_order)
