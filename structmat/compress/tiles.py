"""Tiles of a matrix: sizes to try, stacks of tiles, and the choice among sizes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat.compress.goal import Goal

#: Ratio to a divisor within which a power of two is no new size.
SIZE_FACTOR = 1.3
#: Error and cost, relative to the best, that larger tiles may lose: they multiply faster.
LARGE_TILE_LOSS = 0.01
#: Entries of the tiles that are stacked at once, unless one row of tiles holds more.
STACK_ENTRIES = 2**14

Grid = tuple[int, int]


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
    near = [p for p in powers if not (np.abs(np.log(exact / p)) < np.log(SIZE_FACTOR)).any()]
    return sorted(b for b in {*near, *exact.tolist()} if least <= b <= most)


def extents(n: int, b: int) -> NDArray[np.int64]:
    """Lengths of the pieces of an axis of n that is cut after every b entries."""
    return np.minimum(b, n - np.arange(0, n, b))


def tile_stacks(A: NDArray, p: int, q: int) -> Iterator[NDArray]:
    """Tiles of p x q, row after row, in stacks (T, p, q); zeros beyond the edge."""
    m, n = A.shape
    step = p * max(1, STACK_ENTRIES // (p * n))
    for top in range(0, m, step):
        yield _stack(A[top : top + step], p, q)


def dealt_stacks(A: NDArray, l: int, q: int) -> Iterator[NDArray]:
    """Tiles of the rows j, j + l, ... and of q columns, in one stack for each j < l."""
    for j in range(l):
        yield _stack(A[j::l], -(-A.shape[0] // l), q)


def _stack(rows: NDArray, p: int, q: int) -> NDArray:
    (m, n), k, l = rows.shape, -(-rows.shape[0] // p), -(-rows.shape[1] // q)
    padded = np.zeros((k * p, l * q), rows.dtype)
    padded[:m, :n] = rows
    return padded.reshape(k, p, l, q).transpose(0, 2, 1, 3).reshape(k * l, p, q)


Place = tuple[slice, slice]


def places(rows: NDArray | int, cols: NDArray, grid: Grid) -> list[Place]:
    """Rows and columns of the matrix under the tiles at some coordinates of a grid."""
    p, q = grid
    return [
        (slice(i * p, (i + 1) * p), slice(j * q, (j + 1) * q)) for i, j in np.broadcast(rows, cols)
    ]


def gather(A: NDArray, places: Sequence[Place], grid: Grid) -> NDArray:
    """Tiles at the given places, in a stack (T, p, q); zeros beyond the edge."""
    tiles = np.zeros((len(places), *grid), A.dtype)
    for tile, place in zip(tiles, places, strict=True):
        part = A[place]
        tile[: part.shape[0], : part.shape[1]] = part
    return tiles


@dataclass(frozen=True)
class TileFit:
    """Fit with tiles of one size: its choice, its cost, and the energy that it misses."""

    #: Rank of each tile, or flat coordinates of the tiles that are kept.
    chosen: NDArray[np.int64]
    cost: int
    missed: float


def nearly_best(fits: Mapping[Grid, TileFit], goal: Goal) -> dict[Grid, TileFit]:
    """Tile sizes whose error is near the least, and whose cost is near the least of those."""
    if goal.max_cost is not None:
        least = min(fit.missed for fit in fits.values())
        most = (1 + LARGE_TILE_LOSS) ** 2 * least
        fits = {grid: fit for grid, fit in fits.items() if fit.missed <= most}
    cheapest = min(fit.cost for fit in fits.values())
    return {g: fit for g, fit in fits.items() if fit.cost <= (1 + LARGE_TILE_LOSS) * cheapest}
