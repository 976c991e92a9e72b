"""Random structured matrices of every kind, at a cap on the cost, to train from scratch.

Patterns are regular and spread evenly, and use the cap as well as their kind allows.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.compress import compress
from structmat.errors import BudgetError
from structmat.intervals import multiplications, positions
from structmat.matrices import GBLR, BlockLowRank, BlockSparse, LowRank, Monarch
from structmat.matrix import StructuredMatrix
from structmat.nn.gaudi.initial_runs import grid_rank, strip_runs

Generator: TypeAlias = torch.Generator | None
IntArray: TypeAlias = NDArray[np.int64]
#: Rows and columns of a block at least, where the cap allows it: small blocks are slow.
LEAST_BLOCK_SIDE = 4
#: Share of the cap that larger blocks, which multiply faster, may leave unused.
UNUSED_SHARE = 0.02


@dataclass(frozen=True)
class RandomInit:
    """A structure without its contents, and a function that draws them."""

    #: Multiplications for one vector.
    cost: int
    #: ``draw(variance, generator)`` returns the matrix with normal contents. The mean
    #: squared entry of the matrix is `variance` on average.
    draw: Callable[[float, Generator], StructuredMatrix]


def random_low_rank(shape: tuple[int, int], cap: int) -> RandomInit:
    """Low-rank matrix of the largest rank."""
    m, n = shape
    check_cap(shape, cap, m + n, "low-rank")
    rank = cap // (m + n)

    def draw(variance: float, generator: Generator) -> LowRank:
        root = (variance / rank) ** 0.25
        return LowRank(normal((m, rank), root, generator), normal((n, rank), root, generator))

    return RandomInit(rank * (m + n), draw)


def random_block_sparse(shape: tuple[int, int], cap: int) -> RandomInit:
    """Block-sparse matrix with the largest blocks that use the cap nearly whole."""
    m, n = shape
    check_cap(shape, cap, m * -(-n // m), "block-sparse")
    most = cap // max(m, n)
    patterns = _patterns(shape, cap, LEAST_BLOCK_SIDE, most)
    patterns = patterns or _patterns(shape, cap, 1, LEAST_BLOCK_SIDE - 1)
    best = max(pattern.cost for pattern in patterns)
    pattern = [p for p in patterns if p.cost >= (1 - UNUSED_SHARE) * best][-1]

    def draw(variance: float, generator: Generator) -> BlockSparse:
        spread = (variance * m * n / pattern.cost) ** 0.5
        blocks = normal((len(pattern.rows), pattern.side, pattern.side), spread, generator)
        return BlockSparse(blocks, pattern.rows, pattern.cols, shape=shape)

    return RandomInit(pattern.cost, draw)


class _Pattern(NamedTuple):
    """Coordinates of square blocks on a grid, sorted by row and column."""

    side: int
    rows: IntArray
    cols: IntArray
    cost: int


def _patterns(shape: tuple[int, int], cap: int, least: int, most: int) -> list[_Pattern]:
    """Patterns that reach every row and column, of blocks with these sides, smallest first."""
    patterns = []
    for side in range(least, most + 1):
        pattern = _diagonals(shape, cap, side)
        if len(np.unique(pattern.cols)) == -(-shape[1] // side):
            patterns.append(pattern)
    return patterns


def _diagonals(shape: tuple[int, int], cap: int, side: int) -> _Pattern:
    """Blocks on diagonals at even distances, as many in every block row as the cap allows."""
    m, n = shape
    down, across = -(-m // side), -(-n // side)
    count = min(cap // (m * min(side, n)), across)
    first = np.arange(count) * across // max(count, 1)
    # The shifts of few rows spread over the gap between two diagonals.
    shift = np.arange(down) * max(1, across // max(count * down, 1))
    cols = np.sort((first + shift[:, None]) % across, axis=1).ravel()
    rows = np.repeat(np.arange(down), count)
    height, width = np.minimum(side, m - side * rows), np.minimum(side, n - side * cols)
    return _Pattern(side, rows, cols, int((height * width).sum()))


def random_block_low_rank(shape: tuple[int, int], cap: int) -> RandomInit:
    """Block-low-rank matrix with an even grid of tiles of one rank."""
    m, n = shape
    heights, widths, rank = tile_grid(shape, cap)

    def draw(variance: float, generator: Generator) -> BlockLowRank:
        root = (variance / rank) ** 0.25
        tiles = {
            (i, j): (normal((p, rank), root, generator), normal((q, rank), root, generator))
            for i, p in enumerate(heights)
            for j, q in enumerate(widths)
        }
        return BlockLowRank(tiles, row_sizes=heights, col_sizes=widths)

    return RandomInit(rank * (len(widths) * m + len(heights) * n), draw)


def tile_grid(shape: tuple[int, int], cap: int) -> tuple[list[int], list[int], int]:
    """Heights, widths and rank of the tiles of an even grid that uses the cap best.

    Examples
    --------
    >>> tile_grid((8, 16), 96)
    ([2, 3, 3], [2, 3, 3, 2, 3, 3], 1)
    """
    m, n = shape
    check_cap(shape, cap, m + n, "block-low-rank")
    rank = min(grid_rank(shape, cap), cap // (m + n))
    down, across = _most_tiles(cap // rank, shape, lambda g, h: h * m + g * n)
    return _even_sizes(m, down), _even_sizes(n, across), rank


def _most_tiles(
    cap: int, shape: tuple[int, int], cost: Callable[[Any, Any], Any]
) -> tuple[int, int]:
    """Grid g x h with the most tiles among those that cost at most `cap`.

    Among grids of equally many tiles, the cheapest one, whose tiles are nearly square.
    """
    m, n = shape
    g, h = np.ogrid[1 : min(m, cap // n) + 1, 1 : min(n, cap // m) + 1]
    costs = cost(g, h)
    tiles = np.where(costs <= cap, g * h, 0)
    best = np.flatnonzero(tiles == tiles.max())
    i, j = np.unravel_index(best[np.argmin(costs.ravel()[best])], tiles.shape)
    return int(i) + 1, int(j) + 1


def _even_sizes(n: int, parts: int) -> list[int]:
    return np.diff([i * n // parts for i in range(parts + 1)]).tolist()


@lru_cache(maxsize=64)
def strip_sides(
    shape: tuple[int, int], cap: int, *, held: bool = False
) -> list[tuple[IntArray, IntArray]] | None:
    """Starts and widths of strips in whole samples, rows and columns; None if they miss one.

    Options are those of `strip_runs`.

    Examples
    --------
    >>> strip_sides((4, 8), 16)[1][0]
    array([0, 4, 2, 6])
    >>> strip_sides((4, 8), 11) is None
    True
    """
    runs, sides = strip_runs(shape, cap, held=held), []
    for n, width, location in zip(shape, runs[::2], runs[1::2], strict=True):
        start, length = (
            torch.round(part.double() * n).long().numpy() for part in (location, width)
        )
        if len(np.unique(positions(start, length, n))) < n:
            return None
        sides.append((start, length))
    return sides


def strip_or_grid_widths(shape: tuple[int, int], cap: int) -> int:
    """Sum of the widths with which a Gaudi layer begins: strips, or tiles where they miss a line.

    Examples
    --------
    >>> strip_or_grid_widths((4, 8), 18), strip_or_grid_widths((4, 8), 12)
    (18, 12)
    """
    sides = strip_sides(shape, cap)
    if sides is None:
        return random_block_low_rank(shape, cap).cost
    return int(sum(width.sum() for _, width in sides))


def random_gblr(shape: tuple[int, int], cap: int) -> RandomInit:
    """GBLR matrix of strips."""
    sides = strip_sides(shape, cap, held=True)
    if sides is None:
        # Strips of m + n multiplications always reach everything.
        caps, held = range(sum(shape)), partial(strip_sides, shape, held=True)
        least = bisect_left(caps, True, lo=1, key=lambda cap: held(cap) is not None)
        raise _too_few(shape, cap, least, "GBLR")
    (_, row_width), (_, col_width) = sides
    cells = math.prod(shape) / int((row_width * col_width).sum())

    def draw(variance: float, generator: Generator) -> GBLR:
        # The side of one sample is one, so that the entries are normal.
        contents = [torch.ones(int(width.sum())) for _, width in sides]
        long = int((row_width == 1).all())
        contents[long] = normal(contents[long].shape, (variance * cells) ** 0.5, generator)
        rows, cols = ((*side, part) for side, part in zip(sides, contents, strict=True))
        return GBLR(*rows, *cols, shape=shape)

    return RandomInit(int(multiplications(row_width, col_width).sum()), draw)


def random_monarch(shape: tuple[int, int], cap: int) -> RandomInit:
    """Monarch matrix with the most tiles of low rank."""
    m, n = shape
    check_cap(shape, cap, m + n, "Monarch")
    # Rows dealt to l hands and columns cut into k pieces make l k tiles of low rank.
    rank = min(grid_rank(shape, cap), cap // (m + n))
    l, k = _most_tiles(cap // rank, shape, lambda l, k: l * k * (-(-m // l) + -(-n // k)))
    height, width = -(-m // l), -(-n // k)

    def draw(variance: float, generator: Generator) -> Monarch:
        root = (variance / rank) ** 0.25
        L = normal((l, height, k * rank), root, generator)
        R = normal((k, l * rank, width), root, generator)
        return Monarch(L, R, shape=shape)

    return RandomInit(rank * l * k * (height + width), draw)


def random_compressed(kind: str, shape: tuple[int, int], cap: int) -> RandomInit:
    """Random dense matrix, compressed to a kind; `RandomInit.cost` is the cap."""
    budget = min(1.0, (cap + 0.5) / math.prod(shape))

    def draw(variance: float, generator: Generator) -> StructuredMatrix:
        seed = int(torch.randint(2**31, (), generator=generator))
        noise = normal(shape, 1.0, generator)
        matrix = compress(noise, kind, budget=budget, rng=seed).matrix
        size = float(matrix.to_dense().square().mean()) ** 0.5
        if size == 0:
            return matrix
        factor = variance**0.5 / size
        scaled = matrix * factor
        if scaled.kind == matrix.kind:
            return scaled
        # A factor beside the contents would cost multiplications: the noise takes it.
        return compress(noise * factor, kind, budget=budget, rng=seed).matrix

    return RandomInit(cap, draw)


def normal(shape: tuple[int, ...], std: float, generator: Generator) -> Tensor:
    """Normal numbers of a standard deviation."""
    return torch.randn(shape, generator=generator) * std


def check_cap(shape: tuple[int, int], cap: int, least: int, kind: str) -> None:
    """Refuse a cap below the cost of the smallest matrix of a kind."""
    if cap < least:
        raise _too_few(shape, cap, least, kind)


def _too_few(shape: tuple[int, int], cap: int, least: int, kind: str) -> BudgetError:
    return BudgetError(
        f"{cap} multiplications for a {shape[0]}x{shape[1]} matrix; expected at least {least}, "
        f"the cost of the smallest {kind} matrix that reaches every row and column (allow "
        "more, or leave the layer out)"
    )
