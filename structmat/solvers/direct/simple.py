"""Factorizations that take no elimination: diagonals, permutations, multiples and adjoints."""

from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from structmat._array import Array, conj, to_numpy
from structmat.errors import SolveError
from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import direct
from structmat.solvers.elimination.pivots import sign_and_log
from structmat.solvers.factorization import Factorization
from structmat.solvers.results import LogDeterminant
from structmat.solvers.shifted import multiple, shifted


class DiagonalFactorization(Factorization):
    """Division by a diagonal without zeros."""

    method = "diagonal"

    def __init__(self, S: StructuredMatrix, tol: float) -> None:
        super().__init__(S, tol)
        self.d = S.diagonal()
        zeros = np.flatnonzero(to_numpy(self.d) == 0)
        if zeros.size:
            raise SolveError(
                f"entry {zeros[0]} of the diagonal is zero; expected a diagonal without zeros "
                "(give a shift, or structmat.lstsq for a least-squares solution)"
            )

    def _solve(self, b: Array) -> Array:
        return b / self.d[:, None]

    def _solve_adjoint(self, b: Array) -> Array:
        return b / conj(self.d, self.xp)[:, None]

    def _logdet(self) -> Any:
        return LogDeterminant(*sign_and_log(to_numpy(self.d)))


class PermutationFactorization(Factorization):
    """The inverse order."""

    method = "permutation"

    def _solve(self, b: Array) -> Array:
        return self.matrix._multiply_adjoint(b)

    def _solve_adjoint(self, b: Array) -> Array:
        return self.matrix._multiply(b)

    def _logdet(self) -> Any:
        return LogDeterminant(parity(to_numpy(self.matrix.p)), 0.0)


class ScaledFactorization(Factorization):
    """A number times a matrix that is factorized."""

    def __init__(self, S: StructuredMatrix, inner: Factorization, alpha: complex, tol: float):
        super().__init__(S, tol)
        self.inner, self.alpha = inner, alpha
        self.method, self.rank = inner.method, inner.rank

    def _solve(self, b: Array) -> Array:
        return self.inner.unmeasured(b) / self.alpha

    def _solve_adjoint(self, b: Array) -> Array:
        return self.inner.unmeasured(b, adjoint=True) / np.conj(self.alpha).item()

    def _logdet(self) -> Any:
        found = self.inner._logdet()
        if found is NotImplemented:
            return found
        n, size = self.shape[0], abs(self.alpha)
        sign = (self.alpha / size) ** n
        return found.times(LogDeterminant(sign, n * float(np.log(size))))


def factorize_diagonal(A: StructuredMatrix, shift: complex, tol: float) -> Factorization:
    """Factorization of a diagonal matrix, or of a multiple of the identity, with a shift."""
    return DiagonalFactorization(shifted(A, shift), tol)


def factorize_permutation(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """Factorization of a permutation; NotImplemented with a shift."""
    return PermutationFactorization(A, tol) if shift == 0 else NotImplemented


def factorize_scaled(A: Any, shift: complex, tol: float) -> Any:
    """Factorization of alpha A + shift I by that of A + (shift / alpha) I."""
    alpha = complex(A.alpha)
    alpha = alpha if alpha.imag else alpha.real
    child = A.children[0]
    if child.kind == "identity":
        return factorize_diagonal(A, shift, tol)
    if alpha == 0:
        return factorize_diagonal(multiple(A, shift), 0.0, tol)
    inner = direct(child, shift / alpha, tol)
    if inner is NotImplemented:
        return inner
    return ScaledFactorization(shifted(A, shift), inner, alpha, tol)


def factorize_adjoint(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """Factorization of A^H + shift I by that of A + conj(shift) I."""
    inner = direct(A.children[0], np.conj(shift).item(), tol)
    return inner if inner is NotImplemented else inner.H


def parity(p: np.ndarray) -> float:
    """Determinant of a permutation: 1 if it takes an even number of exchanges, otherwise -1.

    Examples
    --------
    >>> parity(np.array([1, 0, 2])), parity(np.array([1, 2, 0]))
    (-1.0, 1.0)
    """
    arrows = coo_array((np.ones(p.size), (np.arange(p.size), p)), shape=(p.size, p.size))
    cycles = connected_components(arrows, directed=False, return_labels=False) if p.size else 0
    return -1.0 if (p.size - cycles) % 2 else 1.0
