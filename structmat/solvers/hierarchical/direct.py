"""Direct factorization of hierarchical matrices, and of sources, by their weak forms."""

import cmath
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array
from structmat.contract.operand import multiplied
from structmat.errors import SolveError
from structmat.matrices import Diagonal, Hierarchical, Identity, Scaled
from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import DENSE_ROWS
from structmat.solvers.condition import check_condition
from structmat.solvers.direct.simple import parity
from structmat.solvers.factorization import Factorization
from structmat.solvers.hierarchical.recursion import Recursion
from structmat.solvers.hierarchical.weak import WeakForm, weak_form
from structmat.solvers.results import LogDeterminant
from structmat.solvers.shifted import shifted
from structmat.solvers.verify import norm_bound

#: Error of the weak form as a share of the shift: the least one, the most, and its square for
#: each row, by which the logarithm of the determinant may change.
WEAK, MOST_WEAK, EACH = 0.2, 1.0, 1e-5
#: Error as a share of the norm where there is no shift.
UNSHIFTED = 1e-10
#: Smallest and largest error, as shares of the norm.
LEAST, MOST = 1e-13, 1e-3
#: Fewer rows are for the methods of dense matrices.
ROWS = 256
#: Multiplications beyond which iterations are cheaper: about a minute of one processor.
MOST_WORK = 1e12
#: Negative eigenvalues that are smaller, as a share of the norm, come from an approximation.
NEAR = 3e-3
#: Random vectors that tell what the weak form changes in a log-determinant.
PROBES = 16


class HierarchicalFactorization(Factorization):
    """Factors of the weak form of a hierarchical matrix, which may carry a shift or a diagonal.

    `rank` is the largest rank of a tile, `total_rank` the sum of all.
    """

    method = "hierarchical"

    def __init__(
        self, S: StructuredMatrix, A: Hierarchical, recursion: Recursion, exact: bool, tol: float
    ) -> None:
        super().__init__(S, tol)
        self.orders = A.row_order, A.col_order
        self.recursion, self.exact = recursion, exact
        self.rank, self.total_rank = max(recursion.ranks, default=0), sum(recursion.ranks)

    def _solve(self, b: Array) -> Array:
        return self._ordered(b, *self.orders, adjoint=False)

    def _solve_adjoint(self, b: Array) -> Array:
        return self._ordered(b, *self.orders[::-1], adjoint=True)

    def _ordered(self, b: Array, rows: NDArray[Any], cols: NDArray[Any], *, adjoint: bool) -> Array:
        """Columns in the order of the tree, solved by rows, and back."""
        xp, own, dtype = self.xp, _array.to_numpy(b), self.recursion.dtype
        halved = own.dtype.kind == "c" and dtype.kind != "c"
        parts = [own.real, own.imag] if halved else [own]
        ordered = np.concatenate([part[rows] for part in parts], axis=1).astype(dtype, order="C")
        ordered = self.recursion.solve(ordered, adjoint=adjoint)
        if halved:
            real, imaginary = np.split(ordered, 2, axis=1)
            ordered = real + 1j * imaginary
        x = np.empty(own.shape, ordered.dtype)
        x[cols] = ordered
        return _array.from_numpy(x, xp, _array.device(b))

    def _logdet(self) -> LogDeterminant:
        """That of the weak form, and by products what it lacks, where the form is not exact."""
        found = self.recursion.logdet()
        found = found._replace(sign=found.sign * parity(self.orders[0]) * parity(self.orders[1]))
        if self.exact:
            return found
        z = np.random.default_rng(0).integers(0, 2, (self.shape[0], PROBES)) * 2.0 - 1.0
        w = self._change(z)
        v = self._change(w)
        # The logarithm of det(I + W) is tr W - tr W^2 / 2 and so on.
        first, second = (z * w).sum(axis=0), 0.5 * (z * v).sum(axis=0)
        mean, spread = first.mean(), float(np.abs((first - second).std())) / math.sqrt(PROBES)
        error = spread + float(np.linalg.norm(v) * np.linalg.norm(w)) / (3 * PROBES)
        if abs(mean) < 3 * spread:
            # The vectors would add more noise than they take away.
            mean, error = 0.0, math.hypot(abs(mean), error)
        change = complex(mean - second.mean())
        if self.recursion.dtype.kind == "c" and not self.recursion.hermitian:
            found = found._replace(sign=found.sign * cmath.exp(1j * change.imag))
        return found._replace(logabsdet=found.logabsdet + change.real, error=error)

    def _change(self, z: NDArray[Any]) -> NDArray[Any]:
        """W z, where S is I + W times the weak form, from the left."""
        product = multiplied(self.matrix, _array.from_numpy(z, self.xp, self.device), adjoint=False)
        return _array.to_numpy(self._solve(product)) - z


def share_of(rows: int) -> float:
    """Error of the weak form of a number of rows, as a share of the shift."""
    return min(max(WEAK, math.sqrt(EACH * rows)), MOST_WEAK)


def factorize(A: Any, shift: complex, tol: float) -> Any:
    """Factorization of a hierarchical matrix with a shift, to WEAK times the shift.

    NotImplemented where iterations are cheaper.
    """
    return factorize_with(A, shift, shifted(A, shift), tol)


def factorize_sum(A: Any, shift: complex, tol: float) -> Any:
    """Factorization of a hierarchical matrix and diagonals; NotImplemented for other sums."""
    terms = beside_diagonals(A, Hierarchical)
    if terms is None:
        return NotImplemented
    return factorize_with(terms[0], terms[1] + shift, shifted(A, shift), tol)


def beside_diagonals(A: Any, cls: type) -> tuple[Any, NDArray[Any]] | None:
    """The one term of a class in a sum, and the diagonal of the others; None for other sums."""
    thick = [term for term in A.children if isinstance(term, cls)]
    thin = [term for term in A.children if _is_diagonal(term)]
    if len(thick) != 1 or len(thin) != len(A.children) - 1:
        return None
    return thick[0], np.sum([_array.to_numpy(term.diagonal()) for term in thin], axis=0)


def _is_diagonal(A: StructuredMatrix) -> bool:
    if isinstance(A, Scaled):
        return _is_diagonal(A.children[0])
    return isinstance(A, (Diagonal, Identity))


def factorize_with(
    A: Hierarchical,
    diagonal: Any,
    S: StructuredMatrix,
    tol: float,
    *,
    definite: bool = False,
    norm: float | None = None,
) -> Any:
    """Factorization of S, a hierarchical matrix plus a diagonal, which may be one number.

    `definite` tells whether S has to be positive definite; `norm` is the Frobenius norm of A where
    it is known. A matrix with a positive diagonal that
    is definite but for a share of `NEAR` has to be, too: it has lost that by an approximation.
    """
    size = np.abs(np.asarray(diagonal))
    if A.shape[0] < ROWS or (size.any() and not np.array_equal(A.row_order, A.col_order)):
        return NotImplemented
    norm = float(A.norm()) if norm is None else norm
    share = share_of(A.shape[0])
    error = share * float(size.min()) if size.min() > 0 else UNSHIFTED * norm
    error = min(max(error, LEAST * norm), MOST * norm)
    weak = weak_form(A, error, most=MOST_WORK)
    if weak is None:
        return NotImplemented
    try:
        recursion = factored_weak(weak, A, diagonal, definite=definite)
        F = HierarchicalFactorization(S, A, recursion, weak.exact, tol)
        check_condition(F)
    except SolveError:
        if definite or A.shape[0] > DENSE_ROWS:
            raise
        # Part of a matrix may be singular where the whole is not.
        return NotImplemented
    if recursion.negative and np.isrealobj(diagonal) and np.min(diagonal) > 0:
        again = weak_form(A, error)
        assert again is not None
        raised = factored_weak(again, A, diagonal + NEAR * norm_bound(S), definite=False)
        if not raised.negative:
            raise recursion.indefinite()
    return F


def factored_weak(weak: WeakForm, A: Hierarchical, diagonal: Any, *, definite: bool) -> Recursion:
    """Factors of the weak form of A plus a diagonal."""
    if np.any(np.imag(diagonal)):
        weak.plain(np.result_type(weak.dtype, np.complex64))
    ordered = np.asarray(diagonal)
    ordered = ordered[A.row_order] if ordered.ndim else ordered
    return Recursion(weak, ordered, definite=definite)
