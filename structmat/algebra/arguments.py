"""Arguments of the algebra: anything that is a matrix, as a structured one."""

from typing import Any

from scipy.sparse import issparse

from structmat._array import as_content
from structmat.errors import InputError, ShapeError
from structmat.matrices import Dense, from_operator, from_sparse, is_operator
from structmat.matrix import StructuredMatrix


def as_matrix(x: Any, name: str = "A") -> StructuredMatrix:
    """A structured matrix, source, operator, sparse matrix or array (m, n) as a structured one.

    Examples
    --------
    >>> as_matrix([[1.0, 2.0]])
    <1x2 Dense, float64, numpy: cost 1, storage 1 of dense>
    """
    if isinstance(x, StructuredMatrix):
        return x
    if issparse(x) and x.ndim == 2:
        return from_sparse(x)
    if is_operator(x):
        return from_operator(x)
    if isinstance(getattr(x, "matrix", None), StructuredMatrix):
        raise InputError(f"{name} is a {type(x).__qualname__}; expected a matrix (its .matrix)")
    if isinstance(x, (list, tuple)) or hasattr(x, "ndim"):
        if hasattr(x, "ndim") and x.ndim != 2:
            raise ShapeError(
                f"{name} has shape {tuple(x.shape)}; expected a matrix (m, n) (of a vector x "
                "take x[None, :] or x[:, None])"
            )
        return Dense(as_content(x, name, 2))
    raise InputError(
        f"{name} is a {type(x).__qualname__}; expected a structured matrix, an array (m, n), a "
        "sparse matrix, or an operator"
    )
