"""Batches: matrices of one shape as one operator with an axis in front."""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from structmat import _array
from structmat._array import Array
from structmat._html import blocks_svg
from structmat._markup import amount, card
from structmat.algebra.arguments import as_matrix
from structmat.algebra.blocks import block_diag, concatenate
from structmat.contract.operand import as_operand, is_scalar
from structmat.errors import BackendError, InputError, ShapeError
from structmat.matrix import StructuredMatrix

#: Pictures that a notebook shows of a batch, at most.
_MOST_PICTURES = 6


def stack(matrices: Sequence[Any]) -> "MatrixStack":
    """A batch of matrices of one shape as one operator of shape (b, m, n).

    Parameters
    ----------
    matrices : sequence of StructuredMatrix, array, sparse matrix, or operator, shapes (m, n)
        One or more, of one library.

    Returns
    -------
    MatrixStack

    Raises
    ------
    ShapeError
        If they differ in shape.
    InputError
        If there is no matrix, or an argument is none.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> S = stack([A, 2 * A])
    >>> S.shape, S.cost == 2 * A.cost
    ((2, 3, 2), True)
    >>> S @ np.array([[[1.0], [2.0]], [[3.0], [4.0]]])
    array([[[ 3.],
            [ 3.],
            [ 3.]],
    <BLANKLINE>
           [[14.],
            [14.],
            [14.]]])
    """
    return MatrixStack([as_matrix(M, f"matrix {i}") for i, M in enumerate(matrices)])


class MatrixStack:
    """Matrices of one shape, multiplied at once; `stack` makes one.

    Batch axes are those of SciPy 1.18's operators of more than two dimensions: the axis of the
    stack, the last one in front of ``(m, n)``, meets that of the operand as NumPy broadcasts, so
    each matrix multiplies its own part, or all multiply the same. A product is one product by
    `block_diag` of the matrices, or, for an operand that all share, by `concatenate`.

    Attributes
    ----------
    shape : tuple of int
        ``(b, m, n)``.
    dtype : dtype
        That of products, wide enough for all matrices.
    matrices : tuple of StructuredMatrix

    Examples
    --------
    >>> import numpy as np, structmat
    >>> S = structmat.stack([structmat.Diagonal([1.0, 2.0]), structmat.Identity(2)])
    >>> S.matvec(np.array([1.0, 10.0])), S[0].kind
    (array([[ 1., 20.],
           [ 1., 10.]]), 'diagonal')
    """

    ndim = 3
    __array_ufunc__ = None
    __array_priority__ = 200.0

    def __init__(self, matrices: Sequence[StructuredMatrix]) -> None:
        self.matrices = tuple(matrices)
        if not self.matrices:
            raise InputError("a stack of no matrices; expected one at least")
        first = self.matrices[0]
        for i, M in enumerate(self.matrices):
            if M.shape != first.shape:
                raise ShapeError(
                    f"matrix {i} has shape {M.shape} and matrix 0 {first.shape}; expected one shape"
                )
            if M.xp is not first.xp or M.device != first.device:
                raise BackendError(
                    f"matrix {i}, {M!r}, is on {M.device} and matrix 0, {first!r}, on "
                    f"{first.device}; expected one library and device (move one with .to(…))"
                )
        self.shape: tuple[int, int, int] = (len(self.matrices), *first.shape)
        self.xp, self.device = first.xp, first.device
        own = [M.dtype for M in self.matrices if not M.neutral] or [first.dtype]
        self.dtype = self.xp.result_type(*own)
        #: Matrices of the whole stack, each with the versions of the contents that it has.
        self._joined: dict[str, tuple[Any, StructuredMatrix]] = {}

    @property
    def cost(self) -> int:
        """Multiplications of a product with one vector for each matrix."""
        return sum(M.cost for M in self.matrices)

    @property
    def storage(self) -> int:
        """Stored scalars of all matrices."""
        return sum(M.storage for M in self.matrices)

    def __repr__(self) -> str:
        kinds = ", ".join(dict.fromkeys(M.kind for M in self.matrices))
        return f"<MatrixStack of shape {self.shape}, {self.dtype}: {kinds}, cost {self.cost}>"

    def _repr_html_(self) -> str:
        dense = math.prod(self.shape)
        facts = {
            "shape": " x ".join(map(str, self.shape)),
            "kinds": ", ".join(dict.fromkeys(M.kind for M in self.matrices)),
            "dtype": str(self.dtype),
            "cost": amount(self.cost, dense),
            "storage": amount(self.storage, dense),
        }
        return card("MatrixStack", facts, map(blocks_svg, self.matrices[:_MOST_PICTURES]))

    # Products.

    def matvec(self, x: Array) -> Array:
        """A @ x for vectors (…, n), whose batch axes meet (b,): (…, b, m)."""
        x = self._operand(x, 1, adjoint=False)
        return self._multiplied(x[..., None], adjoint=False)[..., 0]

    def rmatvec(self, x: Array) -> Array:
        """A^H @ x for vectors (…, m), whose batch axes meet (b,): (…, b, n)."""
        x = self._operand(x, 1, adjoint=True)
        return self._multiplied(x[..., None], adjoint=True)[..., 0]

    def matmat(self, X: Array) -> Array:
        """A @ X for matrices (…, n, k), whose batch axes meet (b,): (…, b, m, k)."""
        return self._multiplied(self._operand(X, 2, adjoint=False), adjoint=False)

    def rmatmat(self, X: Array) -> Array:
        """A^H @ X for matrices (…, m, k), whose batch axes meet (b,): (…, b, n, k)."""
        return self._multiplied(self._operand(X, 2, adjoint=True), adjoint=True)

    def _operand(self, x: Any, core: int, *, adjoint: bool) -> Array:
        """An operand of the library whose axes fit."""
        x, size = as_operand(x, self.xp), self.shape[1 if adjoint else 2]
        what = f"(…, {size})" if core == 1 else f"(…, {size}, k)"
        if x.ndim < core or x.shape[x.ndim - core] != size:
            raise ShapeError(
                f"an operand of shape {tuple(x.shape)} meets a stack of shape {self.shape}; "
                f"expected {what}"
            )
        if x.ndim > core and x.shape[-core - 1] not in (1, self.shape[0]):
            raise ShapeError(
                f"an operand of shape {tuple(x.shape)} meets a stack of {self.shape[0]} matrices; "
                f"expected {self.shape[0]} or 1 before its last {core} axes"
            )
        return x

    def _multiplied(self, x: Array, *, adjoint: bool) -> Array:
        """The product with matrices (…, n, k) by one matrix for the whole stack."""
        xp, b = self.xp, self.shape[0]
        size, k = x.shape[-2:]
        m = self.shape[2 if adjoint else 1]
        shared = x.ndim == 2 or (x.shape[-3] == 1 and b > 1)
        batch = tuple(x.shape[:-3])
        name = ("shared adjoint" if adjoint else "shared") if shared else "apart"
        whole = self._matrix(name)
        # The axes of the batch go to the columns.
        x = xp.reshape(x, (math.prod(batch), 1 if shared else b, size, k))
        x = xp.permute_dims(x, (1, 2, 0, 3))
        x = xp.reshape(x, (x.shape[0] * size, x.shape[2] * k))
        y = whole.rmatmat(x) if adjoint and not shared else whole.matmat(x)
        y = xp.reshape(y, (b, m, math.prod(batch), k))
        return xp.reshape(xp.permute_dims(y, (2, 0, 1, 3)), (*batch, b, m, k))

    def _matrix(self, name: str) -> StructuredMatrix:
        """The matrix of the whole stack for a product.

        It is kept unless gradients flow through contents, or contents changed in place.
        """
        backend = self.matrices[0]._backend
        leaves = [array for M in self.matrices for array in M._leaves()]
        if backend.records_gradients is not None and any(map(backend.records_gradients, leaves)):
            return _JOINED[name](self.matrices)
        versions = None if backend.version is None else list(map(backend.version, leaves))
        if name not in self._joined or self._joined[name][0] != versions:
            self._joined[name] = versions, _JOINED[name](self.matrices)
        return self._joined[name][1]

    def __matmul__(self, x: Any) -> Any:
        if isinstance(x, MatrixStack | StructuredMatrix):
            return self._each(x, operator.matmul)
        if is_scalar(x):
            raise InputError(f"@ with the scalar {x!r}; expected an array (use * instead)")
        x = as_operand(x, self.xp)
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)

    def __rmatmul__(self, x: Any) -> Any:
        if isinstance(x, StructuredMatrix):
            return MatrixStack([x @ M for M in self.matrices])
        xp = self.xp
        x = _array.conj(as_operand(x, xp), xp)
        if x.ndim == 1:
            return _array.conj(self.rmatvec(x), xp)
        return _array.adjoint(self.rmatmat(xp.matrix_transpose(x)), xp)

    # Algebra, matrix by matrix.

    def _each(self, other: Any, apply: Callable[[Any, Any], Any]) -> "MatrixStack":
        many = other.matrices if isinstance(other, MatrixStack) else [other] * self.shape[0]
        if len(many) != self.shape[0]:
            raise ShapeError(
                f"stacks of {self.shape[0]} and {len(many)} matrices; expected one number"
            )
        return MatrixStack([apply(a, b) for a, b in zip(self.matrices, many, strict=True)])

    def __add__(self, other: Any) -> Any:
        known = isinstance(other, MatrixStack | StructuredMatrix)
        return self._each(other, operator.add) if known else NotImplemented

    __radd__ = __add__

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __sub__(self, other: Any) -> Any:
        known = isinstance(other, MatrixStack | StructuredMatrix)
        return self._each(other, operator.sub) if known else NotImplemented

    def __mul__(self, scalar: Any) -> Any:
        return self._each(scalar, operator.mul) if is_scalar(scalar) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Any:
        return self._each(scalar, operator.truediv) if is_scalar(scalar) else NotImplemented

    def __neg__(self) -> "MatrixStack":
        return MatrixStack([-M for M in self.matrices])

    @property
    def H(self) -> "MatrixStack":
        """The conjugate transposes, shape (b, n, m)."""
        return MatrixStack([M.H for M in self.matrices])

    @property
    def T(self) -> "MatrixStack":
        """The transposes, shape (b, n, m)."""
        return MatrixStack([M.T for M in self.matrices])

    def conj(self) -> "MatrixStack":
        """Complex conjugates."""
        return MatrixStack([M.conj() for M in self.matrices])

    # Contents.

    def to_dense(self) -> Array:
        """The matrices as an array of shape (b, m, n)."""
        xp = self.xp
        return xp.stack([xp.astype(M.to_dense(), self.dtype) for M in self.matrices])

    def toarray(self) -> np.ndarray:
        """The matrices as a NumPy array of shape (b, m, n)."""
        return _array.to_numpy(self.to_dense())

    def to(self, target: Any) -> "MatrixStack":
        """The same stack in another array library or on another device."""
        return MatrixStack([M.to(target) for M in self.matrices])

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[StructuredMatrix]:
        return iter(self.matrices)

    def __getitem__(self, key: Any) -> Any:
        """Matrix i, a stack of some, or ``S[i, rows, columns]``: entries or parts of these."""
        at, *inside = key if isinstance(key, tuple) else (key,)
        try:
            places = np.arange(self.shape[0])[at]
        except (IndexError, TypeError):
            raise InputError(
                f"matrix {at!r} of a stack; expected 0 to {self.shape[0] - 1}, a slice, or integers"
            ) from None
        within = (lambda M: M[inside[0] if len(inside) == 1 else tuple(inside)]) if inside else None
        if not np.ndim(places):
            return self.matrices[places] if within is None else within(self.matrices[places])
        chosen = [self.matrices[i] if within is None else within(self.matrices[i]) for i in places]
        if chosen and not isinstance(chosen[0], StructuredMatrix):
            return self.xp.stack(chosen)
        return MatrixStack(chosen)

    def __reduce__(self) -> tuple[Any, ...]:
        return MatrixStack, (self.matrices,)


_JOINED: dict[str, Callable[[Sequence[StructuredMatrix]], StructuredMatrix]] = {
    "apart": lambda matrices: block_diag(*matrices),
    "shared": lambda matrices: concatenate(matrices, axis=0),
    "shared adjoint": lambda matrices: concatenate([M.H for M in matrices], axis=0),
}
