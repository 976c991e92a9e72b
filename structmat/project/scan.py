"""Best runs of all rows at one price, as operations on whole arrays of any library.

Let `d` be the energy, less price, of the best runs that hold an entry, minus that of the best
runs that leave it out. Along a row it follows

    d' = min(max(d, -opening), 0) + energy - price

if the opening of a run has a price of its own. Functions
``min(max(d + shift, low), high)`` compose to functions of the same form, so that all values
of a row come from a tree of compositions: O(log n) operations on arrays, O(n) work a row.
Read from the right, an entry is held where ``d > 0`` to its left end, left out where
``d <= -opening``, and follows its right neighbour elsewhere: the same recursion once more.
"""

from collections.abc import Sequence
from types import ModuleType

from structmat._array import Array


def runs_at(energy: Array, price: float, opening: float, xp: ModuleType) -> Array:
    """Mask (m, n) of the runs of most energy less price; the compiled scan's twin."""
    gain = energy - price
    difference = _clamped(gain, gain - opening, gain, -opening, xp)
    # Entry j belongs to a run if the nearest decided difference at or after it says so.
    kept, left_out = difference > 0, difference <= -opening
    flip = xp.flip(xp.stack([kept, left_out]), axis=2)
    low = xp.astype(flip[0, ...], energy.dtype)
    high = 1 - xp.astype(flip[1, ...], energy.dtype)
    state = _clamped(xp.zeros_like(low), low, high, 0.0, xp)
    return xp.flip(state, axis=1) > 0


def _clamped(shift: Array, low: Array, high: Array, start: float, xp: ModuleType) -> Array:
    """Values of d' = min(max(d + shift, low), high) along the rows, from d = start."""
    m, n = shift.shape
    steps = shift, low, high
    before = xp.full_like(shift[:, :1], start)
    if n == 1:
        return _step(before, steps, xp)
    even, odd = ([part[:, first : n - n % 2 : 2] for part in steps] for first in (0, 1))
    pairs = even[0] + odd[0], _step(even[1], odd, xp), _step(even[2], odd, xp)
    after_odd = _clamped(*pairs, start, xp)
    before_even = xp.concat([before, after_odd], axis=1)[:, : n - n // 2]
    after_even = _step(before_even, [part[:, ::2] for part in steps], xp)
    both = xp.reshape(xp.stack([after_even[:, : n // 2], after_odd], axis=2), (m, n - n % 2))
    return xp.concat([both, after_even[:, n // 2 :]], axis=1)


def _step(d: Array, step: Sequence[Array], xp: ModuleType) -> Array:
    shift, low, high = step
    return xp.minimum(xp.maximum(d + shift, low), high)
