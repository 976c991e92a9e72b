"""Protocols of NumPy and torch by which foreign functions meet a matrix.

A function of NumPy, SciPy or torch that knows no structure gets the dense form, so that its
result is right. Functions with a structured answer get that. Functions that would write into
the dense form are refused with the remedy.
"""

import inspect
import operator
import sys
from typing import Any, ClassVar

import numpy as np

from structmat.contract.answers import COMPARISONS, OPERATORS, STRUCTURED, TENSOR_METHODS, matmul
from structmat.contract.dense_form import dense_form, in_place, stand_in, without
from structmat.contract.matrix_like import MatrixLike
from structmat.errors import InputError, OperationError

#: Functions of NumPy that write into their first argument.
_WRITERS = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis}
#: Functions of NumPy that ask for the shape and the dtype alone.
_ABOUT = {
    np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.min_scalar_type, np.iscomplexobj,
    np.isrealobj, np.zeros_like, np.ones_like, np.empty_like, np.full_like,
}  # fmt: skip


class Protocols(MatrixLike):
    """Abstract operator that functions of NumPy, SciPy and torch may be given."""

    __array_priority__: ClassVar[float] = 100.0

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
        return np.array(dense_form(self), dtype=dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        _refuse_output(options.get("out"))
        if method == "__call__" and not options and ufunc in OPERATORS:
            result = OPERATORS[ufunc](*inputs)
            if result is not NotImplemented:
                return result
        return getattr(ufunc, method)(*without(inputs), **without(options))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        _refuse_output(_output(func, args, kwargs))
        if func in _WRITERS:
            _refuse_output(args[:1] or tuple(kwargs.values())[:1])
        if func in _ABOUT:
            # The fill value of full_like is no matter of shape.
            count = len(args) if func is np.result_type else 1
            args = (*without(args[:count], stand_in), *args[count:])
        structured = STRUCTURED.get(func)
        if structured is not None:
            result = structured(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return func(*without(args), **without(kwargs))

    # torch.

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if hasattr(func, "__objclass__") and len(args) == 2 and not kwargs:
            # A method of a tensor, or the operator that calls it: torch tells no difference.
            if name in TENSOR_METHODS:
                return TENSOR_METHODS[name](*args)
            if name in COMPARISONS or (name.startswith("__") and name != "__getitem__"):
                return getattr(operator, name)(*reversed(args))
        if name in ("matmul", "mm", "mv") and len(args) == 2 and not kwargs:
            return matmul(*args)
        return func(*without(args, in_place), **without(kwargs or {}, in_place))


def asked_by_sparse_product() -> bool:
    """True if SciPy's sparse product asks whether its right operand is an array.

    The product of a sparse array with a matrix is right without this answer, too, but dense.
    """
    caller = sys._getframe(2)
    return caller.f_code.co_name == "_matmul_dispatch" and caller.f_globals.get(
        "__name__", ""
    ).startswith("scipy.sparse")


def _output(func: Any, args: Any, kwargs: Any) -> Any:
    """Argument `out` of a call of NumPy, by name or by place."""
    try:
        return inspect.signature(func).bind(*args, **kwargs).arguments.get("out")
    except (TypeError, ValueError):  # no signature, or arguments that func itself will refuse
        return kwargs.get("out")


def _refuse_output(outputs: Any) -> None:
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for A in outputs:
        if isinstance(A, MatrixLike):
            raise OperationError(
                f"a {A._size()} {type(A).__name__} as the output of a function; expected an array "
                "to write to: contents do not change (write to A.to_dense())"
            )
