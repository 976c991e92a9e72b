"""The choice of a form for the correlation matrix, and the one place that makes it."""

from typing import Any

from structmat.gp.correlation import Correlation, Real
from structmat.gp.forms import DenseForm, compressed_form, distributed_form

#: Up to this number of points the matrix is formed.
DENSE_POINTS = 2048


def correlation(
    points: Real, kernel: str, length: float, ratio: float, *, tol: float | None, client: Any
) -> Correlation:
    """The correlation matrix of points, by the form that suits their number.

    All matrices of this room are made here: dense up to `DENSE_POINTS`, on the workers of `client`
    if there is one, else compressed and factored.

    Examples
    --------
    >>> import numpy as np
    >>> R = correlation(np.array([[0.0], [1.0]]), "exponential", 1.0, 1.0, tol=None, client=None)
    >>> R.method, round(R.logdet().logabsdet, 4)
    ('cholesky', 1.3519)
    """
    if len(points) <= DENSE_POINTS:
        return DenseForm(points, kernel, length, ratio)
    if client is not None:
        return distributed_form(points, kernel, length, ratio, tol, client)
    return compressed_form(points, kernel, length, ratio, tol)
