"""Named kernels of real values in loops that Numba compiles where it is installed.

`kernel_value` may be called in other compiled loops. Import this module where it is used: it
imports Numba.
"""

import math

import numpy as np

from structmat.project.compiled import compiled

#: Names of the kernels by their codes, as `kernel_value` takes them.
CODES = {
    "exponential": 0, "matern32": 1, "matern52": 2, "gaussian": 3, "inverse": 4,
    "exponential slope": 5, "matern32 slope": 6, "matern52 slope": 7, "gaussian slope": 8,
}  # fmt: skip
#: Scaled distances above it give zero in double precision, and no product of infinity and zero.
_FAR = 800.0


@compiled
def _slope(code: int, r: float) -> float:
    """Value of the derivative of a kernel by the logarithm of its length."""
    if code == 8:
        square = min(r, _FAR) ** 2
        return square * math.exp(-0.5 * square)
    if code == 5:
        t = min(r, _FAR)
        return t * math.exp(-t)
    if code == 6:
        t = min(1.7320508075688772 * r, _FAR)
        return t * t * math.exp(-t)
    t = min(2.23606797749979 * r, _FAR)
    return t * t * (1.0 + t) / 3.0 * math.exp(-t)


@compiled
def kernel_value(code: int, r2: float, scale: float) -> float:
    """Value of a kernel at a squared distance r2, for distances times `scale`.

    The kernel 1/r is zero at r = 0: a point does not act on itself.
    """
    r = math.sqrt(r2) * scale
    if code == 4:
        return 1.0 / r if r > 0.0 else 0.0
    if code == 0:
        return math.exp(-min(r, _FAR))
    if code == 3:
        return math.exp(-0.5 * min(r, _FAR) ** 2)
    if code > 4:
        return _slope(code, r)
    if code == 1:
        t = min(1.7320508075688772 * r, _FAR)
        return (1.0 + t) * math.exp(-t)
    t = min(2.23606797749979 * r, _FAR)
    return (1.0 + t + t * t / 3.0) * math.exp(-t)


@compiled
def kernel_block(
    code: int,
    X: np.ndarray,
    Y: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    scale: float,
    out: np.ndarray,
) -> None:
    """Write the entries at all pairs of some rows and columns to `out`, (p, q).

    X is (m, d), Y is (n, d), both in double precision.
    """
    d = X.shape[1]
    for a in range(rows.size):
        i = rows[a]
        for b in range(cols.size):
            j = cols[b]
            r2 = 0.0
            for k in range(d):
                step = X[i, k] - Y[j, k]
                r2 += step * step
            out[a, b] = kernel_value(code, r2, scale)
