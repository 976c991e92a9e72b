"""Binding: the contract between a matrix and a module that holds its contents as parameters.

It is the second contract of `StructuredMatrix`, beside the one for its users. A module takes
the content arrays of a matrix, trains and moves them by itself, and asks for matrices of the
same structure around their present values. `structmat.nn` uses these functions and no private
member of a matrix.

leaves            content arrays, in one order
bind              the same structure around other contents, unchecked
construct         the same structure around other contents, by its constructor
multiply          products with columns, unchecked
direct            the compiled kernel of such products
remembers, kept   results computed from contents once
structural        results that follow from structure alone; `forget` drops one
factors           the sparse factors that a matrix is made of
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

from structmat._array import Array, DType
from structmat.kernels.bound import DirectKernel
from structmat.kernels.layouts.factors import FactorStructure
from structmat.matrix import StructuredMatrix

M = TypeVar("M", bound=StructuredMatrix)


def leaves(matrix: StructuredMatrix) -> list[Array]:
    """Content arrays of a matrix in the order of `data_names`, then those of its children.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> [array.shape for array in leaves(A)]
    [(3, 1), (2, 1)]
    """
    return matrix._leaves()


def bind(matrix: M, contents: Sequence[Array], *, dtype: DType | None = None, remember: bool) -> M:
    """The same structure around other contents, at the cost of a few assignments.

    Nothing is checked. The results that follow from structure alone are shared with
    `matrix`. Attributes that a constructor computes from contents would be those of the
    old contents: a matrix computes them in products, with ``self._kept``.

    Parameters
    ----------
    contents : sequence of arrays
        In the order of `leaves`, of the same shapes, on one device.
    dtype : dtype, optional
        Of all floating contents; by default those of `matrix`.
    remember : bool
        Whether results that are computed from the contents are kept for later products.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> bind(A, [2 * array for array in leaves(A)], remember=False).to_dense()[0]
    array([4., 4.])
    """
    return _bound(matrix, iter(contents), dtype, remember)


def _bound(matrix: M, contents: Iterator[Array], dtype: DType | None, remember: bool) -> M:
    arrays = {name: next(contents) for name in matrix.data_names}
    children = tuple(_bound(child, contents, dtype, remember) for child in matrix.children)
    bound = object.__new__(type(matrix))
    for name, value in vars(matrix).items():
        if not isinstance(getattr(type(matrix), name, None), cached_property):
            setattr(bound, name, value)
    for name, array in arrays.items():
        setattr(bound, name, array)
    bound._weighed_by_layer = True
    bound.children, bound._memory = children, {} if remember else None
    bound.dtype = matrix.dtype if matrix.neutral or dtype is None else dtype
    for member in (*arrays.values(), *children):
        bound.device = member.device
    return bound


def construct(matrix: M, contents: Sequence[Array]) -> M:
    """The same structure around other contents, checked, as its constructor makes it.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> construct(A, [array.astype(np.float32) for array in leaves(A)]).dtype
    dtype('float32')
    """
    rest = iter(contents)
    return matrix._map(lambda _: next(rest))


def multiply(matrix: StructuredMatrix, x: Array, *, adjoint: bool = False) -> Array:
    """A @ x or A^H @ x for columns x of shape (·, k) in the dtype of A, unchecked.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> multiply(structmat.Dense(np.ones((2, 3))), np.ones((2, 1)), adjoint=True).shape
    (3, 1)
    """
    return matrix._multiply_adjoint(x) if adjoint else matrix._multiply(x)


def direct(matrix: StructuredMatrix, columns: int) -> DirectKernel | None:
    """The compiled kernel on NumPy by which a matrix on torch multiplies a number of columns.

    For a matrix that remembers, as long as its contents stay, and for operands on the CPU that
    need no gradient. None for products by other operations.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> direct(structmat.Dense(np.eye(2)), 1) is None
    True
    """
    source: Any = getattr(matrix, "_ordered", None) or getattr(matrix, "_factored", None)
    return None if source is None else cast(DirectKernel | None, source.direct(columns))


def remembers(matrix: StructuredMatrix) -> bool:
    """Tell whether results that are computed from the contents are kept; see `bind`."""
    return matrix._memory is not None


def kept(matrix: StructuredMatrix, name: str, make: Callable[[], Any]) -> Any:
    """The result of `make`, kept under a name if `matrix` remembers.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.Dense(np.eye(2))
    >>> kept(A, "dense", A.to_dense) is kept(A, "dense", A.to_dense)
    True
    """
    # A result that is there already needs no further look at gradients.
    if matrix._memory and name in matrix._memory:
        return matrix._memory[name]
    return matrix._kept(name, make)


def structural(matrix: StructuredMatrix, name: str, make: Callable[[], Any]) -> Any:
    """The result of `make`, which follows from structure alone, kept for all that share it.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.Dense(np.eye(2))
    >>> structural(A, "side", lambda: 2), structural(A, "side", lambda: 3)
    (2, 2)
    """
    return matrix._structural(name, make)


def forget(matrix: StructuredMatrix, name: str) -> None:
    """Drop what `structural` keeps by a name; it is made again where it is asked for.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.Dense(np.eye(2))
    >>> before = structural(A, "side", lambda: 2)
    >>> forget(A, "side")
    >>> before, structural(A, "side", lambda: 3)
    (2, 3)
    """
    matrix._forget(name)


def factors(matrix: StructuredMatrix) -> FactorStructure | None:
    """The sparse factors of a GBLR, block-sparse or block-low-rank matrix; None for others.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.BlockSparse(np.ones((1, 2, 2)), [1], [0], shape=(4, 4))
    >>> factors(A).shape, factors(structmat.Dense(np.eye(2)))
    ((4, 4), None)
    """
    factored = getattr(matrix, "_factored", None)
    return None if factored is None else factored.structure
