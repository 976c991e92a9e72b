"""Factorization of block-triangular grids: their diagonal blocks, and substitution."""

from typing import Any

import numpy as np

from structmat._array import Array
from structmat.contract.operand import multiplied
from structmat.errors import SolveError
from structmat.intervals import offsets
from structmat.matrices.grid import Grid
from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import direct
from structmat.solvers.factorization import Factorization
from structmat.solvers.results import of_product
from structmat.solvers.shifted import shifted


class TriangularFactorization(Factorization):
    """Factorizations of the diagonal blocks, and the other blocks of each row and column."""

    method = "block triangular"

    def __init__(
        self, S: StructuredMatrix, A: Grid, parts: list[Factorization], order: list[int], tol: float
    ) -> None:
        super().__init__(S, tol)
        self.parts, self.order = parts, order
        self.begins = offsets(A.row_sizes).tolist()
        places = zip(A.places.tolist(), A.children, strict=True)
        self.others = [(i, j, block) for (i, j), block in places if i != j]

    def _solve(self, b: Array) -> Array:
        return self._substituted(b, adjoint=False)

    def _solve_adjoint(self, b: Array) -> Array:
        return self._substituted(b, adjoint=True)

    def _substituted(self, b: Array, *, adjoint: bool) -> Array:
        xp = self.xp
        found: dict[int, Array] = {}
        b = xp.astype(b, xp.result_type(b.dtype, self.dtype), copy=False)
        for at in reversed(self.order) if adjoint else self.order:
            rest = b[self.begins[at] : self.begins[at + 1], :]
            for i, j, block in self.others:
                if (j if adjoint else i) == at:
                    known = found[i if adjoint else j]
                    rest = rest - multiplied(block, known, adjoint=adjoint)
            x = self.parts[at].unmeasured(rest, adjoint=adjoint)
            found[at] = xp.astype(x, b.dtype, copy=False)
        return xp.concat([found[at] for at in range(len(self.parts))], axis=0)

    def _logdet(self) -> Any:
        return of_product(F._logdet() for F in self.parts)


def factorize(A: Grid, shift: complex, tol: float) -> Any:
    """Factorization of a grid with square blocks down the diagonal and none on one side of it."""
    i, j = A.places.T
    upper, lower = bool((i <= j).all()), bool((i >= j).all())
    if not (upper or lower) or not np.array_equal(A.row_sizes, A.col_sizes):
        return NotImplemented
    count = len(A.row_sizes)
    diagonal = {int(at): A.children[t] for t, at in enumerate(i) if at == j[t]}
    missing = [at for at in range(count) if at not in diagonal and A.row_sizes[at]]
    if missing and not shift:
        raise SolveError(
            f"{A!r} is singular: it is block triangular, and block {missing[0]} of its diagonal is "
            "zero; expected a block there, a shift, or structmat.lstsq for a least-squares solution"
        )
    if len(diagonal) < count:
        return NotImplemented
    parts = []
    for at in range(count):
        parts.append(direct(diagonal[at], shift, tol))
        if parts[-1] is NotImplemented:
            return NotImplemented
    order = list(range(count))
    return TriangularFactorization(
        shifted(A, shift), A, parts, order[::-1] if upper else order, tol
    )
