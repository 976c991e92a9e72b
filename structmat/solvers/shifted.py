"""The matrix S = A + shift I, and facts about it."""

from typing import Any

from structmat.matrices import Identity, Scaled
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
    xp = A.xp
    one = Identity(A.shape[0], like=xp.zeros(0, device=A.device))
    if isinstance(number, complex) and not A.neutral:
        dtype = xp.result_type(A.dtype, xp.complex64)
        return Scaled(one, xp.asarray(number, dtype=dtype, device=A.device))
    found: StructuredMatrix = one * number
    return found


def number_of(A: StructuredMatrix) -> complex | None:
    """The number of a multiple of the identity; None for other matrices.

    Examples
    --------
    >>> import structmat
    >>> number_of(3 * structmat.Identity(4))
    3.0
    """
    if isinstance(A, Identity):
        return 1.0
    if isinstance(A, Scaled) and isinstance(A.children[0], Identity):
        number = complex(A.alpha)
        return number if number.imag else number.real
    return None


def is_hermitian(A: StructuredMatrix) -> bool:
    """True where construction guarantees that A is its own adjoint."""
    return bool(getattr(A, "hermitian", False))
