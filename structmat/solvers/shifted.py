"""The matrix S = A + shift I, and multiples of the identity."""

from typing import Any

from structmat.matrices import Identity, Scaled
from structmat.matrices.diagonal import is_multiple
from structmat.matrices.inner_products import unscaled
from structmat.matrix import StructuredMatrix


def shifted(A: StructuredMatrix, shift: complex) -> StructuredMatrix:
    """A + shift I, by the rules of the two kinds; A itself without a shift.

    Examples
    --------
    >>> import structmat
    >>> shifted(structmat.Diagonal([1.0, 2.0]), 0.5).d
    array([1.5, 2.5])
    """
    if shift == 0:
        return A
    S: StructuredMatrix = A + multiple(A, shift)
    return S


def multiple(A: StructuredMatrix, number: Any) -> StructuredMatrix:
    """A multiple of the identity, of the rows, the library and the device of A.

    A complex number has the precision of A, if A has one.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> multiple(structmat.Dense(np.ones((2, 2), "float32")), 1j).dtype
    dtype('complex64')
    """
    xp, one = A.xp, identity_of(A)
    if isinstance(number, complex) and not A.neutral:
        dtype = xp.result_type(A.dtype, xp.complex64)
        return Scaled(one, xp.asarray(number, dtype=dtype, device=A.device))
    found: StructuredMatrix = one * number
    return found


def identity_of(A: StructuredMatrix) -> Identity:
    """The identity of the rows, the library and the device of A.

    Examples
    --------
    >>> import structmat
    >>> identity_of(structmat.Diagonal([1.0, 2.0])).n
    2
    """
    return Identity(A.shape[0], like=A.xp.zeros(0, device=A.device))


def number_of(A: StructuredMatrix) -> complex | None:
    """The number of a multiple of the identity; None for other matrices.

    Examples
    --------
    >>> import structmat
    >>> number_of(3 * structmat.Identity(4))
    3.0
    """
    if not is_multiple(A):
        return None
    alpha = unscaled(A)[1]
    number = 1.0 if alpha is None else complex(alpha)
    return number if number.imag else number.real
