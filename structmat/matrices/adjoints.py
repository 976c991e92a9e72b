"""Matrices that are each other's adjoints, by their parts."""

from typing import Any

import numpy as np

from structmat.matrix import StructuredMatrix


def are_adjoint(A: StructuredMatrix, B: StructuredMatrix) -> bool:
    """True if B is A^H part by part; entries of either are not computed.

    Examples
    --------
    >>> import structmat
    >>> A = structmat.LowRank([[1.0], [2.0]], [[1.0]])
    >>> are_adjoint(A, A.H), are_adjoint(A, A)
    (True, False)
    """
    if A.shape != B.shape[::-1] or A.dtype != B.dtype or A.storage != B.storage:
        return False
    if A is B:
        return A.hermitian
    return equal_parts(A.H, B) or equal_parts(A, B.H)


def equal_parts(A: StructuredMatrix, B: StructuredMatrix) -> bool:
    """True if two matrices have one structure and equal contents.

    Examples
    --------
    >>> import structmat
    >>> equal_parts(structmat.Diagonal([1.0]), structmat.Diagonal([1.0]))
    True
    """
    if A is B:
        return True
    if type(A) is not type(B) or A.shape != B.shape or A.dtype != B.dtype:
        return False
    if len(A.children) != len(B.children) or A.xp is not B.xp or A.device != B.device:
        return False
    one, other = A._static(), B._static()
    return (
        all(_same(one[name], other[name]) for name in A.static_names)
        and all(_equal(getattr(A, name), getattr(B, name), A) for name in A.data_names)
        and all(map(equal_parts, A.children, B.children))
    )


def _same(one: Any, other: Any) -> bool:
    """Equality of two static attributes."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return bool(one is other or one == other)


def _equal(one: Any, other: Any, A: StructuredMatrix) -> bool:
    """Equality of two content arrays; False for those whose values cannot be read."""
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    known = A._backend.has_values
    return known(one) and known(other) and bool(A.xp.all(one == other))
