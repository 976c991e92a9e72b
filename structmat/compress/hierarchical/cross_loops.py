"""Compiled adaptive cross approximation of a rectangle of a named kernel.

Rows and columns of a rectangle are evaluated until they stop to contribute; entries at random
then have to agree, or the worst of them names the next row.

Import this module where it is used: it imports Numba.
"""

import numpy as np

from structmat.kernels.cpu.llvm import compiled_sums
from structmat.sources.compiled_kernels import kernel_values

#: Entries at random on which a rectangle is checked, twice, and most checks.
CHECKED, CHECKS = 8, 24
#: Rows, and columns, at random on which a rectangle is checked whose sides touch, and their
#: diameter, as a multiple of the distance between them, from which on they do.
LINES, TOUCHING = 4, 4.0
#: Entries up to which a rectangle with equal points is checked whole.
WHOLE = 2**14
#: Rows without anything new after which a rectangle is checked.
EMPTY = 8
#: Share of a squared bound that rows and columns may stop at.
STOP = 0.02
#: Rank that factors have room for at first; they double as they grow.
FIRST_RANK = 16


@compiled_sums
def evaluate(code, scale, X, i, Y, first, last, out):
    """Write the entries of point i of X with points `first` to `last` of Y, (d, n), to `out`."""
    count = last - first
    out[:count] = 0.0
    for k in range(X.shape[0]):
        x, row = X[k, i], Y[k, first:last]
        for j in range(count):
            step = x - row[j]
            out[j] += step * step
    kernel_values(code, out[:count], scale)


@compiled_sums
def _random(state):
    """The next number of a generator (splitmix64), and its state."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, z ^ (z >> np.uint64(31))


@compiled_sums
def _below(count, z):
    """A position below `count`, by a random number."""
    return np.int64(z % np.uint64(count))


@compiled_sums
def inner(a, b):
    """Sum of the products of two lines' entries."""
    total = 0.0
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@compiled_sums
def _subtract(line, factor, other, at, count):
    """Subtract from a line what `count` crosses have of it."""
    for l in range(count):
        z = factor[l, at]
        for j in range(line.size):
            line[j] -= z * other[l, j]


@compiled_sums
def _largest(line, used):
    """Position of the largest number among those not used, and its size."""
    best, at = -1.0, -1
    for j in range(line.size):
        size = abs(line[j])
        if size > best and not used[j]:
            best, at = size, j
    return at, best


@compiled_sums
def _nearest(X, a, b, Y, c, d):
    """Numbers of some points of X, the root of their number, nearest to the box of those of Y.

    Of equally near ones, those next to the middle of the box come first. The squared distance
    of the first one and the squared diameter of the box are returned, too.
    """
    distance, middle, diameter = np.zeros(b - a), np.zeros(b - a), 0.0
    for k in range(X.shape[0]):
        low, high = Y[k, c:d].min(), Y[k, c:d].max()
        diameter += (high - low) ** 2
        for i in range(b - a):
            x = X[k, a + i]
            distance[i] += max(low - x, x - high, 0.0) ** 2
            middle[i] += (x - 0.5 * (low + high)) ** 2
    order = np.argsort(distance + 1e-6 * middle)
    return order[: int(np.ceil(np.sqrt(b - a)))], distance[order[0]], diameter


@compiled_sums
def _unused(used, first):
    """The first position from `first` on, and around, that is not used; -1 for none."""
    for k in range(used.size):
        at = (first + k) % used.size
        if not used[at]:
            return at
    return -1


@compiled_sums
def cross(code, scale, X, Y, a, b, c, d, bound, most, copies, state):
    """Approximate rows a to b and columns c to d to a squared error of about `bound`.

    Returns U^T (r, p), V^T (r, q), the entries evaluated, and whether the checks agreed before
    the rank `most` was reached.
    """
    p, q = b - a, d - c
    limit = min(p, q, most)
    room = min(FIRST_RANK, limit)
    U, V = np.empty((room, p)), np.empty((room, q))
    used_rows, used_cols = np.zeros(p, np.bool_), np.zeros(q, np.bool_)
    row, col, one = np.empty(q), np.empty(p), np.empty(1)
    rank, evaluated, checks, empty, agreed = 0, 0, 0, 0, False
    near_rows, gap, width = _nearest(X, a, b, Y, c, d)
    near_cols, gap, height = _nearest(Y, c, d, X, a, b)
    # Copies hide each other from checks at random, so small rectangles are checked whole.
    whole = copies and p * q <= WHOLE
    touching = max(width, height) > TOUCHING**2 * gap
    i = near_rows[0]
    while True:
        ended = i < 0
        if not ended:
            evaluate(code, scale, X, a + i, Y, c, d, row)
            evaluated += q
            _subtract(row, U, V, i, rank)
            used_rows[i] = True
            j, size = _largest(row, used_cols)
            if size * size * p * q <= STOP * bound:
                # A row with nothing to divide by, which may be a copy of one before.
                empty += 1
                ended = empty > EMPTY
                if not ended:
                    if rank > 0 and empty % 4 != 0:
                        i, _ = _largest(U[rank - 1], used_rows)
                    else:
                        state, z = _random(state)
                        i = _unused(used_rows, _below(p, z))
                    continue
        if not ended:
            if rank == limit:
                break
            evaluate(code, scale, Y, c + j, X, a, b, col)
            evaluated += p
            _subtract(col, V, U, j, rank)
            used_cols[j] = True
            if rank == room:
                room = min(2 * room, limit)
                more_u, more_v = np.empty((room, p)), np.empty((room, q))
                more_u[:rank], more_v[:rank] = U[:rank], V[:rank]
                U, V = more_u, more_v
            height, width = 0.0, 0.0
            for k in range(p):
                U[rank, k] = col[k] / row[j]
                height += U[rank, k] ** 2
            for k in range(q):
                V[rank, k] = row[k]
                width += row[k] ** 2
            rank += 1
            ended = height * width <= STOP * bound
            i, _ = _largest(U[rank - 1], used_rows)
            empty = 0
        if ended and whole:
            total, worst, at = 0.0, -1.0, -1
            for k in range(p):
                evaluate(code, scale, X, a + k, Y, c, d, row)
                _subtract(row, U, V, k, rank)
                missed = inner(row, row)
                total += missed
                if missed > worst and not used_rows[k]:
                    worst, at = missed, k
            evaluated += p * q
            agreed = total <= 0.25 * bound
        elif ended and touching:
            # Whole lines, at random and where the two sides meet.
            most_missed, at = 0.25 * bound, -1
            agreed = True
            for some in range(2 * LINES):
                by_rows = some < LINES
                near, size = (near_rows, p) if by_rows else (near_cols, q)
                state, z = _random(state)
                k = _below(size, z) if some % 2 == 0 else near[_below(near.size, z)]
                line = row if by_rows else col
                if by_rows:
                    evaluate(code, scale, X, a + k, Y, c, d, line)
                    _subtract(line, U, V, k, rank)
                else:
                    evaluate(code, scale, Y, c + k, X, a, b, line)
                    _subtract(line, V, U, k, rank)
                evaluated += line.size
                missed = inner(line, line) * (size if some % 2 == 0 else near.size)
                if missed > most_missed:
                    agreed = False
                    next_row = k if by_rows else _largest(line, used_rows)[0]
                    if next_row >= 0 and not used_rows[next_row]:
                        most_missed, at = missed, next_row
        elif ended:
            worst, at, agreed = -1.0, -1, True
            # All entries, and those between the lines that are nearest to each other.
            for some in range(2):
                height, width = (p, q) if some == 0 else (near_rows.size, near_cols.size)
                total = 0.0
                for _ in range(CHECKED):
                    state, z = _random(state)
                    k = _below(height, z)
                    state, z = _random(state)
                    l = _below(width, z)
                    if some == 1:
                        k, l = near_rows[k], near_cols[l]
                    evaluate(code, scale, X, a + k, Y, c + l, c + l + 1, one)
                    value = one[0]
                    for h in range(rank):
                        value -= U[h, k] * V[h, l]
                    total += value * value
                    if abs(value) > worst and not used_rows[k]:
                        worst, at = abs(value), k
                agreed = agreed and total * height * width <= 0.25 * bound * CHECKED
            evaluated += 2 * CHECKED
        if ended:
            checks += 1
            agreed = agreed or at < 0
            if agreed or checks == CHECKS:
                break
            i, empty = at, 0
    return U[:rank], V[:rank], evaluated, agreed
