"""Checks of what projectors are given: energies, caps, prices."""

import math
import operator
from typing import Any

from structmat._array import Array, as_content, is_complex, namespace
from structmat.errors import InputError


def as_energy(energy: Any) -> tuple[Array, float]:
    """An array (m, n) of energies in single or double precision, and the largest of them.

    Energies that are negative, NaN or infinite are refused.
    """
    energy = as_content(energy, "energy", 2)
    xp = namespace(energy)
    if is_complex(energy, xp):
        raise InputError(
            f"energy has dtype {energy.dtype}; expected real numbers (square the absolute values)"
        )
    if energy.dtype not in (xp.float32, xp.float64):
        wide = xp.finfo(energy.dtype).bits > 32
        energy = xp.astype(energy, xp.float64 if wide else xp.float32)
    if 0 in energy.shape:
        return energy, 0.0
    # A NaN is the least and the largest of its array.
    least, most = float(xp.min(energy)), float(xp.max(energy))
    if not (least >= 0 and math.isfinite(most)):
        wrong = most if not math.isfinite(most) else least
        raise InputError(
            f"energy holds {wrong}; expected finite numbers of at least 0 (square the weights)"
        )
    return energy, most


def summable(energy: Array, most: float, count: int) -> tuple[Array, float]:
    """Energies, the largest of which is `most`, times a power of two, and that power.

    Sums of `count` of them are finite. The power is 1 where they are so already.

    Examples
    --------
    >>> import numpy as np
    >>> energy, power = summable(np.full(4, 3e38, np.float32), 3e38, 4)
    >>> bool(np.isfinite(energy.sum())), power
    (True, 0.125)
    """
    largest = float(namespace(energy).finfo(energy.dtype).max)
    if most <= largest / max(count, 1):
        return energy, 1.0
    power = 0.5 ** count.bit_length()
    return energy * power, power


def as_cap(cap: Any) -> int:
    """Most multiplications as an integer of at least 0."""
    try:
        count = operator.index(cap)
    except TypeError:
        count = -1
    if count < 0:
        raise InputError(f"cap = {cap!r}; expected an integer of at least 0 (round it down)")
    return count


def as_price(price: Any, *, name: str = "price") -> float:
    """Energy for one multiplication, or a number of them, as a finite number of at least 0."""
    try:
        value = float(price)
    except (TypeError, ValueError):
        value = math.nan
    if not (value >= 0 and math.isfinite(value)):
        raise InputError(
            f"{name} = {price!r}; expected a finite number of at least 0 (give 0 for none)"
        )
    return value
