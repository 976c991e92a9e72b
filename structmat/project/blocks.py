"""Moves of rank-one blocks with free ends: climbs, back-fits and births, compiled where possible.

The residual is held twice, as R (m, n) and as its transpose RT, so that both sides of a
block read whole rows. A block stands in `places` as (row, height, col, width), and in
`contents` as u on its rows, then v on its columns; `contents` has the blocks packed one after
another, so that its used length is the cost of all blocks. A function of two sides takes
(R, RT) or (RT, R) and names them `near` and `far`.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray
from structmat.project.compiled import compiled

#: Turns between rows and columns of one climb, at most: for a new block, and for an old one.
TURNS, BACKFIT_TURNS = 6, 3
#: Squared norm below which contents count as zero.
LEAST_NORM = 1e-60
#: Relative rise of the gain below which a climb ends.
STILL = 1e-6
#: Positions beyond each end that a climb sees first, as a multiple of the run, and at least.
REACH, LEAST_REACH = 2, 64
#: Share of the next promised gain that a candidate has to keep to become a block.
KEPT_GAIN = 0.9


@compiled
def best_run(x: NDArray, scale: float, price: float, cyclic: bool) -> tuple[int, int, float]:
    """Start, width and total of the run, never empty, of the greatest sum of scale x² - price.

    Two scans of the prefix sums at once: a run inside the array is their largest rise, a run
    that wraps around leaves out their largest fall.
    """
    n = x.size
    total = low = high = 0.0
    rise, rise_from, rise_to, low_at = -np.inf, 0, 0, 0
    fall, fall_from, fall_to, high_at = -np.inf, 0, 0, 0
    for k in range(n):
        value = np.float64(x[k])
        total += value * value * scale - price
        if total - low > rise:
            rise, rise_from, rise_to = total - low, low_at, k + 1
        if total < low:
            low, low_at = total, k + 1
        if high - total > fall:
            fall, fall_from, fall_to = high - total, high_at, k + 1
        if total > high:
            high, high_at = total, k + 1
    if cyclic and total + fall > rise and fall_to - fall_from < n:
        return fall_to % n, n - (fall_to - fall_from), total + fall
    return rise_from, rise_to - rise_from, rise


@compiled
def _add_multiple(out: NDArray, factor: float, x: NDArray) -> None:
    for k in range(out.size):
        out[k] += factor * x[k]


@compiled
def _respond(near: NDArray, start: int, x: NDArray, first: int, size: int, out: NDArray) -> None:
    """Sum of x_i times row start + i of `near`, on `size` positions from `first` on."""
    m, n = near.shape
    straight = min(size, n - first)
    out[:size] = 0
    for i in range(x.size):
        row = near[(start + i) % m]
        _add_multiple(out[:straight], x[i], row[first : first + straight])
        if straight < size:
            _add_multiple(out[straight:size], x[i], row[: size - straight])


@compiled
def _turn(
    near: NDArray,
    start: int,
    x: NDArray,
    at: int,
    width: int,
    price: float,
    work: NDArray,
    y: NDArray,
) -> tuple[int, int, float]:
    """Best run of the other side for contents x, its contents into y, and the total score.

    The run is looked for around the present one first (`at`, `width`), and on the whole axis
    if it reaches an end of what is seen.
    """
    n = near.shape[1]
    norm = _squared_norm(x)
    if not norm > LEAST_NORM:
        return at, 0, -np.inf
    beyond = max(LEAST_REACH, REACH * width)
    size = min(n, width + 2 * beyond)
    while True:
        first = (at - beyond) % n if size < n else 0
        _respond(near, start, x, first, size, work)
        begin, width, total = best_run(work[:size], 1.0 / norm, price, size == n)
        if size == n or (begin > 0 and begin + width < size):
            break
        size = n
    for k in range(width):
        y[k] = work[(begin + k) % size] / norm
    return (first + begin) % n, width, total


@compiled
def climb(
    R: NDArray,
    RT: NDArray,
    place: IntArray,
    u: NDArray,
    v: NDArray,
    work: NDArray,
    price: float,
    turns: int,
) -> float:
    """Best rows for v, best columns for those rows, and so on; returns the gain.

    `place`, and u and v from their beginnings, are overwritten. The gain is the energy that
    the block takes from the residual less the price of its rows and columns.
    """
    last = -np.inf
    for _ in range(turns):
        row, height, _ = _turn(RT, place[2], v[: place[3]], place[0], place[1], price, work, u)
        place[0], place[1] = row, height
        if height == 0:
            return -np.inf
        col, width, total = _turn(R, row, u[:height], place[2], place[3], price, work, v)
        place[2], place[3] = col, width
        if width == 0:
            return -np.inf
        gain = total - price * height
        if gain <= last + STILL * abs(last):
            return gain
        last = gain
    return last


@compiled
def change(R: NDArray, RT: NDArray, place: IntArray, u: NDArray, v: NDArray, sign: int) -> None:
    """Add `sign` times a block to the residual and its transpose."""
    _change_side(R, place[0], u[: place[1]], place[2], v[: place[3]], sign)
    _change_side(RT, place[2], v[: place[3]], place[0], u[: place[1]], sign)


@compiled
def _change_side(near: NDArray, start: int, x: NDArray, first: int, y: NDArray, sign: int) -> None:
    m, n = near.shape
    straight = min(y.size, n - first)
    for i in range(x.size):
        row = near[(start + i) % m]
        _add_multiple(row[first : first + straight], sign * x[i], y[:straight])
        if straight < y.size:
            _add_multiple(row[: y.size - straight], sign * x[i], y[straight:])


@compiled
def change_all(R: NDArray, RT: NDArray, places: IntArray, contents: NDArray, sign: int) -> None:
    """Add `sign` times every block to the residual."""
    begin = 0
    for k in range(len(places)):
        middle = begin + places[k, 1]
        end = middle + places[k, 3]
        change(R, RT, places[k], contents[begin:middle], contents[middle:end], sign)
        begin = end


@compiled
def by_worth(places: IntArray, contents: NDArray) -> tuple[IntArray, IntArray]:
    """Order of the blocks, least energy per multiplication first, and where each begins."""
    count = len(places)
    worth, begins = np.zeros(count), np.zeros(count, np.int64)
    begin = 0
    for k in range(count):
        begins[k] = begin
        middle, end = begin + places[k, 1], begin + places[k, 1] + places[k, 3]
        energy = _squared_norm(contents[begin:middle]) * _squared_norm(contents[middle:end])
        worth[k] = energy / (end - begin)
        begin = end
    return np.argsort(worth, kind="mergesort"), begins


@compiled
def backfit(
    R: NDArray,
    RT: NDArray,
    places: IntArray,
    contents: NDArray,
    price: float,
    charge: float,
    room: int,
) -> tuple[IntArray, NDArray]:
    """Take out each block, climb from it, and put it back if it gains: least worth first.

    A block whose climb would bring all blocks beyond `room` multiplications stays as it was.
    """
    m, n = R.shape
    u, v = np.empty(m, R.dtype), np.empty(n, R.dtype)
    work, place = np.empty(max(m, n), R.dtype), np.empty(4, np.int64)
    order, begins = by_worth(places, contents)
    kept, packed = np.empty_like(places), np.empty(max(room, contents.size), R.dtype)
    count = used = 0
    spare = max(room, contents.size) - contents.size
    for k in order:
        height, width = places[k, 1], places[k, 3]
        middle, end = begins[k] + height, begins[k] + height + width
        place[:] = places[k]
        u[:height], v[:width] = contents[begins[k] : middle], contents[middle:end]
        change(R, RT, place, u, v, 1)
        gain = climb(R, RT, place, u, v, work, price, BACKFIT_TURNS)
        if gain <= price * charge:
            spare += height + width
            continue
        growth = place[1] + place[3] - height - width
        if growth > spare:
            growth = 0
            place[:] = places[k]
            u[:height], v[:width] = contents[begins[k] : middle], contents[middle:end]
        spare -= growth
        change(R, RT, place, u, v, -1)
        count, used = _push(kept, packed, count, used, place, u, v)
    return kept[:count].copy(), packed[:used].copy()


@compiled
def _push(
    places: IntArray,
    contents: NDArray,
    count: int,
    used: int,
    place: IntArray,
    u: NDArray,
    v: NDArray,
) -> tuple[int, int]:
    """Write a block behind `count` others; returns the new numbers of blocks and contents."""
    height, width = place[1], place[3]
    places[count] = place
    contents[used : used + height] = u[:height]
    contents[used + height : used + height + width] = v[:width]
    return count + 1, used + height + width


@compiled
def _candidate(
    R: NDArray,
    RT: NDArray,
    seed: int,
    place: IntArray,
    u: NDArray,
    v: NDArray,
    work: NDArray,
    price: float,
) -> float:
    """Climb from the best run of row `seed`, or of column `seed` - m; returns the gain."""
    m = R.shape[0]
    if seed < m:
        start, width, _ = best_run(R[seed], 1.0, price, True)
        place[0], place[1], place[2], place[3] = seed, 1, start, width
        for k in range(width):
            v[k] = R[seed, (start + k) % R.shape[1]]
        return climb(R, RT, place, u, v, work, price, TURNS)
    seed -= m
    start, width, _ = best_run(RT[seed], 1.0, price, True)
    place[0], place[1], place[2], place[3] = seed, 1, start, width
    for k in range(width):
        u[k] = RT[seed, (start + k) % m]
    gain = climb(RT, R, place, v, u, work, price, TURNS)
    place[0], place[1], place[2], place[3] = place[2], place[3], place[0], place[1]
    return gain


@compiled
def births(
    R: NDArray,
    RT: NDArray,
    places: IntArray,
    contents: NDArray,
    price: float,
    charge: float,
    room: int,
) -> tuple[IntArray, NDArray]:
    """Add blocks that gain, best first, while all together cost at most `room`.

    Every row and every column is a candidate. The best promise is climbed again in the
    present residual, and becomes a block if it still is about as good as the next one;
    otherwise it goes back with its new promise. A candidate remains after a birth.
    """
    m, n = R.shape
    u, v = np.empty(m, R.dtype), np.empty(n, R.dtype)
    work, place = np.empty(max(m, n), R.dtype), np.empty(4, np.int64)
    old, used = len(places), contents.size
    least = price * charge
    heap = [(0.0, 0)]
    heap.clear()
    for seed in range(m + n):
        gain = _candidate(R, RT, seed, place, u, v, work, price)
        if gain > least:
            heap.append((-gain, seed))
    heapq.heapify(heap)
    most = max((room - used) // 2, 0)
    born, packed = np.empty((most, 4), np.int64), np.empty(max(room - used, 0), R.dtype)
    count = filled = 0
    while len(heap) > 0:
        _, seed = heapq.heappop(heap)
        gain = _candidate(R, RT, seed, place, u, v, work, price)
        if gain <= least:
            continue
        if len(heap) > 0 and gain < -KEPT_GAIN * heap[0][0]:
            heapq.heappush(heap, (-gain, seed))
        elif filled + place[1] + place[3] <= room - used:
            change(R, RT, place, u, v, -1)
            count, filled = _push(born, packed, count, filled, place, u, v)
            heapq.heappush(heap, (-gain, seed))
    all_places = np.empty((old + count, 4), np.int64)
    all_places[:old], all_places[old:] = places, born[:count]
    return all_places, np.concatenate((contents, packed[:filled]))


@compiled
def refit(R: NDArray, RT: NDArray, places: IntArray, contents: NDArray) -> None:
    """Fit the contents of each block on its own runs, in place; the energy never grows."""
    work = np.empty(max(R.shape), R.dtype)
    begin = 0
    for k in range(len(places)):
        row, height, col, width = places[k]
        u, v = contents[begin : begin + height], contents[begin + height : begin + height + width]
        change(R, RT, places[k], u, v, 1)
        _fit_side(RT, col, v, row, u, work)
        _fit_side(R, row, u, col, v, work)
        change(R, RT, places[k], u, v, -1)
        begin += height + width


@compiled
def _fit_side(near: NDArray, start: int, x: NDArray, first: int, y: NDArray, work: NDArray) -> None:
    """Best contents y on a run of the other side for contents x; zeros keep y."""
    norm = _squared_norm(x)
    if norm > 0:
        _respond(near, start, x, first, y.size, work)
        for k in range(y.size):
            y[k] = work[k] / norm


@compiled
def _squared_norm(x: NDArray) -> float:
    total = 0.0
    for k in range(x.size):
        value = np.float64(x[k])
        total += value * value
    return total
