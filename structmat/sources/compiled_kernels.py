"""Named kernels of real values in loops that Numba compiles where it is installed.

`kernel_value` may be called in other compiled loops. Import this module where it is used: it
imports Numba.
"""

import math

import numpy as np

from structmat.project.compiled import HAS_NUMBA, compiled

if HAS_NUMBA:
    from structmat.kernels.cpu.llvm import compiled_sums, power_of_two
else:
    compiled_sums = compiled

    def power_of_two(k: int) -> float:
        """2**k."""
        return math.ldexp(1.0, k)


#: Names of the kernels by their codes, as `kernel_value` takes them.
CODES = {
    "exponential": 0, "matern32": 1, "matern52": 2, "gaussian": 3, "inverse": 4,
    "exponential slope": 5, "matern32 slope": 6, "matern52 slope": 7, "gaussian slope": 8,
}  # fmt: skip
#: Scaled distances above it give zero in double precision, and no product of infinity and zero.
_FAR = 800.0
#: Largest t whose exp(-t) is a normal number; smaller values become zero.
_LEAST = 708.0
#: The logarithm of two in a part whose multiples are exact, and the rest.
_LN2, _LN2_REST = 6.93147180369123816490e-01, 1.90821492927058770002e-10


@compiled_sums
def decay(t: float) -> float:
    """exp(-t) for t from 0 to `_FAR`, to two units in the last place.

    Of a loop the compiler makes vectors, which a call of the system's exp prevents: by Taylor's
    polynomial for the part of -t that is at most half of log 2.
    """
    k = math.floor(0.5 - t * 1.4426950408889634)
    r = (-t - k * _LN2) - k * _LN2_REST
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return 0.0 if t > _LEAST else p * power_of_two(max(int(k), -1022))


@compiled_sums
def _slope(code: int, r: float) -> float:
    """Value of the derivative of a kernel by the logarithm of its length."""
    if code == 8:
        square = min(r, _FAR) ** 2
        return square * decay(min(0.5 * square, _FAR))
    if code == 5:
        t = min(r, _FAR)
        return t * decay(t)
    if code == 6:
        t = min(1.7320508075688772 * r, _FAR)
        return t * t * decay(t)
    t = min(2.23606797749979 * r, _FAR)
    return t * t * (1.0 + t) / 3.0 * decay(t)


@compiled_sums
def kernel_value(code: int, r2: float, scale: float) -> float:
    """Value of a kernel at a squared distance r2, for distances times `scale`.

    The kernel 1/r is zero at r = 0: a point does not act on itself.
    """
    r = math.sqrt(r2) * scale
    if code == 4:
        return 1.0 / r if r > 0.0 else 0.0
    if code == 0:
        return decay(min(r, _FAR))
    if code == 3:
        return decay(min(0.5 * r * r, _FAR))
    if code > 4:
        return _slope(code, r)
    if code == 1:
        t = min(1.7320508075688772 * r, _FAR)
        return (1.0 + t) * decay(t)
    t = min(2.23606797749979 * r, _FAR)
    return (1.0 + t + t * t / 3.0) * decay(t)


@compiled_sums
def kernel_values(code: int, r2: np.ndarray, scale: float) -> None:
    """Put values of a kernel in the place of squared distances, (n,).

    The code stands outside of the loops, so that they become loops over vectors.
    """
    if code == 0:
        for j in range(r2.size):
            r2[j] = kernel_value(0, r2[j], scale)
    elif code == 1:
        for j in range(r2.size):
            r2[j] = kernel_value(1, r2[j], scale)
    elif code == 2:
        for j in range(r2.size):
            r2[j] = kernel_value(2, r2[j], scale)
    elif code == 3:
        for j in range(r2.size):
            r2[j] = kernel_value(3, r2[j], scale)
    elif code == 4:
        for j in range(r2.size):
            r2[j] = kernel_value(4, r2[j], scale)
    else:
        for j in range(r2.size):
            r2[j] = _slope(code, math.sqrt(r2[j]) * scale)


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
            out[a, b] = r2
        kernel_values(code, out[a], scale)
