"""Moves of rank-one blocks on subsets of rows and columns, compiled where possible.

The residual is held twice, as R (m, n) and as its transpose RT, as for `blocks`. A block of
`h` rows and `w` columns fills the beginnings of `rows` and `u`, and of `cols` and `v`; `size`
holds (h, w).
"""

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray
from structmat.project.blocks import count
from structmat.project.compiled import compiled
from structmat.project.vectors import add_at, add_multiple, beyond, largest, squared_norm

#: Turns between rows and columns of one climb, at most.
TURNS = 6
#: Relative rise of the gain below which a climb ends.
STILL = 1e-6
#: Gain of a candidate, relative to that of the next one, from which it is taken.
CLOSE = 0.95


@compiled
def _respond(near: NDArray, at: IntArray, x: NDArray, out: NDArray) -> None:
    """Sum of x_i times row at_i of `near`."""
    out[:] = 0
    for i in range(x.size):
        add_multiple(out, x[i], near[at[i]])


@compiled
def _turn(
    near: NDArray,
    at: IntArray,
    x: NDArray,
    price: float,
    work: NDArray,
    found: IntArray,
    y: NDArray,
) -> int:
    """Best members of the other side for contents x, with their contents; their number."""
    norm = squared_norm(x)
    if norm == 0:
        return 0
    out = work[: near.shape[1]]
    _respond(near, at, x, out)
    return beyond(out, price * norm, norm, found, y)


@compiled
def ascend(
    R: NDArray,
    RT: NDArray,
    price: float,
    size: IntArray,
    rows: IntArray,
    u: NDArray,
    cols: IntArray,
    v: NDArray,
    work: NDArray,
) -> float:
    """Best rows for v on its columns, best columns for those rows, and so on; the gain.

    The block is overwritten. The gain is the energy that it takes from the residual less the
    price of its multiplications; minus infinity if nothing is left.
    """
    gain = -np.inf
    w = size[1]
    for _ in range(TURNS):
        h = _turn(RT, cols[:w], v[:w], price, work, rows, u)
        if h == 0:
            return -np.inf
        w = _turn(R, rows[:h], u[:h], price, work, cols, v)
        if w == 0:
            return -np.inf
        size[0], size[1] = h, w
        last = gain
        gain = squared_norm(u[:h]) * squared_norm(v[:w]) - price * count(h, w)
        if gain <= last + STILL * abs(last):
            break
    return gain


@compiled
def change(
    R: NDArray,
    RT: NDArray,
    rows: IntArray,
    u: NDArray,
    cols: IntArray,
    v: NDArray,
    sign: int,
) -> None:
    """Add `sign` times a block to the residual and its transpose."""
    for i in range(u.size):
        add_at(R[rows[i]], cols, u[i] if sign > 0 else -u[i], v)
    for j in range(v.size):
        add_at(RT[cols[j]], rows, v[j] if sign > 0 else -v[j], u)


@compiled
def _seeded(
    R: NDArray,
    RT: NDArray,
    seed: int,
    price: float,
    size: IntArray,
    rows: IntArray,
    u: NDArray,
    cols: IntArray,
    v: NDArray,
    work: NDArray,
) -> float:
    """Gain of the block that grows from the large entries of row `seed`, or column `seed` - m."""
    m = R.shape[0]
    if seed < m:
        size[1] = beyond(R[seed], price, 1.0, cols, v)
    else:
        h = beyond(RT[seed - m], price, 1.0, rows, u)
        size[1] = 0 if h == 0 else _turn(R, rows[:h], u[:h], price, work, cols, v)
    if size[1] == 0:
        return -np.inf
    return ascend(R, RT, price, size, rows, u, cols, v, work)


@compiled
def find(
    R: NDArray,
    RT: NDArray,
    price: float,
    charge: float,
    room: int,
    seeds: IntArray,
    sizes: IntArray,
    places: IntArray,
    contents: NDArray,
) -> int:
    """Take blocks out of the residual, the one of largest gain first; returns their number.

    Candidates begin at `seeds`: rows, and m plus columns. The blocks fill `sizes`, shape (k, 2),
    `places` and `contents`, rows before columns, until they cost `room`.
    """
    m, n = R.shape
    rows, u = np.empty(m, np.int64), np.empty(m, R.dtype)
    cols, v = np.empty(n, np.int64), np.empty(n, R.dtype)
    size, work = np.empty(2, np.int64), np.empty(max(m, n), R.dtype)
    gains = np.empty(seeds.size)
    for k in range(seeds.size):
        gains[k] = _seeded(R, RT, seeds[k], price, size, rows, u, cols, v, work)
    found = used = 0
    while room > 0 and gains.size > 0:
        k = largest(gains)
        if gains[k] <= price * charge:
            break
        gains[k] = _seeded(R, RT, seeds[k], price, size, rows, u, cols, v, work)
        if gains[k] <= price * charge or gains[k] < CLOSE * gains[largest(gains)]:
            continue
        h, w = size[0], size[1]
        change(R, RT, rows[:h], u[:h], cols[:w], v[:w], -1)
        sizes[found, 0], sizes[found, 1] = h, w
        places[used : used + h], places[used + h : used + h + w] = rows[:h], cols[:w]
        contents[used : used + h], contents[used + h : used + h + w] = u[:h], v[:w]
        used += h + w
        room -= count(h, w)
        found += 1
    return found
