"""Sparse patterns for the tests of kernels, each with a dense twin made from its definition."""

import numpy as np
from hypothesis import strategies as st

from structmat.kernels.layouts.panels import BlockPattern, RunPattern, StackedPattern


def runs(start, width, n):
    return RunPattern(np.array(start, np.int64), np.array(width, np.int64), n)


def blocks(rows, cols, block, shape):
    rows, cols = np.array(rows, np.int64), np.array(cols, np.int64)
    return BlockPattern(rows, cols, block, shape)


def stacked(sizes, tiles, columns):
    """`tiles` are pairs of a panel and of columns; contents stand in their order."""
    sizes, placed, first = np.array(sizes, np.int64), [], 0
    for panel, column in tiles:
        column = np.array(column, np.int64)
        placed.append((panel, first, column))
        first += int(sizes[panel]) * column.size
    return StackedPattern(sizes, placed, columns)


def total(pattern):
    """How many packed contents a pattern has."""
    if isinstance(pattern, RunPattern):
        return int(pattern.width.sum())
    if isinstance(pattern, BlockPattern):
        return pattern.rows.size * pattern.block[0] * pattern.block[1]
    return sum(int(pattern.sizes[panel]) * column.size for panel, _, column in pattern.tiles)


def dense(pattern, contents):
    """The factor entry by entry."""
    D, given = np.zeros(pattern.shape, contents.dtype), iter(contents)
    if isinstance(pattern, RunPattern):
        for k, (start, width) in enumerate(zip(pattern.start, pattern.width, strict=True)):
            for i in range(width):
                D[(start + i) % pattern.n, k] = next(given)
    elif isinstance(pattern, BlockPattern):
        (p, q), (m, n) = pattern.block, pattern.shape
        for r, s in zip(pattern.rows, pattern.cols, strict=True):
            block = np.array([next(given) for _ in range(p * q)], D.dtype).reshape(p, q)
            D[r * p : (r + 1) * p, s * q : (s + 1) * q] = block[: m - r * p, : n - s * q]
    else:
        top = np.cumsum([0, *pattern.sizes])
        for panel, first, column in pattern.tiles:
            for i in range(pattern.sizes[panel]):
                begin = first + i * column.size
                D[top[panel] + i, column] = contents[begin : begin + column.size]
    return D


def draw(pattern, dtype, seed=0):
    """Random contents."""
    rng = np.random.default_rng(seed)
    contents = rng.standard_normal(total(pattern))
    if np.issubdtype(dtype, np.complexfloating):
        contents = contents + 1j * rng.standard_normal(contents.size)
    return contents.astype(dtype)


def random_runs(n, count, widest, seed=0):
    rng = np.random.default_rng(seed)
    return runs(rng.integers(0, n, count), rng.integers(0, widest + 1, count), n)


PATTERNS = {
    "runs": random_runs(200, 150, 60),
    "runs-prime": random_runs(97, 53, 97),
    "runs-wide": random_runs(31, 400, 31),
    "runs-short": random_runs(500, 100, 3),
    "runs-around": runs(range(40, 60), range(45, 65), 67),
    "runs-full": runs(range(0, 37, 3), [37] * 13, 37),
    "runs-on-one-row": runs([19] * 30, [1] * 30, 41),
    "runs-one-row": runs([0] * 30, [1, 0] * 15, 1),
    "runs-one-column": runs([90], [30], 101),
    "runs-no-width": runs([0, 0, 0], [0, 0, 0], 50),
    "runs-no-columns": runs([], [], 50),
    "runs-no-rows": runs([0, 0], [0, 0], 0),
    "blocks": blocks([0, 0, 2, 3], [1, 4, 0, 2], (16, 8), (64, 40)),
    "blocks-ragged": blocks([0, 1, 4, 4], [2, 0, 1, 2], (11, 17), (53, 47)),
    "blocks-of-one-row": blocks([0, 3, 3, 6], [0, 0, 1, 1], (1, 9), (7, 13)),
    "blocks-of-one-column": blocks([0, 1], [12, 0], (20, 1), (37, 13)),
    "blocks-larger-than-all": blocks([0], [0], (9, 8), (5, 3)),
    "blocks-none": blocks([], [], (4, 4), (19, 7)),
    "blocks-no-rows": blocks([], [], (4, 4), (0, 7)),
    "stacked": stacked([33, 20, 7], [(0, [0, 1]), (0, [9, 10, 11]), (1, [4]), (2, range(12))], 12),
    "stacked-of-rank-zero": stacked([5, 0, 18], [(0, []), (2, [3, 1]), (1, [2, 0])], 5),
    "stacked-none": stacked([], [], 3),
}


@st.composite
def any_runs(draw):
    n = draw(st.one_of(st.integers(1, 120), st.sampled_from([0, 1, 6, 16, 17, 96, 97, 113])))
    width = st.one_of(st.integers(0, n), st.sampled_from([0, min(n, 1), n]))
    start = st.one_of(st.integers(0, max(n - 1, 0)), st.sampled_from([0, max(n - 1, 0)]))
    pairs = np.array(draw(st.lists(st.tuples(start, width), max_size=30)), np.int64).reshape(-1, 2)
    return runs(np.where(pairs[:, 1] > 0, pairs[:, 0], 0), pairs[:, 1], n)


@st.composite
def any_blocks(draw):
    (p, q), (m, n) = (draw(st.tuples(*[st.integers(a, b)] * 2)) for a, b in ((1, 20), (0, 60)))
    down, along = -(-m // p), -(-n // q)
    places = st.integers(0, max(down * along - 1, 0))
    most = min(12, down * along)
    chosen = np.array(sorted(draw(st.sets(places, max_size=most))), np.int64)
    return blocks(*np.divmod(chosen, max(along, 1)), (p, q), (m, n))


@st.composite
def any_stacked(draw):
    sizes, columns = draw(st.lists(st.integers(0, 25), max_size=6)), draw(st.integers(0, 20))
    tiles = []
    for panel in range(len(sizes)):
        left = draw(st.permutations(range(columns)))
        while left and draw(st.booleans()):
            count = draw(st.integers(0, len(left)))
            tiles.append((panel, left[:count]))
            left = left[count:] if count else []
    return stacked(sizes, tiles, columns)


any_pattern = st.one_of(any_runs(), any_blocks(), any_stacked())
