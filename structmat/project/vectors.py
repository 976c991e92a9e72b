"""Steps on vectors that the pursuit is made of: compiled loops, or arrays without Numba.

Both forms add in the same order, so that their results are equal to the last digit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.project.compiled import HAS_NUMBA, compiled


@compiled
def _best_run_loop(x: NDArray, scale: float, price: float, cyclic: bool) -> tuple[int, int, float]:
    total = low = high = 0.0
    rise, rise_from, rise_to, low_at = -np.inf, 0, 0, 0
    for k in range(x.size):
        value = np.float64(x[k])
        total += value * value * scale - price
        if total - low > rise:
            rise, rise_from, rise_to = total - low, low_at, k + 1
        if total < low:
            low, low_at = total, k + 1
    if cyclic:
        total = 0.0
        fall, fall_from, fall_to, high_at = -np.inf, 0, 0, 0
        for k in range(x.size):
            value = np.float64(x[k])
            total += value * value * scale - price
            if high - total > fall:
                fall, fall_from, fall_to = high - total, high_at, k + 1
            if total > high:
                high, high_at = total, k + 1
        if total + fall > rise and fall_to - fall_from < x.size:
            return fall_to % x.size, x.size - (fall_to - fall_from), total + fall
    return rise_from, rise_to - rise_from, rise


def _best_run_arrays(
    x: NDArray, scale: float, price: float, cyclic: bool
) -> tuple[int, int, float]:
    value = x.astype(np.float64)
    prefix = np.zeros(x.size + 1)
    np.cumsum(value * value * scale - price, out=prefix[1:])
    rises = prefix[1:] - np.minimum.accumulate(prefix[:-1])
    falls = np.maximum.accumulate(prefix[:-1]) - prefix[1:]
    low, high = int(rises.argmax()), int(falls.argmax())
    begin = int(prefix[: high + 1].argmax())
    out = high + 1 - begin
    if cyclic and prefix[-1] + falls[high] > rises[low] and out < x.size:
        return (high + 1) % x.size, x.size - out, float(prefix[-1] + falls[high])
    begin = int(prefix[: low + 1].argmin())
    return begin, low + 1 - begin, float(rises[low])


@compiled
def _add_multiple_loop(out: NDArray, factor: float, x: NDArray) -> None:
    for k in range(out.size):
        out[k] += factor * x[k]


def _add_multiple_arrays(out: NDArray, factor: float, x: NDArray) -> None:
    out += factor * x


@compiled
def _take_loop(x: NDArray, start: int, divisor: float, out: NDArray) -> None:
    straight = min(out.size, x.size - start)
    for k in range(straight):
        out[k] = x[start + k] / divisor
    for k in range(straight, out.size):
        out[k] = x[k - straight] / divisor


def _take_arrays(x: NDArray, start: int, divisor: float, out: NDArray) -> None:
    straight = min(out.size, x.size - start)
    out[:straight] = x[start : start + straight] / np.float64(divisor)
    out[straight:] = x[: out.size - straight] / np.float64(divisor)


@compiled
def _squared_norm_loop(x: NDArray) -> float:
    total = 0.0
    for k in range(x.size):
        value = np.float64(x[k])
        total += value * value
    return total


def _squared_norm_arrays(x: NDArray) -> float:
    return float(np.cumsum(x.astype(np.float64) ** 2)[-1]) if x.size else 0.0


@compiled
def _largest_loop(x: NDArray) -> int:
    best = 0
    for k in range(x.size):
        if x[k] > x[best]:
            best = k
    return best


def _largest_arrays(x: NDArray) -> int:
    return int(x.argmax())


@compiled
def _farthest_loop(x: NDArray) -> int:
    best = 0
    for k in range(x.size):
        if abs(x[k]) > abs(x[best]):
            best = k
    return best


def _farthest_arrays(x: NDArray) -> int:
    return int(np.abs(x).argmax())


@compiled
def _add_at_loop(out: NDArray, at: NDArray, factor: float, x: NDArray) -> None:
    for k in range(at.size):
        out[at[k]] += factor * x[k]


def _add_at_arrays(out: NDArray, at: NDArray, factor: float, x: NDArray) -> None:
    out[at] += factor * x


@compiled
def _beyond_loop(x: NDArray, least: float, divisor: float, at: NDArray, out: NDArray) -> int:
    found = 0
    for k in range(x.size):
        value = np.float64(x[k])
        if value * value > least:
            at[found] = k
            out[found] = x[k] / divisor
            found += 1
    return found


def _beyond_arrays(x: NDArray, least: float, divisor: float, at: NDArray, out: NDArray) -> int:
    found = np.flatnonzero(x.astype(np.float64) ** 2 > least)
    at[: found.size] = found
    out[: found.size] = x[found] / np.float64(divisor)
    return int(found.size)


@compiled
def _grows_loop(x: NDArray, at: int, reach: int, price: float) -> bool:
    for side in (1, -1):
        total, k = 0.0, at
        for _ in range(min(reach, x.size - 1)):
            k += side
            if k == x.size:
                k = 0
            elif k < 0:
                k = x.size - 1
            value = np.float64(x[k])
            total += value * value - price
            if total > 0:
                return True
    return False


def _grows_arrays(x: NDArray, at: int, reach: int, price: float) -> bool:
    steps = np.arange(1, min(reach, x.size - 1) + 1)
    for side in (1, -1):
        value = x[(at + side * steps) % x.size].astype(np.float64)
        if (np.cumsum(value * value - price) > 0).any():
            return True
    return False


@compiled
def _next_beyond_loop(x: NDArray, start: int, least: float) -> int:
    for k in range(start, x.size):
        value = np.float64(x[k])
        if value * value > least:
            return k
    return x.size


def _next_beyond_arrays(x: NDArray, start: int, least: float) -> int:
    is_beyond = x[start:].astype(np.float64) ** 2 > least
    return start + int(is_beyond.argmax()) if is_beyond.any() else x.size


def _chosen(loop: Any, arrays: Any) -> Any:
    return loop if HAS_NUMBA else arrays


#: ``best_run(x, scale, price, cyclic)``: start, width and total of the run, never empty, of the
#: greatest sum of scale x² - price. A run inside the array is the largest rise of the prefix
#: sums; one that wraps around leaves out their largest fall.
best_run = _chosen(_best_run_loop, _best_run_arrays)
#: ``add_multiple(out, factor, x)``: adds factor x to `out`.
add_multiple = _chosen(_add_multiple_loop, _add_multiple_arrays)
#: ``take(x, start, divisor, out)``: the entries of a cyclic run, over `divisor`, fill `out`.
take = _chosen(_take_loop, _take_arrays)
#: ``add_at(out, at, factor, x)``: adds factor x to the entries `at` of `out`, each named once.
add_at = _chosen(_add_at_loop, _add_at_arrays)
#: ``beyond(x, least, divisor, at, out)``: the number of entries whose squares exceed `least`;
#: `at` begins with their places, and `out` with them over `divisor`.
beyond = _chosen(_beyond_loop, _beyond_arrays)
#: ``squared_norm(x)``: sum of squares, in double precision.
squared_norm = _chosen(_squared_norm_loop, _squared_norm_arrays)
#: ``largest(x)``: index of the largest entry, the first one of several.
largest = _chosen(_largest_loop, _largest_arrays)
#: ``farthest(x)``: index of the entry farthest from zero, the first one of several.
farthest = _chosen(_farthest_loop, _farthest_arrays)
#: ``grows(x, at, reach, price)``: True if a run that begins or ends next to x[at], of at most
#: `reach` entries, has a positive sum of x² - price.
grows = _chosen(_grows_loop, _grows_arrays)
#: ``next_beyond(x, start, least)``: the first place from `start` on whose square exceeds `least`;
#: the size of x if there is none.
next_beyond = _chosen(_next_beyond_loop, _next_beyond_arrays)
