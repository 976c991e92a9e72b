"""The abstract factorization: an operator that solves, each time with a measured error."""

from abc import abstractmethod
from functools import cached_property
from typing import Any

from structmat import _array
from structmat._array import Array
from structmat.contract.operand import matrix_product, vector_product
from structmat.kinds import later
from structmat.matrices import LowRank
from structmat.solvers.arguments import check_place, computing, right_hand_side
from structmat.solvers.condition import estimate
from structmat.solvers.inverse_operator import Columns, InverseOperator
from structmat.solvers.results import LogDeterminant, Solution
from structmat.solvers.verify import norm_bound, verified


class Factorization(InverseOperator):
    """Operator that solves systems with a square matrix S; `factorize` makes it.

    It is the inverse of S as a `scipy.sparse.linalg.LinearOperator`: ``F @ b`` solves, and
    SciPy's solvers take F as their preconditioner ``M=``. Every solve measures its backward
    error by one product with S, is refined while that lowers a residual above `tol`, and raises a
    `SolveError` for an error above ten times `tol`.

    Attributes
    ----------
    matrix : StructuredMatrix, shape (n, n)
        The matrix S = A + shift I.
    shape : tuple of int
        ``(n, n)``.
    dtype : dtype
        Dtype of S.
    xp : namespace
        Array library of S, and of right-hand sides.
    device : device
        Device of S.
    method : str
        Name of the method, such as ``"woodbury"``.
    rank : int or None
        Rank of the part of S that its method treats as low rank; None for other methods.
    tol : float
        Bound of the backward error.

    Notes
    -----
    A class of a method defines `_solve`, `_solve_adjoint` and `_logdet`. An iterative one may
    also define ``_counted(b, adjoint=…)``, which returns a solution and the number of steps.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> F = structmat.factorize(structmat.LowRank(np.ones((3, 1)), np.ones((3, 1))), shift=1.0)
    >>> F @ np.array([4.0, 4.0, 4.0])
    array([1., 1., 1.])
    >>> F.method, F.rank
    ('woodbury', 1)
    """

    #: Factorization of the same values, where torch follows the contents of `matrix`.
    still: "Factorization | None" = None

    # Hooks of a method.

    @abstractmethod
    def _solve(self, b: Array) -> Array:
        """An unmeasured solution of S x = b for columns b (n, k)."""

    @abstractmethod
    def _solve_adjoint(self, b: Array) -> Array:
        """An unmeasured solution of S^H x = b for columns b (n, k)."""

    @abstractmethod
    def _logdet(self) -> Any:
        """The `LogDeterminant` of S; NotImplemented where the method does not give it."""

    # Solves.

    @cached_property
    def _norm(self) -> float:
        return norm_bound(self.matrix)

    def unmeasured(self, b: Array, *, adjoint: bool = False) -> Array:
        """A solution for columns b (n, k) as the method gives it: neither measured nor refined.

        For methods that call others. Complex columns of a real matrix are solved as real ones.

        Examples
        --------
        >>> import numpy as np, structmat
        >>> structmat.factorize(structmat.Dense([[2.0]])).unmeasured(np.array([[4j]]))
        array([[0.+2.j]])
        """
        xp, solve = self.xp, self._solve_adjoint if adjoint else self._solve
        if not _array.is_complex(b, xp) or _array.is_complex(self, xp):
            return solve(b)
        k = b.shape[1]
        x = solve(xp.concat([xp.real(b), xp.imag(b)], axis=1))
        x = xp.astype(x, xp.result_type(x.dtype, xp.complex64))
        return x[:, :k] + x[:, k:] * 1j

    def solution(self, b: Any) -> Solution:
        """A solution of S x = b with its measured errors.

        Right-hand sides, and what is raised for them, are those of `solve`; structured ones are
        formed.

        Returns
        -------
        Solution

        Examples
        --------
        >>> import structmat
        >>> structmat.factorize(structmat.Diagonal([2.0, 4.0])).solution([1.0, 1.0]).residual
        0.0
        """
        return self._solution(b, adjoint=False, exact=True)

    def solve(self, b: Any) -> Any:
        """A solution x of S x = b.

        Parameters
        ----------
        b : array, shape (n,), (n, k) or (…, n, k)
            Also a sparse or a structured matrix of n rows.

        Returns
        -------
        array of the shape of b
            For a `LowRank` matrix b a `LowRank` matrix, by a solve with its left factor.

        Raises
        ------
        SolveError
            If the backward error stays above ten times `tol`.
        InputError
            If `b` holds a NaN or an infinity.
        ShapeError
            If the rows of `b` are not n.
        BackendError
            If `b` belongs to another array library or device than S.

        Examples
        --------
        >>> import structmat
        >>> structmat.factorize(structmat.Diagonal([2.0, 4.0])).solve([1.0, 1.0])
        array([0.5 , 0.25])
        """
        return self._answer(b, adjoint=False)

    def solve_adjoint(self, b: Any) -> Any:
        """A solution x of S^H x = b; as `solve` otherwise."""
        return self._answer(b, adjoint=True)

    def _answer(self, b: Any, *, adjoint: bool) -> Any:
        if isinstance(b, LowRank):
            check_place(b, self.matrix)
            return LowRank(self._answer(b.U, adjoint=adjoint), b.V)
        return self._solution(b, adjoint=adjoint, exact=False).x

    def _solution(self, b: Any, *, adjoint: bool, exact: bool) -> Solution:
        b = right_hand_side(b, self.matrix)
        run = Columns(self, exact=exact)
        product = vector_product if b.ndim < 2 else matrix_product
        x = product(run, b, adjoint=adjoint)
        return Solution(
            x, run.found.residual, run.found.backward_error, run.found.iterations, self.method
        )

    def _measured(self, b: Array, *, adjoint: bool, exact: bool) -> Solution:
        """The solution for columns b (n, k), with derivatives where the library has them."""
        if not _array.has_gradients(self.xp):
            return verified(self, b, adjoint=adjoint, exact=exact)
        follow = later("structmat.solvers.gradients.solves:solution")
        found: Solution = follow(self, b, adjoint=adjoint, exact=exact)
        return found

    def _turned(self, *, flipped: bool, conjugated: bool) -> "Factorization":
        return _turned(self, flipped=flipped, conjugated=conjugated)

    def condition(self) -> float:
        """Condition number of S in the 1-norm, estimated from below by products and solves.

        The meaning is that of ``numpy.linalg.cond(S, 1)``. The estimate is seldom less than a
        third of it, and never more, up to the error of the solves; it is the same each time. It
        takes about ten solves. A relative error e of S, such as that of a compression, changes
        solutions by up to e times this number.

        Returns
        -------
        float
            Infinity where products or solves overflow.

        Examples
        --------
        >>> import structmat
        >>> structmat.factorize(structmat.Diagonal([1.0, -4.0])).condition()
        4.0
        """
        with _array.computing_on(self.xp, self.device):
            return estimate(self)

    def logdet(self, *, rng: Any = None) -> LogDeterminant:
        """Sign and logarithm of the determinant of S.

        Parameters
        ----------
        rng : int or numpy.random.Generator, optional
            For methods that estimate the logarithm.

        Returns
        -------
        LogDeterminant

        Raises
        ------
        SolveError
            If neither the method nor an estimate gives it.
        """
        if _array.has_gradients(self.xp):
            follow = later("structmat.solvers.gradients.determinants:log_determinant")
            followed: LogDeterminant = follow(self, rng)
            return followed
        return self._determinant(rng)

    def _determinant(self, rng: Any) -> LogDeterminant:
        """The log-determinant as numbers, which nothing follows."""
        with computing(self.matrix):
            found: LogDeterminant = self._logdet()
            if found is NotImplemented:
                estimated = later("structmat.solvers.iterative.stochastic:log_determinant")
                found = estimated(self.still or self, rng)
        return found


class _Turned(Factorization):
    """Solves with the adjoint, the transpose or the conjugate by those with the matrix itself."""

    def __init__(self, F: Factorization, *, flipped: bool, conjugated: bool) -> None:
        matrix = F.matrix.H if flipped else F.matrix
        super().__init__(matrix.conj() if conjugated else matrix, F.tol)
        self.F, self.flipped, self.conjugated = F, flipped, conjugated
        self.method, self.rank = F.method, F.rank
        if F.still is not None:
            self.still = _turned(F.still, flipped=flipped, conjugated=conjugated)

    def _solve(self, b: Array) -> Array:
        return self._through(b, adjoint=self.flipped)

    def _solve_adjoint(self, b: Array) -> Array:
        return self._through(b, adjoint=not self.flipped)

    def _through(self, b: Array, *, adjoint: bool) -> Array:
        if not self.conjugated:
            return self.F.unmeasured(b, adjoint=adjoint)
        return _array.conj(self.F.unmeasured(_array.conj(b, self.xp), adjoint=adjoint), self.xp)

    def _logdet(self) -> Any:
        found = self.F._logdet()
        if found is NotImplemented or self.flipped == self.conjugated:
            return found
        return found._replace(sign=found.sign.conjugate())


def _turned(F: Factorization, *, flipped: bool, conjugated: bool) -> Factorization:
    if isinstance(F, _Turned):
        flipped, conjugated, F = flipped != F.flipped, conjugated != F.conjugated, F.F
    conjugated = conjugated and bool(F.xp.isdtype(F.dtype, "complex floating"))
    return _Turned(F, flipped=flipped, conjugated=conjugated) if flipped or conjugated else F
