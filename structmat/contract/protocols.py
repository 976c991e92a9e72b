"""Protocols of Python, NumPy and torch by which foreign functions meet a matrix.

A function of NumPy, SciPy or torch that knows no structure gets the dense form, so that its
result is right. Functions with a structured answer get that. Functions that would write into
the dense form, and operators that act on entries, are refused with the remedy.
"""

import inspect
import math
import operator
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from structmat import _array
from structmat._array import Array
from structmat.contract.operand import as_operand, is_scalar
from structmat.errors import InputError, OperationError
from structmat.kinds import later

#: Foreign functions get no dense form with more entries: 512 MiB in double precision.
DENSE_ENTRIES = 2**26

#: Functions of NumPy that write into their first argument.
_WRITERS = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis}
#: Functions of NumPy that ask for the shape and the dtype alone.
_ABOUT = {
    np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.min_scalar_type, np.iscomplexobj,
    np.isrealobj, np.zeros_like, np.ones_like, np.empty_like, np.full_like,
}  # fmt: skip


def _refusal(what: str, remedy: str) -> Callable[..., NoReturn]:
    """Method that refuses an operation and says what to do."""

    def refuse(self: Any, *others: Any) -> NoReturn:
        raise OperationError(f"{what} a {self._size()} {type(self).__name__}; {remedy}")

    return refuse


def _entrywise(what: str) -> Callable[..., NoReturn]:
    return _refusal(f"{what} of", "expected an array: it acts on entries, which A.to_dense() has")


class Protocols(LinearOperator):
    """Abstract operator that foreign functions and Python's own operators may be given."""

    shape: tuple[int, int]
    xp: Any
    __array_priority__: ClassVar[float] = 100.0

    @abstractmethod
    def to_dense(self) -> Array:
        """The matrix as an array of shape (m, n)."""

    def _size(self) -> str:
        return f"{self.shape[0]}x{self.shape[1]}"

    def toarray(self) -> np.ndarray:
        """The matrix as a NumPy array of shape (m, n), whichever library holds the contents.

        Examples
        --------
        >>> import structmat
        >>> structmat.Permutation([1, 0]).toarray()
        array([[0., 1.],
               [1., 0.]])
        """
        return _array.to_numpy(self.to_dense())

    # NumPy.

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if asked_by_sparse_product():
            # SciPy leaves `sparse @ A` to the matrix only if it is no array.
            return np.array(None, dtype=object)
        if copy is False:
            raise InputError(
                f"{self!r} as an array without a copy; expected copy=None or True (the dense form "
                "has to be computed)"
            )
        return np.array(_dense_form(self), dtype=dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        _refuse_output(options.get("out"))
        if method == "__call__" and not options and ufunc in _OPERATORS:
            result = _OPERATORS[ufunc](*inputs)
            if result is not NotImplemented:
                return result
        return getattr(ufunc, method)(*_without(inputs), **_without(options))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        _refuse_output(_output(func, args, kwargs))
        if func in _WRITERS:
            _refuse_output(args[:1] or tuple(kwargs.values())[:1])
        if func in _ABOUT:
            # The fill value of full_like is no matter of shape.
            count = len(args) if func is np.result_type else 1
            args = (*_without(args[:count], _stand_in), *args[count:])
        structured = _STRUCTURED.get(func)
        if structured is not None:
            result = structured(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return func(*_without(args), **_without(kwargs))

    # torch.

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if hasattr(func, "__objclass__") and len(args) == 2 and not kwargs:
            # A method of a tensor, or the operator that calls it: torch tells no difference.
            if name in _TENSOR_METHODS:
                return _TENSOR_METHODS[name](*args)
            if name in _COMPARISONS or (name.startswith("__") and name != "__getitem__"):
                return getattr(operator, name)(*reversed(args))
        if name in ("matmul", "mm", "mv") and len(args) == 2 and not kwargs:
            return _matmul(*args)
        return func(*_without(args, _in_place), **_without(kwargs or {}, _in_place))

    # Python.

    def __bool__(self) -> bool:
        raise OperationError(
            f"truth of a {self._size()} {type(self).__name__}; expected a question about it: "
            "A is None, A.norm() > 0"
        )

    def __eq__(self, other: object) -> bool:
        if other is self or not (isinstance(other, Protocols) or hasattr(other, "shape")):
            return other is self
        raise OperationError(
            f"== of a {self._size()} {type(self).__name__}; expected arrays: compare by "
            "numpy.array_equal(A, B), or by (A - B).norm()"
        )

    __hash__ = object.__hash__

    __len__ = _refusal("length of", "expected A.shape[0], or an array: A.to_dense()")

    def __iter__(self) -> Iterator[Array]:
        """Rows of the dense form."""
        dense = self.to_dense()
        return (dense[i, ...] for i in range(self.shape[0]))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or not hasattr(np.ndarray, name):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise OperationError(
                f"{name} of a {type(self).__name__}; expected an array: A.to_dense() or "
                f"A.toarray(), which has {name} in NumPy"
            )

    __contains__ = __reversed__ = _entrywise("search")
    __float__ = __int__ = __complex__ = __index__ = _refusal(
        "a number from", "expected an entry: A[i, j]"
    )
    __abs__, __round__ = _entrywise("abs"), _entrywise("round")
    __floor__, __ceil__, __trunc__ = map(_entrywise, ("floor", "ceil", "trunc"))
    __lt__, __le__, __gt__, __ge__ = map(_entrywise, ("<", "<=", ">", ">="))
    __floordiv__ = __rfloordiv__ = _entrywise("//")
    __mod__ = __rmod__ = _entrywise("%")
    __divmod__ = __rdivmod__ = _entrywise("divmod")
    __and__ = __rand__ = _entrywise("&")
    __or__ = __ror__ = _entrywise("|")
    __xor__ = __rxor__ = _entrywise("^")
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _entrywise("shift")
    __invert__ = _entrywise("~")
    __rpow__ = _refusal("a power whose exponent is", "expected scipy.linalg.expm(A.to_dense())")
    __rtruediv__ = _refusal(
        "division by", "expected a solution: numpy.linalg.solve, or scipy.sparse.linalg.gmres"
    )
    __setitem__ = __delitem__ = _refusal(
        "assignment to entries of", "expected another matrix: contents do not change"
    )


def asked_by_sparse_product() -> bool:
    """True if SciPy's sparse product asks whether its right operand is an array.

    The product of a sparse array with a matrix is right without this answer, too, but dense.
    """
    caller = sys._getframe(2)
    return caller.f_code.co_name == "_matmul_dispatch" and caller.f_globals.get(
        "__name__", ""
    ).startswith("scipy.sparse")


def _dense_form(A: Any) -> np.ndarray:
    """Dense form for a foreign function; a large one is made by name alone."""
    _check_size(A)
    dense: np.ndarray = A.toarray()
    return dense


def _check_size(A: Any) -> None:
    if math.prod(A.shape) > DENSE_ENTRIES:
        raise InputError(
            f"the dense form of a {A._size()} {type(A).__name__} is asked for by a function that "
            f"knows no structure; expected at most {DENSE_ENTRIES} entries (if the memory is "
            "there, call it with A.to_dense())"
        )


def _in_place(A: Any) -> Array:
    """Dense form in the library of the matrix; a large one is made by name alone."""
    _check_size(A)
    return A.to_dense()


def _stand_in(A: Any) -> np.ndarray:
    """Array of the shape and the dtype of A that takes no memory."""
    scalar = _array.to_numpy(A.xp.zeros((), dtype=A.dtype))
    return np.broadcast_to(scalar, A.shape)


def _without(value: Any, replace: Callable[[Any], Any] = _dense_form) -> Any:
    """Arguments of a call with every matrix among them replaced."""
    if isinstance(value, Protocols):
        return replace(value)
    if type(value) in (list, tuple):
        return type(value)(_without(item, replace) for item in value)
    if type(value) is dict:
        return {name: _without(item, replace) for name, item in value.items()}
    return value


def _output(func: Any, args: Any, kwargs: Any) -> Any:
    """Argument `out` of a call of NumPy, by name or by place."""
    try:
        return inspect.signature(func).bind(*args, **kwargs).arguments.get("out")
    except (TypeError, ValueError):  # no signature, or arguments that func itself will refuse
        return kwargs.get("out")


def _refuse_output(outputs: Any) -> None:
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for A in outputs:
        if isinstance(A, Protocols):
            raise OperationError(
                f"a {A._size()} {type(A).__name__} as the output of a function; expected an array "
                "to write to: contents do not change (write to A.to_dense())"
            )


# Functions of NumPy that structure answers. Parameters have NumPy's names, by which a call may
# give them. A function returns NotImplemented for arguments that it does not know, which then
# get the dense form.


def _times(a: Any, b: Any) -> Any:
    return a.dot(b) if isinstance(a, Protocols) else b.rdot(a)


def _dot(a: Any, b: Any, out: Any = None) -> Any:
    """np.dot, which puts the axes of a batch on its right in another order than np.matmul."""
    batch = not (isinstance(b, Protocols) or issparse(b)) and np.ndim(b) > 2
    return NotImplemented if batch or out is not None else _times(a, b)


def _matmul(a: Any, b: Any) -> Any:
    return NotImplemented if is_scalar(a) or is_scalar(b) else _times(a, b)


def _operator(left: str, right: str) -> Callable[[Any, Any], Any]:
    """The operator of the matrix among two operands, as Python's arrays leave it to."""

    def combined(a: Any, b: Any) -> Any:
        return getattr(a, left)(b) if isinstance(a, Protocols) else getattr(b, right)(a)

    return combined


def _multiple(a: Any, b: Any) -> Any:
    """A multiple. NumPy does not tell ``X * A``, which could be a product, from np.multiply."""
    A, other = (a, b) if isinstance(a, Protocols) else (b, a)
    if is_scalar(other):
        return A.dot(other)
    if hasattr(other, "__dlpack__") and not isinstance(other, np.ndarray):
        as_operand(other, A.xp)  # a nested tensor, or one of another library, has its own remedy
    raise OperationError(
        f"* of an array of shape {np.shape(other)} and a {A._size()} {type(A).__name__}; expected "
        "X @ A for a product, or X * A.to_dense() for entries"
    )


#: What operators of NumPy's arrays call, so that a matrix answers them.
_OPERATORS: dict[Any, Callable[..., Any]] = {
    np.matmul: _matmul,
    np.add: _operator("__add__", "__radd__"),
    np.subtract: _operator("__sub__", "__rsub__"),
    np.multiply: _multiple,
    np.true_divide: _operator("__truediv__", "__rtruediv__"),
    np.negative: lambda A: -A,
    np.positive: lambda A: A,
    np.conjugate: lambda A: A.conj(),
}

#: What operators of torch's tensors call, with the tensor on the left.
_TENSOR_METHODS: dict[str, Callable[[Any, Any], Any]] = {
    "matmul": lambda x, A: A.__rmatmul__(x),
    "add": lambda x, A: A.__radd__(x),
    "sub": lambda x, A: A.__rsub__(x),
    "mul": _multiple,
}
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def _plain_norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    known = ord in (None, "fro", 1, np.inf) and axis is None and keepdims is False
    return np.float64(x.norm(ord)) if known else NotImplemented


def _matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return _plain_norm(x, ord, None, keepdims)


def _plain(method: str) -> Callable[..., Any]:
    """Method of a matrix for calls without options."""

    def answer(a: Any, *more: Any, **options: Any) -> Any:
        known = isinstance(a, Protocols) and not more and not options
        return getattr(a, method)() if known else NotImplemented

    return answer


def _on_numpy(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The same answer as NumPy's array or number."""

    def converted(*args: Any, **options: Any) -> Any:
        result = answer(*args, **options)
        if result is NotImplemented or isinstance(result, Protocols):
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
        first = next((M for M in matrices if isinstance(M, Protocols)), None)
        if first is None or not all(_joins(M, first) for M in matrices):
            return NotImplemented
        return later(f"structmat.algebra:{name}")(*own)

    return answer


def _joins(M: Any, A: Any) -> bool:
    """Tell whether an argument is a matrix that A meets as one."""
    if isinstance(M, Protocols):
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


_STRUCTURED: dict[Any, Callable[..., Any]] = {
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
