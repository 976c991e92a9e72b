"""Least squares for any matrix by LSMR, many right-hand sides at once.

Fong and Saunders 2011: MINRES on the normal equations, by the bidiagonalisation of Golub and
Kahan. From zero it goes to the solution of least norm. The residual is carried along.
"""

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array
from structmat._progress import Progress
from structmat.solvers.iterative.krylov.columns import (
    Apply,
    Columns,
    Reached,
    norms,
    quotient,
    times,
)


def lsmr(
    multiply: Apply,
    multiply_adjoint: Apply,
    b: Array,
    tol: float,
    *,
    limit: int,
    report: Progress,
    xp: ModuleType,
) -> Reached:
    """Minimise ‖b - A x‖ for A of shape (m, n).

    A column ends where ``‖A^H r‖ <= tol ‖A‖ ‖r‖`` or ``‖r‖ <= tol (‖A‖ ‖x‖ + ‖b‖)``: it then
    solves a problem whose matrix differs by ``tol ‖A‖`` at most.

    Parameters
    ----------
    multiply, multiply_adjoint : callable
        Products (n, k) to (m, k) with A, and (m, k) to (n, k) with A^H.
    b : array, shape (m, k)
    limit : int
        Most steps.

    Returns
    -------
    Reached
        Its residual is the larger of the two quotients' lesser one: at most `tol` in a column
        that has ended.
    """
    ended = Columns(b.shape[1], xp)
    u, beta = _unit(b, xp)
    v, alpha = _unit(multiply_adjoint(u), xp)
    size, square = beta.copy(), alpha**2
    zeta_bar, alpha_bar = alpha * beta, alpha.copy()
    one, zero = np.ones_like(alpha), np.zeros_like(alpha)
    rho, rho_bar, c_bar, s_bar, theta = one, one, one, zero, zero
    x, r = xp.zeros_like(v), b
    h, h_bar = xp.zeros_like(v), xp.zeros_like(v)
    # Products of A with h and with h_bar, which the residual follows.
    g, g_bar = xp.zeros_like(b), xp.zeros_like(b)
    met, steps = np.where(alpha * beta > 0, np.inf, 0.0), 0
    first = 1.0
    while True:
        done = met[ended.active] <= tol
        state = [r, u, v, h, h_bar, g, g_bar, size, square, alpha, zeta_bar, alpha_bar]
        state += [rho, rho_bar, c_bar, s_bar, theta]
        x, state = ended.retire(done, x, state)
        r, u, v, h, h_bar, g, g_bar, size, square, alpha, zeta_bar, alpha_bar = state[:12]
        rho, rho_bar, c_bar, s_bar, theta = state[12:]
        if not ended.active.size or steps == limit:
            break
        product = multiply(v)
        h = v - times(h, quotient(theta, rho), xp)
        g = product - times(g, quotient(theta, rho), xp)
        u, beta = _unit(product - times(u, alpha, xp), xp)
        v, alpha = _unit(multiply_adjoint(u) - times(v, beta, xp), xp)
        square = square + alpha**2 + beta**2
        # Two rotations: of the bidiagonal matrix, and of the transpose of its triangle.
        before, before_bar = rho, rho_bar
        rho = np.hypot(alpha_bar, beta)
        c, s = quotient(alpha_bar, rho), quotient(beta, rho)
        theta, alpha_bar = s * alpha, c * alpha
        theta_bar, corner = s_bar * rho, c_bar * rho
        rho_bar = np.hypot(corner, theta)
        c_bar, s_bar = quotient(corner, rho_bar), quotient(theta, rho_bar)
        zeta, zeta_bar = c_bar * zeta_bar, -s_bar * zeta_bar
        turn = quotient(theta_bar * rho, before * before_bar)
        h_bar, g_bar = h - times(h_bar, turn, xp), g - times(g_bar, turn, xp)
        step = quotient(zeta, rho * rho_bar)
        x, r = x + times(h_bar, step, xp), r - times(g_bar, step, xp)
        steps += 1
        whole, left = np.sqrt(square), norms(r, xp)
        met[ended.active] = np.minimum(
            quotient(np.abs(zeta_bar), whole * left), quotient(left, whole * norms(x, xp) + size)
        )
        first = max(first, float(np.max(met[ended.active])))
        worst = float(np.clip(met.max(), tol, first))
        report(min(1.0, float(np.log(first / worst) / np.log(first / tol))))
    return Reached(ended.gathered(x), met, steps)


def _unit(a: Array, xp: ModuleType) -> tuple[Array, NDArray[np.float64]]:
    """Columns of norm one, zeros where a column is zero, and the norms."""
    size = norms(a, xp)
    return times(a, quotient(np.ones_like(size), size), xp), size
