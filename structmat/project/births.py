"""Births of rank-one blocks: candidates from runs of rows and columns, the best ones first."""

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray
from structmat.project.blocks import TURNS, change, climb, count, is_alone, write
from structmat.project.compiled import compiled
from structmat.project.vectors import next_beyond, take

#: Share of the next promised gain that a candidate has to keep to become a block.
KEPT_GAIN = 0.9
#: Candidates at most, as a multiple of the multiplications that blocks may cost.
MOST_CANDIDATES = 4
#: Candidates that are expected at first; more of them take one more pass.
EXPECTED = 2**10


def births(
    R: NDArray, RT: NDArray, price: float, charge: float, room: int
) -> tuple[IntArray, NDArray]:
    """Places and packed contents of new blocks, of at most `room` multiplications together.

    Candidates begin at runs of rows and columns. The best promise is climbed again in the
    present residual, and becomes a block if it still is about as good as the next one;
    otherwise it waits with its new promise.
    """
    runs = _candidates(R, RT, price, MOST_CANDIDATES * room)
    gains = np.empty(len(runs))
    _promise(R, RT, runs, gains, price)
    places, contents = [np.zeros((0, 4), np.int64)], [np.zeros(0, R.dtype)]
    while room > 0:
        order = np.argsort(-gains, kind="stable")
        order = order[: np.count_nonzero(gains > price * charge)]
        if not order.size:
            break
        # A block of a single entry costs one multiplication and has two contents.
        found = np.empty((min(room, order.size), 4), np.int64)
        packed = np.empty(2 * room, R.dtype)
        some, used, room = _take_best(
            R, RT, runs, gains, order, price * charge, price, room, found, packed
        )
        places.append(found[:some])
        contents.append(packed[:used].copy())
    return np.concatenate(places), np.concatenate(contents)


def _candidates(R: NDArray, RT: NDArray, price: float, most: int) -> IntArray:
    """Runs of rows and columns that hold more than their price: (line, start, width).

    Lines are the rows and then the columns. Of more than `most` runs, those that hold most.
    """
    found, sums = np.empty((EXPECTED, 3), np.int64), np.empty(EXPECTED)
    while True:
        number = _runs_of_lines(R, 0, price, found, sums, 0)
        number = _runs_of_lines(RT, len(R), price, found, sums, number)
        if number <= len(found):
            break
        found, sums = np.empty((number, 3), np.int64), np.empty(number)
    if number > most:
        return found[np.argsort(-sums[:number], kind="stable")[:most]]
    return found[:number]


@compiled
def _runs_of_lines(
    near: NDArray, first: int, price: float, found: IntArray, sums: NDArray, count: int
) -> int:
    """Write the runs of all rows, and what they hold, from place `count` on while there is room.

    A run begins at an entry worth its price, is spent where the entries so far are not, and ends
    where they hold most. Returns the number of all runs. Rows are numbered from `first` on.
    """
    m, n = near.shape
    for i in range(m):
        x, k = near[i], 0
        while True:
            k = next_beyond(x, k, price)
            if k == n:
                break
            begin = end = k
            total = best = 0.0
            while True:
                value = np.float64(x[k])
                total += value * value - price
                k += 1
                if total > best:
                    best, end = total, k
                if total <= 0 or k == n:
                    break
            if count < len(found):
                found[count, 0], found[count, 1], found[count, 2] = first + i, begin, end - begin
                sums[count] = best
            count += 1
    return count


@compiled
def _climbed(
    R: NDArray,
    RT: NDArray,
    run: IntArray,
    place: IntArray,
    u: NDArray,
    v: NDArray,
    work: NDArray,
    price: float,
) -> float:
    """Climb from a run to a block; returns the gain."""
    m = R.shape[0]
    line, start, width = run
    i, j = (line, start) if line < m else (start, line - m)
    if width == 1 and is_alone(R, RT, i, j, price):
        place[0], place[1], place[2], place[3] = i, 1, j, 1
        u[0], v[0] = 1.0, R[i, j]
        return np.float64(R[i, j]) ** 2 - price * count(1, 1)
    if line < m:
        place[0], place[1], place[2], place[3] = i, 1, j, width
        take(R[i], start, 1.0, v[:width])
        return climb(R, RT, place, u, v, work, price, TURNS)
    place[0], place[1], place[2], place[3] = j, 1, i, width
    take(RT[j], start, 1.0, u[:width])
    gain = climb(RT, R, place, v, u, work, price, TURNS)
    place[0], place[1], place[2], place[3] = place[2], place[3], place[0], place[1]
    return gain


@compiled
def _promise(R: NDArray, RT: NDArray, runs: IntArray, gains: NDArray, price: float) -> None:
    """Gains of blocks that begin at runs."""
    m, n = R.shape
    u, v = np.empty(m, R.dtype), np.empty(n, R.dtype)
    work, place = np.empty(max(m, n), R.dtype), np.empty(4, np.int64)
    for k in range(len(runs)):
        gains[k] = _climbed(R, RT, runs[k], place, u, v, work, price)


@compiled
def _take_best(
    R: NDArray,
    RT: NDArray,
    runs: IntArray,
    gains: NDArray,
    order: IntArray,
    least: float,
    price: float,
    room: int,
    born: IntArray,
    packed: NDArray,
) -> tuple[int, int, int]:
    """Take blocks out of the residual in order of their promises.

    Those that gain `least` or less promise nothing any more, nor those that became blocks.
    Returns the number of blocks, the size of their contents, and the room that is left.
    """
    m, n = R.shape
    u, v = np.empty(m, R.dtype), np.empty(n, R.dtype)
    work, place = np.empty(max(m, n), R.dtype), np.empty(4, np.int64)
    found = used = 0
    for at in range(order.size):
        k = order[at]
        gain = _climbed(R, RT, runs[k], place, u, v, work, price)
        gains[k] = gain
        if gain <= least:
            continue
        if at + 1 < order.size and gain < KEPT_GAIN * gains[order[at + 1]]:
            continue
        gains[k] = -np.inf
        cost = count(place[1], place[3])
        if cost > room:
            continue
        room -= cost
        change(R, RT, place, u, v, -1)
        used += write(place, u, v, born[found], packed[used:])
        found += 1
    return found, used, room
