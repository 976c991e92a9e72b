"""Cutting a matrix into tiles, and which tile sizes to try."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: Factor within which a power of two is no new size beside a divisor.
NEAR = 1.3


def divisors(n: int) -> list[int]:
    """All divisors of n, smallest first; none for 0."""
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})


def sizes(n: int, least: int, most: int) -> list[int]:
    """Lengths to try on an axis of n: divisors, and powers of two far from any of them.

    Examples
    --------
    >>> sizes(30, 2, 30)
    [2, 3, 5, 6, 10, 15, 30]
    >>> sizes(31, 1, 31)
    [1, 2, 4, 8, 16, 31]
    """
    exact = np.array(divisors(n))
    powers = [2**i for i in range(n.bit_length())]
    near = [p for p in powers if not (np.abs(np.log(exact / p)) < np.log(NEAR)).any()]
    return sorted(b for b in {*near, *exact.tolist()} if least <= b <= most)


def contiguous_strips(A: NDArray, p: int, q: int) -> Iterator[NDArray]:
    """Rows of tiles of p x q, each a stack (ceil(n/q), p, q); zeros beyond the edge."""
    m, n = A.shape
    for top in range(0, m, p):
        yield _cut(A[top : top + p], p, q, n)


def strided_strips(A: NDArray, l: int, p: int) -> Iterator[NDArray]:
    """For each j < l the rows j, j + l, … cut into tiles of p columns; zeros beyond the edge."""
    m, n = A.shape
    height = -(-m // l)
    for j in range(l):
        yield _cut(A[j::l], height, p, n)


def _cut(strip: NDArray, height: int, width: int, n: int) -> NDArray:
    count = -(-n // width)
    padded = np.zeros((height, count * width), strip.dtype)
    padded[: strip.shape[0], :n] = strip
    return padded.reshape(height, count, width).transpose(1, 0, 2)
