"""Arguments of the room: matrices, shifts, tolerances and right-hand sides, checked."""

import cmath
import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from structmat import _array
from structmat._array import Array
from structmat._tensors import check_has_values
from structmat.algebra.arguments import as_matrix
from structmat.contract.operand import as_operand
from structmat.errors import BackendError, InputError, SolveError, first_line
from structmat.matrices import ForeignOperator
from structmat.matrix import StructuredMatrix
from structmat.solvers.verify import check_products

#: Default bounds of errors, in double and in lower precision.
_TOL, _TOL_SINGLE = 1e-8, 1e-5


def finite_matrix(A: Any) -> StructuredMatrix:
    """A matrix as a structured one, of at least single precision, with finite contents."""
    A = as_matrix(A)
    check_has_values(*A._leaves())
    _check_contents(A)
    xp = A.xp
    return A if xp.finfo(A.dtype).bits >= 32 else A.astype(xp.result_type(A.dtype, xp.float32))


def _check_contents(A: StructuredMatrix) -> None:
    for name in A.data_names:
        array = getattr(A, name)
        if _array.is_inexact(array.dtype, A.xp) and not bool(A.xp.all(A.xp.isfinite(array))):
            raise InputError(
                f"{name} of {A!r} has a NaN or an infinity; expected finite contents (find them "
                "with numpy.isfinite)"
            )
    if isinstance(A, ForeignOperator):
        check_products(A)
    for child in A.children:
        _check_contents(child)


def check_formed(dense: Array, A: StructuredMatrix) -> Array:
    """The dense form of a matrix; one with a NaN or an infinity is refused."""
    if not bool(A.xp.all(A.xp.isfinite(dense))):
        raise SolveError(
            f"the entries of {A!r} have a NaN or an infinity, although its contents are finite; "
            "expected finite entries (try its operators on finite vectors, and divide contents "
            "whose products overflow by a number)"
        )
    return dense


def finite_number(shift: Any) -> complex:
    """A shift as a Python number: a float where it is real.

    Examples
    --------
    >>> finite_number(1), finite_number(1j)
    (1.0, 1j)
    """
    if getattr(shift, "requires_grad", False):
        raise BackendError(
            f"shift = {shift!r} takes part in gradients beside contents of another library; "
            "expected a number, or a matrix on torch (A.to('torch'))"
        )
    if hasattr(shift, "item") and getattr(shift, "shape", None) == ():
        shift = shift.item()
    if not isinstance(shift, numbers.Complex) or not cmath.isfinite(complex(shift)):
        raise InputError(f"shift = {shift!r}; expected a finite number")
    number = complex(shift)
    return number if number.imag else number.real


def tolerance(tol: Any, A: StructuredMatrix) -> float:
    """A bound of errors, by default that of the precision of A."""
    if tol is None:
        return _TOL if A.xp.finfo(A.dtype).bits >= 64 else _TOL_SINGLE
    least = float(np.finfo(np.float64).eps)
    if isinstance(tol, bool) or not isinstance(tol, numbers.Real) or not least <= float(tol) < 1:
        raise InputError(
            f"tol = {tol!r}; expected a number below 1, and at least the rounding of double "
            f"precision, {least:.2g} (such as 1e-8)"
        )
    return float(tol)


@contextmanager
def computing(A: StructuredMatrix) -> Iterator[None]:
    """The context of a method: on the device of A, without warnings, and with errors of our own.

    What overflows is noticed by the errors that are measured, and named as such.
    """
    try:
        with np.errstate(all="ignore"), _array.computing_on(A.xp, A.device):
            yield
    except np.linalg.LinAlgError as error:
        check_products(A)
        if isinstance(error, SolveError):
            raise
        raise SolveError(
            f"{A!r}: {first_line(error)}; expected contents of moderate size (divide the matrix "
            "and the right-hand side by one number)"
        ) from error


def right_hand_side(b: Any, A: StructuredMatrix) -> Array:
    """A right-hand side as an array of the library of A; structured ones are formed."""
    if isinstance(b, StructuredMatrix):
        check_place(b, A)
        b = b.to_dense()
    return as_operand(b, A.xp)


def check_device(b: Array, A: Any) -> None:
    """Refuse a right-hand side on another device than the matrix."""
    if not _array.is_numpy(A.xp) and _array.belongs(b, A.xp) and _array.device(b) != A.device:
        raise BackendError(
            f"the right-hand side is on {_array.device(b)}, the matrix on {A.device}; expected one "
            "device (move one of them)"
        )


def check_place(b: StructuredMatrix, A: StructuredMatrix) -> None:
    """Refuse a structured right-hand side of another library or device."""
    if b.xp is not A.xp or b.device != A.device:
        raise BackendError(
            f"the right-hand side {b!r} on {b.device} meets {A!r} on {A.device}; expected one "
            "library and one device (move one of them with .to(…))"
        )
