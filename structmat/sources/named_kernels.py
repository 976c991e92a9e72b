"""Named kernels of a distance, as operations on arrays of any library."""

from types import ModuleType
from typing import Any

from structmat._array import Array, device

#: Names of the kernels of r / length.
NAMES = ("exponential", "matern32", "matern52", "gaussian", "inverse", "helmholtz")
#: Derivatives of kernels by the logarithm of their length, -s k'(s), and their names.
SLOPES = {name: f"{name} slope" for name in ("exponential", "matern32", "matern52", "gaussian")}
#: Kernels without a finite value at r = 0.
SINGULAR = ("inverse", "helmholtz")
#: Scaled distances above it give zero in double precision, and no product of infinity and zero.
_FAR = 800.0


def distances(X: Array, Y: Array, xp: ModuleType) -> Array:
    """Euclidean distances of all pairs of points (p, d) and (q, d), with gradients at zero."""
    total = xp.zeros((X.shape[0], Y.shape[0]), dtype=X.dtype, device=device(X))
    for k in range(X.shape[1]):
        total = total + (X[:, k][:, None] - Y[:, k][None, :]) ** 2
    apart = total > 0
    return xp.where(apart, xp.sqrt(xp.where(apart, total, xp.ones_like(total))), total)


def values(name: str, r: Array, wavenumber: Any, xp: ModuleType) -> Array:
    """Values of a kernel at distances over the length; singular ones are zero at r = 0."""
    if name in SINGULAR:
        apart = r > 0
        safe = xp.where(apart, r, xp.ones_like(r))
        if name == "inverse":
            return xp.where(apart, 1 / safe, xp.zeros_like(r))
        wave = xp.exp(1j * (wavenumber * r))
        return wave * xp.where(apart, 1 / safe, xp.zeros_like(r))
    if name in SLOPES.values():
        return _slope(name.removesuffix(" slope"), r, xp)
    if name == "gaussian":
        return xp.exp(-0.5 * xp.clip(r, 0, _FAR) ** 2)
    t = xp.clip(_RATES[name] * r, 0, _FAR)
    decay = xp.exp(-t)
    if name == "matern32":
        return (1 + t) * decay
    if name == "matern52":
        return (1 + t + t * t / 3) * decay
    return decay


def _slope(name: str, r: Array, xp: ModuleType) -> Array:
    """The derivative of a kernel of r / length by the logarithm of the length."""
    if name == "gaussian":
        square = xp.clip(r, 0, _FAR) ** 2
        return square * xp.exp(-0.5 * square)
    t = xp.clip(_RATES[name] * r, 0, _FAR)
    if name == "matern32":
        return t * t * xp.exp(-t)
    if name == "matern52":
        return t * t * (1 + t) / 3 * xp.exp(-t)
    return t * xp.exp(-t)


_RATES = {"exponential": 1.0, "matern32": 3**0.5, "matern52": 5**0.5}
