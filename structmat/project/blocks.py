"""Moves of rank-one blocks with free ends: climbs and back-fits, compiled where possible.

The residual is held twice, as R (m, n) and as its transpose RT, so that both sides of a
block read whole rows. A block stands in `places` as (row, height, col, width), and in
`contents` as u on its rows, then v on its columns; `contents` has the blocks packed one after
another. A function of two sides takes (R, RT) or (RT, R) and names them `near` and `far`.
"""

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray, multiplications
from structmat.project.compiled import compiled
from structmat.project.vectors import add_multiple, best_run, farthest, grows, squared_norm, take

#: Multiplications of a block from its numbers of rows and columns.
count = compiled(multiplications)
#: Turns between rows and columns of one climb, at most: for a new block, and for an old one.
TURNS, BACKFIT_TURNS = 6, 3
#: Squared norm below which contents count as zero.
LEAST_NORM = 1e-60
#: Relative rise of the gain below which a climb ends.
STILL = 1e-6
#: Positions beyond each end that a climb sees first, as a multiple of the run, and at least.
REACH, LEAST_REACH = 2, 16


@compiled
def _respond(near: NDArray, start: int, x: NDArray, first: int, size: int, out: NDArray) -> None:
    """Sum of x_i times row start + i of `near`, on `size` positions from `first` on."""
    m, n = near.shape
    straight = min(size, n - first)
    out[:size] = 0
    for i in range(x.size):
        row = near[(start + i) % m]
        add_multiple(out[:straight], x[i], row[first : first + straight])
        if straight < size:
            add_multiple(out[straight:size], x[i], row[: size - straight])


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
    """Best run of the other side for contents x, its contents into y, and the gain.

    The gain is the energy of the block less the price of its multiplications. The run is
    looked for around the present one first (`at`, `width`), and on the whole axis if it reaches
    an end of what is seen.
    """
    n = near.shape[1]
    norm = squared_norm(x)
    if not norm > LEAST_NORM:
        return at, 0, -np.inf
    beyond = max(LEAST_REACH, REACH * width)
    size = min(n, width + 2 * beyond)
    while True:
        first = (at - beyond) % n if size < n else 0
        _respond(near, start, x, first, size, work)
        begin, width, gain = _best_side(work[:size], x.size, norm, price, size == n)
        if size == n or (begin > 0 and begin + width < size):
            break
        size = n
    take(work[:size], begin, norm, y[:width])
    return (first + begin) % n, width, gain


@compiled
def _best_side(
    x: NDArray, other: int, norm: float, price: float, cyclic: bool
) -> tuple[int, int, float]:
    """Best run of one side, and the gain of the block, whose other side has `other` entries."""
    start, width, total = best_run(x, 1.0 / norm, price, cyclic)
    gain = total + price * (width - count(other, width))
    if other > 1:
        # A single entry takes no multiplication: it may be better than the best run.
        at = farthest(x)
        alone = np.float64(x[at]) ** 2 / norm - price * count(other, 1)
        if alone > gain:
            return at, 1, alone
    return start, width, gain


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
        old_height, old_width = place[1], place[3]
        row, height, _ = _turn(RT, place[2], v[:old_width], place[0], old_height, price, work, u)
        is_still = row == place[0] and height == old_height
        place[0], place[1] = row, height
        if height == 0:
            return -np.inf
        col, width, gain = _turn(R, row, u[:height], place[2], old_width, price, work, v)
        is_still &= col == place[2] and width == old_width
        place[2], place[3] = col, width
        if width == 0:
            return -np.inf
        # The contents of a line are exact at once.
        if gain <= last + STILL * abs(last) or (is_still and min(height, width) == 1):
            return gain
        last = gain
    return last


@compiled
def is_single(place: IntArray) -> bool:
    """True for a block of one entry."""
    return place[1] == 1 and place[3] == 1


@compiled
def is_alone(R: NDArray, RT: NDArray, i: int, j: int, price: float) -> bool:
    """True if no longer run of row i or of column j that holds entry (i, j) gains more."""
    return not (grows(R[i], j, LEAST_REACH, price) or grows(RT[j], i, LEAST_REACH, price))


@compiled
def put_back(R: NDArray, RT: NDArray, place: IntArray, packed: NDArray) -> float:
    """Add a block of one entry to the residual; returns the energy of the entry."""
    i, j = place[0], place[2]
    R[i, j] += packed[0] * packed[1]
    RT[j, i] = R[i, j]
    return np.float64(R[i, j]) ** 2


@compiled
def take_out(R: NDArray, RT: NDArray, place: IntArray, packed: NDArray) -> None:
    """Make one entry of the residual a block, which leaves nothing of it."""
    i, j = place[0], place[2]
    packed[0], packed[1] = 1.0, R[i, j]
    R[i, j] = RT[j, i] = 0.0


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
        row, factor = near[(start + i) % m], x[i] if sign > 0 else -x[i]
        add_multiple(row[first : first + straight], factor, y[:straight])
        if straight < y.size:
            add_multiple(row[: y.size - straight], factor, y[straight:])


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
def backfit(
    R: NDArray,
    RT: NDArray,
    order: IntArray,
    begins: IntArray,
    places: IntArray,
    contents: NDArray,
    price: float,
    charge: float,
    room: int,
    kept: IntArray,
    packed: NDArray,
) -> tuple[int, int]:
    """Take out each block in the given order, climb from it, and put it back if it gains.

    The blocks that gain are written to `kept` and `packed`; returns their number and the size
    of their contents. A block whose climb would cost `room` multiplications more than there
    were stays as it was.
    """
    m, n = R.shape
    u, v = np.empty(m, R.dtype), np.empty(n, R.dtype)
    work, place = np.empty(max(m, n), R.dtype), np.empty(4, np.int64)
    kept_count = used = 0
    for k in order:
        block = contents[begins[k] :]
        if is_single(places[k]) and is_alone(R, RT, places[k, 0], places[k, 2], price):
            if put_back(R, RT, places[k], block) > price * (1 + charge):
                take_out(R, RT, places[k], packed[used:])
                kept[kept_count] = places[k]
                kept_count += 1
                used += 2
            else:
                room += 1
            continue
        read(places[k], block, place, u, v)
        cost = count(place[1], place[3])
        change(R, RT, place, u, v, 1)
        gain = climb(R, RT, place, u, v, work, price, BACKFIT_TURNS)
        if gain <= price * charge:
            room += cost
            continue
        if count(place[1], place[3]) - cost > room:
            read(places[k], block, place, u, v)
        room -= count(place[1], place[3]) - cost
        change(R, RT, place, u, v, -1)
        used += write(place, u, v, kept[kept_count], packed[used:])
        kept_count += 1
    return kept_count, used


@compiled
def read(stored: IntArray, packed: NDArray, place: IntArray, u: NDArray, v: NDArray) -> None:
    """Read a block, whose packed contents come first, into `place`, u and v."""
    place[:] = stored
    height, width = place[1], place[3]
    u[:height] = packed[:height]
    v[:width] = packed[height : height + width]


@compiled
def write(place: IntArray, u: NDArray, v: NDArray, stored: IntArray, packed: NDArray) -> int:
    """Write a block, its packed contents to the beginning; returns their size."""
    stored[:] = place
    height, width = place[1], place[3]
    packed[:height] = u[:height]
    packed[height : height + width] = v[:width]
    return height + width


@compiled
def refit(R: NDArray, RT: NDArray, places: IntArray, contents: NDArray) -> None:
    """Fit the contents of each block on its own runs, in place; the energy never grows."""
    work = np.empty(max(R.shape), R.dtype)
    begin = 0
    for k in range(len(places)):
        row, height, col, width = places[k, 0], places[k, 1], places[k, 2], places[k, 3]
        middle, end = begin + height, begin + height + width
        u, v = contents[begin:middle], contents[middle:end]
        if is_single(places[k]):
            put_back(R, RT, places[k], contents[begin:end])
            take_out(R, RT, places[k], contents[begin:end])
        else:
            change(R, RT, places[k], u, v, 1)
            _fit_side(RT, col, v, row, u, work)
            _fit_side(R, row, u, col, v, work)
            change(R, RT, places[k], u, v, -1)
        begin = end


@compiled
def _fit_side(near: NDArray, start: int, x: NDArray, first: int, y: NDArray, work: NDArray) -> None:
    """Best contents y on a run of the other side for contents x; zeros keep y."""
    norm = squared_norm(x)
    if norm > 0:
        _respond(near, start, x, first, y.size, work)
        take(work[: y.size], 0, norm, y)
