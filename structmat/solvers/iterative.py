"""Solves by iteration, for matrices that have no direct method."""

from typing import Any

from structmat.errors import SolveError
from structmat.matrix import StructuredMatrix


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """A solver of S = A + shift I by products."""
    raise SolveError(
        f"{A!r} has no direct method, and is too large to form; expected a matrix of a kind that "
        "has one (compress it to 'hierarchical' first), or scipy.sparse.linalg.gmres"
    )


def logdet(F: Any, rng: Any) -> Any:
    """An estimate of the log-determinant by products."""
    raise SolveError(
        f"{F!r} gives no log-determinant; expected a matrix with a direct method (compress it to "
        "'hierarchical' first)"
    )
