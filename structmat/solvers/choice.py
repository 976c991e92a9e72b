"""The direct method for a matrix: those of its kind in turn, then the dense ones."""

from typing import Any

from structmat.kinds import find_factorizations
from structmat.matrices import Dense
from structmat.matrix import StructuredMatrix
from structmat.solvers.direct.dense import factorize as dense_factorize
from structmat.solvers.factorization import Factorization

#: A matrix of more rows is formed only if it stores half as many numbers as it has entries. From
#: as many rows on points are compressed; least squares with both sides longer take steps.
DENSE_ROWS = 2048


def direct(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """A direct factorization of S = A + shift I; NotImplemented where there is none.

    Examples
    --------
    >>> import structmat
    >>> direct(structmat.Diagonal([1.0, 2.0]), 0.0, 1e-8).method
    'diagonal'
    """
    found = structured(A, shift, tol)
    if found is NotImplemented and is_small(A):
        found = dense_factorize(A, shift, tol)
    return found


def structured(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """A direct factorization by structure alone; NotImplemented where there is none.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> structured(structmat.Dense(np.eye(2)), 0.0, 1e-8)
    NotImplemented
    """
    for way in find_factorizations(A.kind):
        found: Factorization = way(A, shift, tol)
        if found is not NotImplemented:
            return found
    return NotImplemented


def is_small(A: StructuredMatrix) -> bool:
    """Tell whether a matrix is formed where nothing else applies."""
    return (
        A.shape[0] <= DENSE_ROWS or isinstance(A, Dense) or 2 * A.storage >= A.shape[0] * A.shape[1]
    )
