"""SciPy's interface of a structured matrix: products with any operand, and operators.

Everything is reduced to the two products of columns, to sums, products and multiples of
matrices, and to their adjoint and conjugate.
"""

import numbers
import operator
from abc import abstractmethod
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

from scipy.sparse import issparse

from structmat import _array
from structmat._array import Array, Device, DType
from structmat.contract.operand import (
    as_operand,
    is_plain,
    is_scalar,
    matrix_product,
    vector_product,
)
from structmat.contract.protocols import Protocols
from structmat.errors import BackendError, InputError, OperationError, ShapeError
from structmat.kinds import find_rules, kind_class, later

_LAZY = {"add": "sum", "matmul": "product"}


class Operators(Protocols):
    """Abstract operator of shape (m, n) with SciPy 1.18's meanings on every version.

    `StructuredMatrix` adds the two products of columns, `_wider`, `_scale` and `adjoint`.
    """

    kind: ClassVar[str]
    shape: tuple[int, int]
    ndim: int
    dtype: DType
    xp: ModuleType
    device: Device
    #: Whether products keep the dtype of the operand, whatever `dtype` says.
    neutral: bool

    @abstractmethod
    def _wider(self, dtype: DType) -> Any:
        """The matrix in a wider dtype, for operands of that dtype."""

    @abstractmethod
    def _scale(self, scalar: Any, apply: Callable[[Any, Any], Any] = operator.mul) -> Any:
        """The matrix times, or divided by, a scalar."""

    @abstractmethod
    def _takes_numbers(self) -> bool:
        """True if the contents take a scalar factor in."""

    # Products.

    def matvec(self, x: Array) -> Array:
        """A @ x for one vector or a batch of them.

        Parameters
        ----------
        x : array, shape (…, n)
            A column of shape (n, 1) is taken as SciPy takes it, and gives (m, 1).

        Returns
        -------
        array, shape (…, m)

        Raises
        ------
        ShapeError
            If the last axis is not n.
        BackendError
            If `x` belongs to another array library than the contents.
        """
        return vector_product(self, x, adjoint=False)

    def rmatvec(self, x: Array) -> Array:
        """A^H @ x for one vector or a batch of them: (…, m) to (…, n)."""
        return vector_product(self, x, adjoint=True)

    def matmat(self, X: Array) -> Array:
        """A @ X for one matrix or a batch of them.

        Parameters
        ----------
        X : array, shape (…, n, k)

        Returns
        -------
        array, shape (…, m, k)

        Raises
        ------
        ShapeError
            If `X` has fewer than two axes, or the last but one is not n.
        BackendError
            If `X` belongs to another array library than the contents.
        """
        return matrix_product(self, X, adjoint=False)

    def rmatmat(self, X: Array) -> Array:
        """A^H @ X for one matrix or a batch of them: (…, m, k) to (…, n, k)."""
        return matrix_product(self, X, adjoint=True)

    # SciPy's wrappers call these without any check.
    _matvec, _rmatvec, _matmat, _rmatmat = matvec, rmatvec, matmat, rmatmat

    def dot(self, x: Any) -> Any:
        """A @ x: a vector (n,), a matrix (…, n, k), an operator, or a scalar factor."""
        if not is_plain(x):
            x = _structured(x)
            if isinstance(x, Operators):
                return self._pair("matmul", x)
            if is_scalar(x):
                return self._scale(x)
            x = as_operand(x, self.xp)
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)

    @_array.on_own_device
    def rdot(self, x: Any) -> Any:
        """X @ A: a vector (m,), a matrix (…, k, m), an operator, or a scalar factor."""
        x = _structured(x)
        if isinstance(x, Operators):
            return x.dot(self)
        if is_scalar(x):
            return self._scale(x)
        xp = self.xp
        x = _array.conj(as_operand(x, xp), xp)
        if x.ndim == 1:
            return _array.conj(self.rmatvec(x), xp)
        return _array.adjoint(self.rmatmat(xp.matrix_transpose(x)), xp)

    def __call__(self, x: Any) -> Any:
        """Apply the matrix; the same as `dot`."""
        return self.dot(x)

    def __mul__(self, x: Any) -> Any:
        return NotImplemented if _defers(x) else self.dot(x)

    def __rmul__(self, x: Any) -> Any:
        return self.rdot(x)

    def __matmul__(self, x: Any) -> Any:
        if not is_plain(x):
            if _defers(x):
                return NotImplemented
            _refuse_scalar(x)
        return self.dot(x)

    def __rmatmul__(self, x: Any) -> Any:
        _refuse_scalar(x)
        return self.rdot(x)

    # Algebra.

    def __add__(self, other: Any) -> Any:
        if _defers(other):
            return NotImplemented
        other = _structured(other)
        if isinstance(other, Operators):
            return self._pair("add", other)
        if is_scalar(other) and other == 0:
            return self  # where sum([A, B]) begins
        if is_scalar(other) or hasattr(other, "__array_namespace__") or hasattr(other, "__array__"):
            what, refusal = (
                ("a number", OperationError) if is_scalar(other) else ("an array", InputError)
            )
            raise refusal(
                f"{self._size()} {type(self).__name__} plus {what}; expected a matrix: for a "
                "dense result A + structmat.Dense(X), for c times the identity "
                "A + c * structmat.Identity(n)"
            )
        return NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return NotImplemented if _defers(other) else self + (-_structured(other))

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __neg__(self) -> Any:
        return self._scale(-1)

    def __pos__(self) -> Any:
        return self

    def __truediv__(self, scalar: Any) -> Any:
        if not is_scalar(scalar):
            raise InputError(f"division by {scalar!r}; expected a number")
        if scalar == 0:
            raise InputError("division by 0; expected a number other than zero")
        return self._scale(scalar, operator.truediv)

    def __pow__(self, power: Any) -> Any:
        if not isinstance(power, numbers.Integral) or power < 0 or self.shape[0] != self.shape[1]:
            raise InputError(
                f"{self._size()} matrix to the power {power!r}; expected a square matrix and a "
                "whole power of at least 0 (for an inverse structmat.factorize)"
            )
        if power == 0:
            return self._one()
        result, square, power = None, self, int(power)
        while True:  # repeated squaring
            if power % 2:
                result = square if result is None else result @ square
            power //= 2
            if not power:
                return result
            square = square @ square

    @_array.on_own_device
    def _one(self) -> Any:
        like = self.xp.zeros(0, dtype=self.dtype, device=self.device)
        return kind_class("identity")(self.shape[0], like=like)

    @_array.on_own_device
    def _pair(self, operation: str, other: "Operators") -> Any:
        """A + B or A @ B by the rule for the two kinds, or lazily."""
        fits = self.shape == other.shape if operation == "add" else self.shape[1] == other.shape[0]
        if not fits:
            sign, wanted = ("+", "equal shapes") if operation == "add" else ("@", "inner sizes")
            raise ShapeError(
                f"{self._size()} {sign} {other.shape[0]}x{other.shape[1]}; expected {wanted} to "
                "agree (is one of them to be transposed?)"
            )
        if other.xp is not self.xp or other.device != self.device:
            raise BackendError(
                f"{self!r} meets {other!r} on {other.device}; expected one library and device "
                "(move one of them with .to(…))"
            )
        twice = operation == "add" and other is self
        if twice and self._takes_numbers():
            return self._scale(2)
        for apply in find_rules(operation, self.kind, other.kind):
            result = apply(self, other)
            if result is not NotImplemented:
                return result
        return self._scale(2) if twice else kind_class(_LAZY[operation])(self, other)

    def to_cupyx(self) -> Any:
        """The matrix as a ``cupyx.scipy.sparse.linalg.LinearOperator`` for CuPy's solvers."""
        return cupyx_operator(self)


def cupyx_operator(A: Any) -> Any:
    """An operator on CuPy as one of CuPy's own, by its four products."""
    if _array.backend_name(A.xp) != "cupy":
        raise BackendError(
            f"the contents are on {_array.backend_name(A.xp)}; expected cupy "
            "(move them with A.to('cupy'))"
        )
    from cupyx.scipy.sparse.linalg import LinearOperator as CupyxOperator

    return CupyxOperator(
        A.shape,
        matvec=A.matvec,
        rmatvec=A.rmatvec,
        matmat=A.matmat,
        rmatmat=A.rmatmat,
        dtype=A.dtype,
    )


def _structured(x: Any) -> Any:
    """A sparse matrix or an operator of another library as a structured one; all else as it is."""
    if isinstance(x, Operators):
        return x
    if issparse(x) and x.ndim == 2:
        return later("structmat.matrices:from_sparse")(x)
    if hasattr(x, "matvec") and later("structmat.matrices:is_operator")(x):
        return later("structmat.matrices:from_operator")(x)
    return x


def _defers(x: Any) -> bool:
    """True for an object that answers before a matrix, as it does before NumPy's arrays."""
    answers = getattr(type(x), "__array_ufunc__", _defers) is None
    return answers and getattr(x, "__array_priority__", 0.0) > Protocols.__array_priority__


def _refuse_scalar(x: Any) -> None:
    if is_scalar(x):
        raise InputError(f"@ with the scalar {x!r}; expected an array or operator (use * instead)")
