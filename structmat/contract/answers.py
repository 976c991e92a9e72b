"""Functions of NumPy and operators of torch that structure answers.

Parameters have NumPy's names, by which a call may give them. A function returns NotImplemented for
arguments that it does not know, which then get the dense form.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import issparse

from structmat import _array
from structmat.contract.matrix_like import MatrixLike
from structmat.contract.operand import as_operand, is_scalar
from structmat.errors import OperationError
from structmat.kinds import later


def _times(a: Any, b: Any) -> Any:
    return a.dot(b) if isinstance(a, MatrixLike) else b.rdot(a)


def _dot(a: Any, b: Any, out: Any = None) -> Any:
    """np.dot, which puts the axes of a batch on its right in another order than np.matmul."""
    batch = not (isinstance(b, MatrixLike) or issparse(b)) and np.ndim(b) > 2
    return NotImplemented if batch or out is not None else _times(a, b)


def matmul(a: Any, b: Any) -> Any:
    """np.matmul of two operands that are no scalars."""
    return NotImplemented if is_scalar(a) or is_scalar(b) else _times(a, b)


def _operator(left: str, right: str) -> Callable[[Any, Any], Any]:
    """The operator of the matrix among two operands, as Python's arrays leave it to."""

    def combined(a: Any, b: Any) -> Any:
        return getattr(a, left)(b) if isinstance(a, MatrixLike) else getattr(b, right)(a)

    return combined


def _multiple(a: Any, b: Any) -> Any:
    """A multiple. NumPy does not tell ``X * A``, which could be a product, from np.multiply."""
    A, other = (a, b) if isinstance(a, MatrixLike) else (b, a)
    if is_scalar(other):
        return A.dot(other)
    if hasattr(other, "__dlpack__") and not isinstance(other, np.ndarray):
        as_operand(other, A.xp)  # a nested tensor, or one of another library, has its own remedy
    raise OperationError(
        f"* of an array of shape {np.shape(other)} and a {A._size()} {type(A).__name__}; expected "
        "X @ A for a product, or X * A.to_dense() for entries"
    )


#: What operators of NumPy's arrays call, so that a matrix answers them.
OPERATORS: dict[Any, Callable[..., Any]] = {
    np.matmul: matmul,
    np.add: _operator("__add__", "__radd__"),
    np.subtract: _operator("__sub__", "__rsub__"),
    np.multiply: _multiple,
    np.true_divide: _operator("__truediv__", "__rtruediv__"),
    np.negative: lambda A: -A,
    np.positive: lambda A: A,
    np.conjugate: lambda A: A.conj(),
}

#: What operators of torch's tensors call, with the tensor on the left.
TENSOR_METHODS: dict[str, Callable[[Any, Any], Any]] = {
    "matmul": lambda x, A: A.__rmatmul__(x),
    "add": lambda x, A: A.__radd__(x),
    "sub": lambda x, A: A.__rsub__(x),
    "mul": _multiple,
}
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def _plain_norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    known = ord in (None, "fro", 1, np.inf) and axis is None and keepdims is False
    return np.float64(x.norm(ord)) if known else NotImplemented


def _matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return _plain_norm(x, ord, None, keepdims)


def _plain(method: str) -> Callable[..., Any]:
    """Method of a matrix for calls without options."""

    def answer(a: Any, *more: Any, **options: Any) -> Any:
        known = isinstance(a, MatrixLike) and not more and not options
        return getattr(a, method)() if known else NotImplemented

    return answer


def _on_numpy(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The same answer as NumPy's array or number."""

    def converted(*args: Any, **options: Any) -> Any:
        result = answer(*args, **options)
        if result is NotImplemented or isinstance(result, MatrixLike):
            return result
        return np.asarray(_array.to_numpy(result))[()]

    return converted


def _joining(name: str, arrange: Callable[..., Any]) -> Callable[..., Any]:
    """Function of the algebra, for calls whose arguments are matrices all together.

    `arrange` takes the arguments of NumPy's function, and returns the matrices among them and
    the arguments of ours; a call that it does not take, or another argument, gets dense forms.
    """

    def answer(*args: Any, **options: Any) -> Any:
        try:
            matrices, own = arrange(*args, **options)
        except (TypeError, ValueError):  # options, or nested lists of other depths
            return NotImplemented
        first = next((M for M in matrices if isinstance(M, MatrixLike)), None)
        if first is None or not all(_joins(M, first) for M in matrices):
            return NotImplemented
        return later(f"structmat.algebra:{name}")(*own)

    return answer


def _joins(M: Any, A: Any) -> bool:
    """Tell whether an argument is a matrix that A meets as one."""
    if isinstance(M, MatrixLike):
        return M.xp is A.xp and getattr(M, "device", None) == A.device
    plain = isinstance(M, np.ndarray) and M.ndim == 2 and M.dtype.kind in "biufc"
    return _array.is_numpy(A.xp) and (plain or (issparse(M) and M.ndim == 2))


def _rows_of(arrays: Any) -> tuple[list[Any], tuple[Any]]:
    """Rows of blocks as np.block takes them; NumPy itself refuses lists of two depths."""
    rows = arrays if isinstance(arrays[0], list) else [arrays]
    if not (type(arrays) is list and all(type(row) is list for row in rows)):
        raise TypeError("no rows of blocks")
    return [M for row in rows for M in row], (rows,)


def _along(axis: int) -> Callable[..., Any]:
    return lambda tup: (list(tup), (list(tup), axis))


def _on_axis(arrays: Any, axis: Any = 0) -> tuple[list[Any], tuple[list[Any], Any]]:
    if axis not in (0, 1, -1, -2):
        raise TypeError("no axis of matrices")
    return list(arrays), (list(arrays), axis)


def _power(a: Any, n: Any) -> Any:
    return a**n if n >= 0 and a.shape[0] == a.shape[1] else NotImplemented


STRUCTURED: dict[Any, Callable[..., Any]] = {
    np.kron: _joining("kron", lambda a, b: ((a, b), (a, b))),
    np.block: _joining("block", _rows_of),
    np.concatenate: _joining("concatenate", _on_axis),
    np.vstack: _joining("concatenate", _along(0)),
    np.hstack: _joining("concatenate", _along(1)),
    np.linalg.matrix_power: _power,
    np.real: lambda val: val.real,
    np.imag: lambda val: val.imag,
    np.dot: _dot,
    np.transpose: _plain("transpose"),
    np.matrix_transpose: _plain("transpose"),
    np.linalg.matrix_transpose: _plain("transpose"),
    np.trace: _on_numpy(_plain("trace")),
    np.linalg.trace: _on_numpy(_plain("trace")),
    np.diagonal: _on_numpy(_plain("diagonal")),
    np.linalg.diagonal: _on_numpy(_plain("diagonal")),
    np.linalg.norm: _plain_norm,
    np.linalg.matrix_norm: _matrix_norm,
}
