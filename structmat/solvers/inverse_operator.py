"""The inverse of a matrix as an operator, by solves with it: products, turns, pickles."""

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, Self

import numpy as np
from scipy.sparse.linalg import LinearOperator

from structmat import _array
from structmat._array import Array, Device, DType
from structmat._html import blocks_svg, matrix_facts
from structmat._markup import card
from structmat.contract.dense_form import DENSE_ENTRIES
from structmat.contract.operand import as_operand, is_scalar, matrix_product, vector_product
from structmat.contract.operators import cupyx_operator
from structmat.contract.protocols import asked_by_sparse_product
from structmat.errors import InputError
from structmat.kinds import later
from structmat.matrices import LowRank
from structmat.matrix import StructuredMatrix
from structmat.solvers.arguments import check_device
from structmat.solvers.results import Solution


class InverseOperator(LinearOperator, ABC):
    """Operator of S^-1 for a matrix S, whose products are solves; `Factorization` has those.

    Its attributes are those of `Factorization`.
    """

    method: str = ""
    rank: int | None = None
    matrix: StructuredMatrix
    tol: float
    #: Whether solutions keep the dtype of the right-hand side, whatever `dtype` says.
    neutral: bool

    def __init__(self, matrix: StructuredMatrix, tol: float) -> None:
        LinearOperator.__init__(self, None, matrix.shape)
        self.matrix, self.tol = matrix, tol
        self.dtype, self.neutral = matrix.dtype, matrix.neutral

    @abstractmethod
    def solve(self, b: Any) -> Any:
        """A solution x of S x = b."""

    @abstractmethod
    def solve_adjoint(self, b: Any) -> Any:
        """A solution x of S^H x = b."""

    @abstractmethod
    def _measured(self, b: Array, *, adjoint: bool, exact: bool) -> Solution:
        """The solution for columns b (n, k), with its errors."""

    @abstractmethod
    def _turned(self, *, flipped: bool, conjugated: bool) -> Any:
        """The operator of the adjoint (`flipped`), the conjugate, or the transpose (both)."""

    @property
    def xp(self) -> ModuleType:
        """Array library of S."""
        return self.matrix.xp

    @property
    def device(self) -> Device:
        """Device of S."""
        return self.matrix.device

    def matvec(self, x: Any) -> Array:
        """S^-1 x for one vector or a batch of them, shape (…, n)."""
        return vector_product(Columns(self), x, adjoint=False)

    def rmatvec(self, x: Any) -> Array:
        """S^-H x for one vector or a batch of them, shape (…, n)."""
        return vector_product(Columns(self), x, adjoint=True)

    def matmat(self, X: Any) -> Array:
        """S^-1 X for one matrix or a batch of them, shape (…, n, k)."""
        return matrix_product(Columns(self), X, adjoint=False)

    def rmatmat(self, X: Any) -> Array:
        """S^-H X for one matrix or a batch of them, shape (…, n, k)."""
        return matrix_product(Columns(self), X, adjoint=True)

    # SciPy's wrappers call these without any check.
    _matvec, _rmatvec, _matmat, _rmatmat = matvec, rmatvec, matmat, rmatmat

    def dot(self, x: Any) -> Any:
        """S^-1 x: a vector (n,) or a matrix (…, n, k); operators and numbers as SciPy does."""
        if is_scalar(x) or (isinstance(x, LinearOperator) and not isinstance(x, LowRank)):
            return LinearOperator.dot(self, x)
        return self.solve(x)

    def rdot(self, x: Any) -> Any:
        """x S^-1: a vector (n,) or a matrix (…, k, n); operators and numbers as SciPy does."""
        if isinstance(x, LinearOperator):
            return x.dot(self)
        if is_scalar(x):
            return LinearOperator.dot(self, x)
        xp = self.xp
        x = _array.conj(as_operand(x, xp), xp)
        if x.ndim < 2:
            return _array.conj(self.solve_adjoint(x), xp)
        return _array.adjoint(self.solve_adjoint(xp.matrix_transpose(x)), xp)

    def __call__(self, x: Any) -> Any:
        """Solve; the same as `dot`."""
        return self.dot(x)

    def __mul__(self, x: Any) -> Any:
        return self.dot(x)

    def __rmul__(self, x: Any) -> Any:
        return self.rdot(x)

    def _adjoint(self) -> Self:
        return self._turned(flipped=True, conjugated=False)

    def _transpose(self) -> Self:
        return self._turned(flipped=True, conjugated=True)

    def conj(self) -> Self:
        """Factorization of the conjugate of S."""
        return self._turned(flipped=False, conjugated=True)

    def to(self, target: Any) -> Self:
        """The factorization in another array library or on another device.

        S is moved there as `StructuredMatrix.to` moves it, and factorized again.

        Parameters
        ----------
        target : str, namespace, or device

        Returns
        -------
        Factorization
        """
        again = later("structmat.solvers.front:factorize")
        moved: Self = again(self.matrix.to(target), tol=self.tol)
        return moved

    def to_cupyx(self) -> Any:
        """The inverse as a ``cupyx.scipy.sparse.linalg.LinearOperator`` for CuPy's solvers."""
        return cupyx_operator(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The dense inverse, for functions of NumPy that know no operators."""
        if asked_by_sparse_product():
            return np.array(None, dtype=object)
        n, _ = self.shape
        if copy is False or n * n > DENSE_ENTRIES:
            raise InputError(
                f"{self!r} as an array; expected at most {DENSE_ENTRIES} entries, and copy=None or "
                "True (solve with the columns that are needed, or with numpy.eye(n))"
            )
        columns = _array.identity(n, self.dtype, self.xp, self.device)
        return np.array(_array.to_numpy(self.solve(columns)), dtype=dtype)

    def __repr__(self) -> str:
        n = self.shape[0]
        rank = "" if self.rank is None else f" of rank {self.rank}"
        return f"<{n}x{n} factorization, {self.method}{rank}, {self.dtype}>"

    def _repr_html_(self) -> str:
        """Facts of the method, then those of the matrix S with its blocks."""
        facts = {"method": self.method, "rank": self.rank, "bound of the backward error": self.tol}
        told = {name: str(value) for name, value in facts.items() if value is not None}
        matrix = matrix_facts(self.matrix)
        told |= {f"{name} of S" if name != "library" else name: v for name, v in matrix.items()}
        return card("Factorization", told, [blocks_svg(self.matrix)])

    def __reduce__(self) -> Any:
        # SciPy's own state may hold namespaces, which do not pickle.
        own = {name: value for name, value in vars(self).items() if name not in _SCIPYS}
        return _revived, (type(self), own)


#: Attributes that SciPy's constructor sets again.
_SCIPYS = ("shape", "_xp", "_norm")


def _revived(cls: type[InverseOperator], own: dict[str, Any]) -> InverseOperator:
    """A factorization from its attributes, as pickle keeps them."""
    F = cls.__new__(cls)
    LinearOperator.__init__(F, None, own["matrix"].shape)
    F.__dict__.update(own)
    return F


class Columns:
    """A factorization as a factor of products, which keeps the errors of its last solve."""

    neutral: bool

    def __init__(self, F: InverseOperator, *, exact: bool = False) -> None:
        self.F, self.shape, self.dtype, self.exact = F, F.shape, F.dtype, exact
        self.xp, self.device, self.neutral = F.xp, F.device, F.neutral
        self.found = Solution(None, 0.0, 0.0, 0, F.method)

    def _multiply(self, x: Array) -> Array:
        check_device(x, self.F)
        self.found = self.F._measured(x, adjoint=False, exact=self.exact)
        return self.found.x

    def _multiply_adjoint(self, y: Array) -> Array:
        check_device(y, self.F)
        self.found = self.F._measured(y, adjoint=True, exact=self.exact)
        return self.found.x

    def _wider(self, dtype: DType) -> "Columns":
        return self
