"""Factorizations of Kronecker products: the inverse is that of the inverses of both factors.

With a shift, the eigenvectors of two Hermitian factors give it.
"""

from functools import partial
from typing import Any

import numpy as np

from structmat._array import Array, adjoint, to_numpy
from structmat.errors import SolveError
from structmat.matrices import Kronecker
from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import DENSE_ROWS, direct
from structmat.solvers.elimination.pivots import sign_and_log
from structmat.solvers.factorization import Factorization
from structmat.solvers.results import LogDeterminant
from structmat.solvers.shifted import identity_of, number_of, shifted
from structmat.solvers.verify import LIMIT


class KroneckerFactorization(Factorization):
    """Factorizations of both factors, each applied to columns side by side."""

    method = "kronecker"

    def __init__(self, S: StructuredMatrix, factors: tuple[Any, Any], tol: float) -> None:
        super().__init__(S, tol)
        self.factors = factors

    def _solve(self, b: Array) -> Array:
        return on_both(b, [F.unmeasured for F in self.factors], self._sizes, self.xp)

    def _solve_adjoint(self, b: Array) -> Array:
        solves = [partial(F.unmeasured, adjoint=True) for F in self.factors]
        return on_both(b, solves, self._sizes, self.xp)

    @property
    def _sizes(self) -> tuple[int, int]:
        outer, inner = (F.shape[0] for F in self.factors)
        return outer, inner

    def _logdet(self) -> Any:
        outer, inner = (F._logdet() for F in self.factors)
        if outer is NotImplemented or inner is NotImplemented:
            return NotImplemented
        p, q = self._sizes
        sign = outer.sign**q * inner.sign**p
        error = float(np.hypot(q * outer.error, p * inner.error))
        return LogDeterminant(sign, q * outer.logabsdet + p * inner.logabsdet, error)


class EigenFactorization(Factorization):
    """Eigenvectors of two Hermitian factors, and the eigenvalues of their shifted product."""

    method = "kronecker eigenvectors"

    def __init__(
        self, S: StructuredMatrix, vectors: tuple[Array, Array], values: Array, tol: float
    ) -> None:
        super().__init__(S, tol)
        self.vectors, self.values = vectors, values
        sizes = np.abs(to_numpy(values))
        if sizes.size and not sizes.max() < LIMIT * sizes.min():
            raise SolveError(
                f"{S!r} is numerically singular: its eigenvalues go from {sizes.min():.2g} to "
                f"{sizes.max():.2g}; expected a condition number below {LIMIT:.2g} (give a larger "
                "shift)"
            )

    def _solve(self, b: Array) -> Array:
        return self._between(b, self.values)

    def _solve_adjoint(self, b: Array) -> Array:
        return self._between(b, self.xp.conj(self.values) if self._is_complex else self.values)

    @property
    def _is_complex(self) -> bool:
        return bool(self.xp.isdtype(self.values.dtype, "complex floating"))

    def _between(self, b: Array, values: Array) -> Array:
        """Into eigenvectors, divided by their values, and back."""
        xp = self.xp
        sizes = tuple(Q.shape[0] for Q in self.vectors)
        turn = [partial(xp.matmul, adjoint(Q, xp)) for Q in self.vectors]
        back = [partial(xp.matmul, Q) for Q in self.vectors]
        b = xp.astype(b, xp.result_type(b.dtype, self.vectors[0].dtype), copy=False)
        return on_both(on_both(b, turn, sizes, xp) / values[:, None], back, sizes, xp)

    def _logdet(self) -> Any:
        return LogDeterminant(*sign_and_log(to_numpy(self.values)))


def on_both(b: Array, apply: Any, sizes: tuple[int, ...], xp: Any) -> Array:
    """One function on the outer and one on the inner index of rows (p q), for columns (p q, k).

    Examples
    --------
    >>> on_both(np.ones((6, 1)), [lambda x: 2 * x, lambda x: x + 1], (2, 3), np).ravel()
    array([3., 3., 3., 3., 3., 3.])
    """
    (p, q), k = sizes, b.shape[1]
    x = apply[0](xp.reshape(b, (p, q * k)))
    x = xp.reshape(xp.permute_dims(xp.reshape(x, (p, q, k)), (1, 0, 2)), (q, p * k))
    x = apply[1](x)
    x = xp.permute_dims(xp.reshape(x, (q, p, k)), (1, 0, 2))
    return xp.reshape(x, (p * q, k))


def factorize(A: Kronecker, shift: complex, tol: float) -> Any:
    """Factorization of a Kronecker product of square factors, or of Hermitian ones with a shift."""
    if any(factor.shape[0] != factor.shape[1] for factor in A.children):
        if shift or not A.shape[0]:
            return NotImplemented
        raise SolveError(
            f"{A!r} has factors of shapes {[factor.shape for factor in A.children]}, so it is "
            "singular; expected square ones, a shift, or structmat.lstsq for a least-squares "
            "solution"
        )
    if shift:
        found = _by_identity(A, shift, tol)
        return _by_eigenvectors(A, shift, tol) if found is NotImplemented else found
    found = [direct(factor, 0.0, tol) for factor in A.children]
    if any(F is NotImplemented for F in found):
        return NotImplemented
    return KroneckerFactorization(A, (found[0], found[1]), tol)


def _by_identity(A: Kronecker, shift: complex, tol: float) -> Any:
    """An identity beside a shifted factor: I ⊗ B + s I is I ⊗ (B + s I), on either side."""
    for at, factor in enumerate(A.children):
        number = number_of(factor)
        if number is None or not A.shape[0]:
            continue
        found = direct(A.children[1 - at] * number, shift, tol)
        if found is NotImplemented:
            return found
        one = direct(identity_of(factor), 0.0, tol)
        both = (found, one) if at else (one, found)
        return KroneckerFactorization(shifted(A, shift), both, tol)
    return NotImplemented


def _by_eigenvectors(A: Kronecker, shift: complex, tol: float) -> Any:
    xp = A.xp
    fits = all(F.hermitian and F.shape[0] <= DENSE_ROWS for F in A.children)
    if not fits or not A.shape[0]:
        return NotImplemented
    pairs = [xp.linalg.eigh(xp.astype(F.to_dense(), A.dtype)) for F in A.children]
    values = pairs[0][0][:, None] * pairs[1][0][None, :]
    values = xp.reshape(values, (-1,)) + shift
    return EigenFactorization(shifted(A, shift), (pairs[0][1], pairs[1][1]), values, tol)
