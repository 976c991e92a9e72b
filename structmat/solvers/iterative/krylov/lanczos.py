"""Traces of logarithms by stochastic Lanczos quadrature.

Ubaru, Chen and Saad 2017. A product with a random vector of signs z starts a Lanczos recurrence,
whose tridiagonal matrix T gives z^H log(B) z as n (log T)_11.
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array
from structmat.solvers.iterative.krylov.columns import Apply, inner, norms, quotient, times

#: Steps between two looks at the values.
LOOK = 5


class Quadrature(NamedTuple):
    """Values z^H log(B) z of several vectors, the steps, and the least eigenvalue that was met."""

    values: NDArray[np.float64]
    steps: int
    least: float


def log_quadrature(
    multiply: Apply, z: Array, *, accuracy: float, limit: int, xp: ModuleType
) -> Quadrature:
    """z^H log(B) z for a hermitian positive definite B and each column of z, (n, k).

    Ends when no value has changed by more than `accuracy` since the last look. Where the least
    eigenvalue that was met is not positive, B is not positive definite, and the values are NaN.
    """
    size = norms(z, xp)
    v, before = times(z, quotient(np.ones_like(size), size), xp), xp.zeros_like(z)
    alphas: list[NDArray] = []
    betas: list[NDArray] = []
    values, beta = np.full(size.size, np.inf), np.zeros_like(size)
    least, rounding = np.inf, 10 * float(xp.finfo(z.dtype).eps)
    for step in range(1, limit + 1):
        w = multiply(v) - times(before, beta, xp)
        alpha = inner(v, w, xp).real
        w = w - times(v, alpha, xp)
        previous, beta = beta, norms(w, xp)
        # An invariant subspace: what follows weighs nothing.
        beta = np.where(beta <= rounding * np.hypot(alpha, previous), 0.0, beta)
        before, v = v, times(w, quotient(np.ones_like(beta), beta), xp)
        alphas.append(alpha)
        betas.append(beta)
        if step % LOOK and step < limit and (beta > 0).any():
            continue
        last, (values, least) = values, _values(np.array(alphas).T, np.array(betas).T, size)
        if not least > 0 or (beta == 0).all() or (np.abs(values - last) <= accuracy).all():
            break
    return Quadrature(values, len(alphas), least)


def _values(
    alphas: NDArray, betas: NDArray, size: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Quadratures of tridiagonal matrices (k, j), and the least of their eigenvalues."""
    k, steps = alphas.shape
    T = np.zeros((k, steps, steps))
    at = np.arange(steps)
    T[:, at, at] = alphas
    T[:, at[1:], at[:-1]] = T[:, at[:-1], at[1:]] = betas[:, :-1]
    if not np.isfinite(T).all():  # products overflow
        return np.full(k, np.nan), np.nan
    nodes, vectors = np.linalg.eigh(T)
    weights = np.abs(vectors[:, 0, :]) ** 2
    # Nodes after the end of a recurrence are zeros that weigh nothing.
    counted = weights > 1e-28
    least = float(np.min(nodes, where=counted, initial=np.inf))
    if not least > 0:
        return np.full(k, np.nan), least
    logs = np.log(np.where(counted, nodes, 1.0))
    return size**2 * (np.where(counted, weights, 0.0) * logs).sum(axis=1), least
