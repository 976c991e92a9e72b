"""The contract of a structured matrix, checked once, in one place.

A matrix is a few named arrays, perhaps child matrices, and static attributes. A
concrete class is final and says what only it can know: its cost, its two products
and its adjoint. Everything public (shapes, dtypes, batch axes, SciPy's interface,
algebra, pickling, moving between libraries) is written here for all of them.
"""

import inspect
import math
import numbers
import operator
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar, Self

from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from structmat import _array
from structmat._array import Array, DType
from structmat._operand import as_operand, is_plain, is_scalar, matrix_product, vector_product
from structmat.errors import BackendError, ConversionError, InputError, ShapeError
from structmat.kinds import enter_class, find_rules, kind_class

_LAZY = {"add": "sum", "matmul": "product"}
_HOOKS = ("cost", "_multiply", "_multiply_adjoint", "_dense", "_adjoint")


class StructuredMatrix(LinearOperator):
    """Abstract base of all structured matrices, shape (m, n).

    It is a `scipy.sparse.linalg.LinearOperator`, so every solver of
    ``scipy.sparse.linalg`` takes it, and it keeps SciPy 1.18's meanings on every
    version: `matvec` takes ``(…, n)``, `matmat` takes ``(…, n, k)``. Operands and
    results are arrays of the library that holds the contents; none is converted.

    Attributes
    ----------
    shape : tuple of int
        ``(m, n)``.
    dtype : dtype
        Of the contents, in the terms of their library.
    xp : namespace
        Array API namespace of the contents.
    device : device
        Where the contents live.
    kind : str
        Name of the structure, as `convert` and `compress` take it.
    data_names : tuple of str
        Names of the content arrays, which are attributes as well.
    static_names : tuple of str
        Names of the attributes that say how the contents are laid out. Children, then
        arrays and static attributes by name, are what the constructor takes.
    children : tuple of StructuredMatrix
        Operands of a lazy combination; empty for the structures themselves.

    Notes
    -----
    Contents do not change after construction: what products compute from them once is
    kept (about as much memory again for each kernel that was used, and a copy in the wider
    precision if operands ask for one), unless gradients flow through them. NumPy contents
    are read-only views.

    A NaN or an infinity in an operand reaches every entry that it reaches through stored
    scalars, and may reach entries beside them, because padding multiplies it by zero.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> isinstance(A, structmat.StructuredMatrix), A.shape, A.cost
    (True, (3, 2), 5)
    >>> (A + A).kind, (A @ A.H).kind
    ('low_rank', 'low_rank')
    """

    kind: ClassVar[str]
    data_names: ClassVar[tuple[str, ...]] = ()
    static_names: ClassVar[tuple[str, ...]] = ()
    #: The arrays that take a scalar factor; empty where scaling is lazy.
    scaled_names: ClassVar[tuple[str, ...]] = ()

    shape: tuple[int, int]
    ndim: int
    dtype: DType
    children: tuple["StructuredMatrix", ...]
    #: Whether products keep the dtype of the operand, whatever `dtype` says.
    neutral: bool

    def __init_subclass__(cls, kind: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__bases__ != (StructuredMatrix,):
            raise InputError(
                f"{cls.__name__} derives from {cls.__bases__}; expected StructuredMatrix alone "
                "(concrete matrices are final)"
            )
        missing = [name for name in _HOOKS if name not in vars(cls)]
        if missing:
            raise InputError(
                f"{cls.__name__} lacks {', '.join(missing)}; expected a definition of each of "
                f"{', '.join(_HOOKS)}"
            )
        enter_class(kind, cls)
        cls.kind = kind
        # SciPy's __new__ takes anything, which would hide the constructor from help().
        _self, *parameters = inspect.signature(cls.__init__).parameters.values()
        cls.__signature__ = inspect.Signature(parameters)

    def __init__(
        self,
        shape: tuple[int, int],
        arrays: Mapping[str, Array],
        children: tuple["StructuredMatrix", ...] = (),
        *,
        neutral: bool = False,
    ) -> None:
        # SciPy 1.18 keeps private state that only its own constructor sets.
        LinearOperator.__init__(self, None, shape)
        self.children = children
        members = [*arrays.values(), *(array for child in children for array in child._leaves())]
        self.xp: ModuleType = _array.namespace(*members)
        self.device = _array.common_device(*members)
        self._memory: dict[str, Any] | None = {}
        self._structure: dict[Any, Any] = {}
        dtypes = [a.dtype for a in arrays.values()]
        dtypes += [child.dtype for child in children if not child.neutral]
        self.neutral = neutral or not dtypes
        double = _array.floating_dtype("float64", self.xp)
        self.dtype = double if self.neutral else self.xp.result_type(*dtypes)
        for name, array in arrays.items():
            alike = neutral or array.dtype == self.dtype
            array = array if alike else self.xp.astype(array, self.dtype)
            setattr(self, name, _array.read_only(array))

    # What a concrete class says.

    @property
    @abstractmethod
    def cost(self) -> int:
        """Multiplications of one matvec."""

    @abstractmethod
    def _multiply(self, x: Array) -> Array:
        """A @ x for x of shape (n, k), in the dtype of the result."""

    @abstractmethod
    def _multiply_adjoint(self, y: Array) -> Array:
        """A^H @ y for y of shape (m, k), in the dtype of the result."""

    @abstractmethod
    def _dense(self) -> Array:
        """The matrix as an array of shape (m, n)."""

    @abstractmethod
    def _adjoint(self) -> "StructuredMatrix":
        """A^H, structured where that is exact."""

    # How a matrix is taken apart and put together again.

    def _static(self) -> dict[str, Any]:
        """Everything but arrays and children: integers, tuples, host index arrays."""
        return {name: getattr(self, name) for name in self.static_names}

    @classmethod
    def _build(
        cls,
        arrays: Mapping[str, Array],
        children: tuple["StructuredMatrix", ...],
        static: Mapping[str, Any],
    ) -> Self:
        """Inverse of taking a matrix apart; defined anew where the constructor differs."""
        construct: Callable[..., Self] = cls
        return construct(*children, **arrays, **static)

    # Sizes.

    @property
    def storage(self) -> int:
        """Stored scalars, padding included; index arrays are not counted."""
        own = sum(math.prod(getattr(self, name).shape) for name in self.data_names)
        return own + sum(child.storage for child in self.children)

    @property
    def relative_cost(self) -> float:
        """`cost` as a fraction of m n, the cost of the dense matrix; 0 where m n = 0."""
        return self.cost / max(math.prod(self.shape), 1)

    @property
    def relative_storage(self) -> float:
        """`storage` as a fraction of m n; 0 where m n = 0."""
        return self.storage / max(math.prod(self.shape), 1)

    def __repr__(self) -> str:
        m, n = self.shape
        return (
            f"<{m}x{n} {type(self).__name__}, {self.dtype}, {_array.backend_name(self.xp)}: "
            f"cost {self.relative_cost:.4g}, storage {self.relative_storage:.4g} of dense>"
        )

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

    def _wider(self, dtype: DType) -> "StructuredMatrix":
        # Kept: a solver in double precision asks for it at every step.
        return self._kept(f"as {dtype}", lambda: self.astype(dtype))

    def _kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, remembered unless gradients flow through the contents."""
        if self._memory is None or self._records_gradients():
            return make()
        if name not in self._memory:
            with _array.backend_of(self.xp).caching():
                self._memory[name] = make()
        return self._memory[name]

    def _records_gradients(self) -> bool:
        if (records := self._gradient_test) is None:
            return False
        return any(records(array) for array in self._leaves())

    @cached_property
    def _gradient_test(self) -> Callable[[Array], bool] | None:
        return _array.backend_of(self.xp).records_gradients

    def _structural(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns from structure alone: remembered, gradients or not.

        It holds for other contents as well, see `_with_contents`.
        """
        key = name, self.device
        if key not in self._structure:
            with _array.backend_of(self.xp).caching():
                self._structure[key] = make()
        return self._structure[key]

    def _size(self) -> str:
        return f"{self.shape[0]}x{self.shape[1]}"

    def dot(self, x: Any) -> Any:
        """A @ x: a vector (n,), a matrix (…, n, k), an operator, or a scalar factor."""
        if not is_plain(x):
            if isinstance(x, LinearOperator):
                return self._pair("matmul", x)
            if is_scalar(x):
                return self._scale(x)
            x = as_operand(x, self.xp)
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)

    def rdot(self, x: Any) -> Any:
        """X @ A: a vector (m,), a matrix (…, k, m), an operator, or a scalar factor."""
        if isinstance(x, LinearOperator):
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
        return self.dot(x)

    def __rmul__(self, x: Any) -> Any:
        return self.rdot(x)

    def __matmul__(self, x: Any) -> Any:
        if not is_plain(x):
            _refuse_scalar(x)
        return self.dot(x)

    def __rmatmul__(self, x: Any) -> Any:
        _refuse_scalar(x)
        return self.rdot(x)

    # Algebra.

    def adjoint(self) -> "StructuredMatrix":
        """A^H, the conjugate transpose, shape (n, m)."""
        return self._kept("adjoint", self._adjoint)

    def transpose(self) -> "StructuredMatrix":
        """A^T, shape (n, m)."""
        return self.adjoint().conj()

    H = property(adjoint)
    T = property(transpose)

    def _transpose(self) -> "StructuredMatrix":
        return self.transpose()

    def conj(self) -> "StructuredMatrix":
        """Complex conjugate; the matrix itself where it is real."""
        if not self.xp.isdtype(self.dtype, "complex floating"):
            return self
        return self._map(lambda array: _array.conj(array, self.xp))

    def __add__(self, other: Any) -> Any:
        if issparse(other):
            other = aslinearoperator(other)
        if isinstance(other, LinearOperator):
            return self._pair("add", other)
        if hasattr(other, "__array_namespace__") or hasattr(other, "__array__"):
            raise InputError(
                f"{self._size()} {type(self).__name__} plus an array; expected a matrix: for a "
                "dense result A + structmat.Dense(X), for c times the identity "
                "A + c * structmat.Permutation(numpy.arange(n))"
            )
        return NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    def __neg__(self) -> "StructuredMatrix":
        return self._scale(-1)

    def __truediv__(self, scalar: Any) -> "StructuredMatrix":
        if not is_scalar(scalar):
            raise InputError(f"division by {scalar!r}; expected a number")
        if scalar == 0:
            raise InputError("division by 0; expected a number other than zero")
        return self._scale(scalar, operator.truediv)

    def __pow__(self, power: Any) -> "StructuredMatrix":
        if not isinstance(power, numbers.Integral) or power < 1 or self.shape[0] != self.shape[1]:
            raise InputError(
                f"{self._size()} matrix to the power {power!r}; expected a square matrix and a "
                "whole power of at least 1"
            )
        result: StructuredMatrix = self
        for _ in range(int(power) - 1):
            result = result @ self
        return result

    def _pair(self, operation: str, other: LinearOperator) -> Any:
        """A + B or A @ B by the rule for the two kinds, or lazily."""
        fits = self.shape == other.shape if operation == "add" else self.shape[1] == other.shape[0]
        if not fits:
            sign, wanted = ("+", "equal shapes") if operation == "add" else ("@", "inner sizes")
            raise ShapeError(
                f"{self._size()} {sign} {other.shape[0]}x{other.shape[1]}; expected {wanted} to "
                "agree (is one of them to be transposed?)"
            )
        if not isinstance(other, StructuredMatrix):
            return (
                LinearOperator.__add__(self, other)
                if operation == "add"
                else LinearOperator.dot(self, other)
            )
        if other.xp is not self.xp or other.device != self.device:
            raise BackendError(
                f"{self!r} meets {other!r} on {other.device}; expected one library and device "
                "(move one of them with .to(…))"
            )
        for apply in find_rules(operation, self.kind, other.kind):
            result = apply(self, other)
            if result is not NotImplemented:
                return result
        return kind_class(_LAZY[operation])(self, other)

    def _scale(
        self, scalar: Any, apply: Callable[[Any, Any], Any] = operator.mul
    ) -> "StructuredMatrix":
        """The matrix times, or divided by, a scalar; plain numbers keep the precision."""
        xp = self.xp
        records = self._gradient_test
        if hasattr(scalar, "item") and not (records and records(scalar)):
            scalar = scalar.item()
        if not self.scaled_names:
            return kind_class("scaled")(self, apply(1, scalar))
        arrays = {name: getattr(self, name) for name in self.data_names}
        for name in self.scaled_names:
            array = arrays[name]
            if isinstance(scalar, complex) and not _array.is_complex(array, xp):
                array = xp.astype(array, xp.result_type(array.dtype, xp.complex64))
            arrays[name] = apply(array, scalar)
        return type(self)._build(arrays, self.children, self._static())

    # Taking apart and putting together.

    def _leaves(self) -> list[Array]:
        own = [getattr(self, name) for name in self.data_names]
        return own + [array for child in self.children for array in child._leaves()]

    def _map(self, change: Callable[[Array], Array]) -> Self:
        """The same structure with every content array changed."""
        arrays = {name: change(getattr(self, name)) for name in self.data_names}
        children = tuple(child._map(change) for child in self.children)
        return type(self)._build(arrays, children, self._static())

    def _with_contents(
        self,
        arrays: Mapping[str, Array],
        children: tuple["StructuredMatrix", ...],
        *,
        dtype: DType,
        remember: bool,
    ) -> Self:
        """The same structure around other contents, at the cost of a few assignments.

        Unlike `_build` it checks nothing: arrays have the present shapes, and `dtype` if
        they are floating. What was computed from structure alone is shared; what is
        computed from the new contents is kept only where `remember` says so. Attributes
        that a constructor computes from contents would be those of the old ones: they
        belong in `_kept`.
        """
        matrix = object.__new__(type(self))
        for name, value in vars(self).items():
            if not isinstance(getattr(type(self), name, None), cached_property):
                setattr(matrix, name, value)
        for name, array in arrays.items():
            setattr(matrix, name, array)
        matrix.children, matrix._memory = children, {} if remember else None
        matrix.dtype = self.dtype if self.neutral else dtype
        for member in (*arrays.values(), *children):
            matrix.device = member.device
        return matrix

    def to_dense(self) -> Array:
        """The matrix as an array of shape (m, n)."""
        return self._dense()

    def _dense_by_products(self) -> Array:
        """The matrix from as few products with unit vectors as its shape allows."""
        (m, n), xp = self.shape, self.xp
        unit = xp.eye(min(m, n), dtype=self.dtype, device=self.device)
        if n <= m:
            return self._multiply(unit)
        return _array.adjoint(self._multiply_adjoint(unit), xp)

    def astype(self, dtype: DType) -> Self:
        """The same matrix with contents of another real or complex floating dtype."""
        xp = self.xp
        dtype = _array.floating_dtype(dtype, xp)
        if xp.isdtype(self.dtype, "complex floating") and xp.isdtype(dtype, "real floating"):
            raise InputError(
                f"{self.dtype} to {dtype} would lose the imaginary part; expected a complex dtype"
            )
        return self._map(lambda a: xp.astype(a, dtype) if _array.is_inexact(a.dtype, xp) else a)

    def to(self, target: Any) -> Self:
        """The same matrix in another array library or on another device.

        Parameters
        ----------
        target : str, namespace, or device
            A library by import name (``"numpy"``, ``"torch"``, ``"cupy"``,
            ``"array_api_strict"``) or by namespace, or a device of the present one
            (``"cuda:0"``).
        """
        if isinstance(target, str) and (target in _array.BACKENDS or target == "array_api_strict"):
            target = _array.namespace_named(target)
        if not isinstance(target, ModuleType):
            return self._map(lambda a: _array.moved(a, target))
        xp = _array.namespace_of_module(target)
        return self._map(lambda a: _array.from_numpy(_array.to_numpy(a), xp))

    def to_kind(self, kind: str) -> "StructuredMatrix":
        """The same matrix as another structure, exactly; see `structmat.convert`."""
        kind_class(kind)
        if self.kind == kind:
            return self
        for apply in find_rules("convert", self.kind, kind):
            return apply(self)
        raise ConversionError(
            f"a {self.kind} matrix is not a {kind} one in general, so no exact conversion is "
            f"defined; approximate it with structmat.compress(A, {kind!r}, budget=…)"
        )

    def to_cupyx(self) -> Any:
        """The matrix as a ``cupyx.scipy.sparse.linalg.LinearOperator`` for CuPy's solvers."""
        if _array.backend_name(self.xp) != "cupy":
            raise BackendError(
                f"the contents are on {_array.backend_name(self.xp)}; expected cupy "
                "(move them with A.to('cupy'))"
            )
        from cupyx.scipy.sparse.linalg import LinearOperator as CupyxOperator

        return CupyxOperator(
            self.shape,
            matvec=self.matvec,
            rmatvec=self.rmatvec,
            matmat=self.matmat,
            rmatmat=self.rmatmat,
            dtype=self.dtype,
        )

    def copy(self) -> Self:
        """A copy with contents of its own."""
        return self._map(lambda array: self.xp.asarray(array, copy=True))

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = {name: getattr(self, name) for name in self.data_names}
        # By class, not by kind: unpickling then imports the module that defines it.
        return type(self)._build, (arrays, self.children, self._static())


def rebuild(
    kind: str,
    arrays: Mapping[str, Array],
    children: tuple[StructuredMatrix, ...],
    static: Mapping[str, Any],
) -> StructuredMatrix:
    """A matrix from what it was taken apart into; the inverse used by pickle and files."""
    return kind_class(kind)._build(arrays, children, static)


def _refuse_scalar(x: Any) -> None:
    if is_scalar(x):
        raise InputError(f"@ with the scalar {x!r}; expected an array or operator (use * instead)")
