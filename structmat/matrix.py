"""Contract of a structured matrix, checked once, in one place.

A matrix is a few named arrays, perhaps child matrices, and static attributes. A
concrete class is final and defines its cost, its two products, its dense form and its
adjoint. Everything else is written once for all classes, here and in the room `contract`.
`binding` is the second contract, for modules that hold the contents of a matrix.
"""

import inspect
import math
from abc import abstractmethod
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from scipy.sparse.linalg import LinearOperator

from structmat import _array
from structmat._array import Array
from structmat.contract.remembered import Remembered
from structmat.errors import ConversionError, InputError
from structmat.kinds import enter_class, find_rules, kind_class, later

_HOOKS = ("cost", "_multiply", "_multiply_adjoint", "_dense", "_adjoint")


class StructuredMatrix(Remembered):
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
        Dtype of the contents in their library.
    xp : namespace
        Array API namespace of the contents.
    device : device
        Device of the contents.
    kind : str
        Name of the structure, as `convert` and `compress` take it.
    data_names : tuple of str
        Names of the content arrays, which are attributes as well.
    static_names : tuple of str
        Names of the attributes that say how the contents are laid out. The constructor
        takes the children, then arrays and static attributes by name.
    children : tuple of StructuredMatrix
        Operands of a lazy combination; empty for the structures themselves.
    hermitian : bool
        True where the construction guarantees that A equals A^H, to rounding.

    Notes
    -----
    Contents are not copied, and should not change after construction: products may use old
    values in part, once an array that shares memory with NumPy contents is written to (give the
    constructor a copy of such an array). Changes in place that torch counts are followed.
    Unless gradients flow through them, products
    keep the results that they compute from the contents once: about as much memory again for
    each kernel that was used, and a copy in the wider precision if operands ask for one.
    NumPy contents are read-only views.

    A NaN or an infinity in an operand reaches every entry that stored scalars connect it to,
    and may reach entries beside them, because padding multiplies it by zero.

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

    def __init_subclass__(cls, kind: str | None, **options: Any) -> None:
        """Enter a concrete class as that of its kind; a class of kind None is abstract."""
        super().__init_subclass__(**options)
        if len(cls.__bases__) != 1 or "kind" in dir(cls):
            raise InputError(
                f"{cls.__name__} derives from {cls.__bases__}; expected StructuredMatrix alone "
                "(concrete matrices are final)"
            )
        if kind is None:
            return
        missing = [
            n
            for n in _HOOKS
            if getattr(inspect.getattr_static(cls, n), "__isabstractmethod__", False)
        ]
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
        members = [*arrays.values(), *(array for child in children for array in child._leaves())]
        dtypes = [a.dtype for a in arrays.values()]
        dtypes += [child.dtype for child in children if not child.neutral]
        self.children, self.neutral = children, neutral or not dtypes
        self._memory, self._structure = {}, {}
        self.xp: ModuleType = _array.namespace(*members)
        self._backend = _array.backend_of(self.xp)
        self.device = _array.common_device(*members)
        double = _array.floating_dtype("float64", self.xp)
        self.dtype = double if self.neutral else self.xp.result_type(*dtypes)
        for name, array in arrays.items():
            if not (neutral or array.dtype == self.dtype):
                with _array.computing_on(self.xp, self.device):
                    array = self.xp.astype(array, self.dtype)
            setattr(self, name, _array.read_only(array))

    # Hooks of a concrete class.

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
        """A^H, structured if that is exact."""

    # Sizes.

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
            f"<{m}x{n} {type(self).__name__}, {self.dtype}, {self._backend.name}: "
            f"cost {self.relative_cost:.4g}, storage {self.relative_storage:.4g} of dense>"
        )

    def _repr_html_(self) -> str:
        return str(later("structmat._html:matrix_html")(self))

    # Algebra.

    @property
    def hermitian(self) -> bool:
        """True where the construction guarantees that A equals A^H, to rounding.

        A class says so by a method `_hermitian`. False is no proof of the opposite: entries are
        never compared.

        Examples
        --------
        >>> import structmat
        >>> A = structmat.LowRank([[1.0], [2.0]], [[1.0], [0.0]])
        >>> D = structmat.Diagonal([1.0, 2.0])
        >>> A.hermitian, D.hermitian, (A.H @ D @ A).hermitian, D.H is D
        (False, True, False, True)
        """
        special = getattr(self, "_hermitian", None)
        if special is None or self.shape[0] != self.shape[1]:
            return False
        return bool(self._kept("hermitian", special))

    def adjoint(self) -> "StructuredMatrix":
        """A^H, the conjugate transpose, shape (n, m); the matrix itself where it is Hermitian."""
        return self if self.hermitian else self._kept("adjoint", self._adjoint)

    def transpose(self) -> "StructuredMatrix":
        """A^T, shape (n, m)."""
        return self.adjoint().conj()

    H = property(adjoint)
    T = property(transpose)

    def _transpose(self) -> "StructuredMatrix":
        return self.transpose()

    @_array.on_own_device
    def conj(self) -> "StructuredMatrix":
        """Complex conjugate; the matrix itself if it is real."""
        if not self.xp.isdtype(self.dtype, "complex floating"):
            return self
        special = getattr(self, "_conjugate", None)
        if special is not None:
            found: StructuredMatrix = special()
            return found
        arrays = {name: _array.conj(getattr(self, name), self.xp) for name in self.data_names}
        children = tuple(child.conj() for child in self.children)
        return type(self)._build(arrays, children, self._static())

    @property
    def real(self) -> "StructuredMatrix":
        """Real part; the matrix itself if it is real.

        Low-rank, block-low-rank, GBLR and hierarchical matrices get twice the rank, in real
        numbers. Sums, Kronecker products and products of two complex factors become sums of real
        ones. Of operators and sources it is the lazy mean of the matrix and its conjugate, whose
        dtype is complex.

        Examples
        --------
        >>> import structmat
        >>> A = structmat.LowRank([[1 + 1j], [2]], [[1], [1j]])
        >>> A.real.rank, A.real.to_dense()
        (2, array([[1., 1.],
               [2., 0.]]))
        """
        return self._complex_parts()[0]

    @property
    def imag(self) -> "StructuredMatrix":
        """Imaginary part, as `real` gives it; of rank 0 if the matrix is real."""
        return self._complex_parts()[1]

    @_array.on_own_device
    def _complex_parts(self) -> tuple["StructuredMatrix", "StructuredMatrix"]:
        parts: tuple[StructuredMatrix, StructuredMatrix]
        parts = later("structmat.matrices.complex_parts:complex_parts")(self)
        return parts

    # Other forms.

    @_array.on_own_device
    def to_dense(self) -> Array:
        """The matrix as an array of shape (m, n)."""
        return self._dense()

    def _dense_by_products(self) -> Array:
        """The matrix from as few products with unit vectors as its shape allows."""
        (m, n), xp = self.shape, self.xp
        unit = _array.identity(min(m, n), self.dtype, xp, self.device)
        if n <= m:
            return self._multiply(unit)
        return _array.adjoint(self._multiply_adjoint(unit), xp)

    @_array.on_own_device
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


def rebuild(
    kind: str,
    arrays: Mapping[str, Array],
    children: tuple[StructuredMatrix, ...],
    static: Mapping[str, Any],
) -> StructuredMatrix:
    """A matrix from its parts, as pickle and files keep them."""
    return kind_class(kind)._build(arrays, children, static)
