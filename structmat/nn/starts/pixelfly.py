"""Pixelfly: a flat block butterfly plus a low-rank matrix.

The butterfly is a fixed pattern of dense blocks on a g x g grid, g a power of two: block
(i, j) is there where i = j or where i and j differ in one of the last bits, as in the
factors of a butterfly transform, added up instead of multiplied (Dao et al., "Pixelated
Butterfly", arXiv 2112.00029). The low-rank matrix reaches what the pattern leaves out.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.errors import BudgetError
from structmat.matrices import BlockSparse, LowRank, Sum
from structmat.nn.starts.random_init import LEAST_BLOCK_SIDE, RandomInit

#: Share of the multiplications that the low-rank matrix gets, at least one rank.
LOW_RANK_SHARE = 0.25
#: Sweeps over blocks and low-rank matrix at most.
MOST_SWEEPS = 20
#: Share of the error that a sweep has to take off for another one to follow.
LEAST_GAIN = 1e-3


@dataclass(frozen=True)
class PixelflyLayout:
    """Blocks of a Pixelfly matrix, and the rank of the low-rank matrix beside them."""

    shape: tuple[int, int]
    #: Shape of every block; blocks at the edge are cut.
    block_shape: tuple[int, int]
    #: Grid coordinates of the blocks, sorted.
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    rank: int
    #: Multiplications for one vector.
    cost: int


def pixelfly_layout(shape: tuple[int, int], cap: int) -> PixelflyLayout:
    """Butterfly that uses a cap on the cost best, and a rank for the rest of the cap.

    Examples
    --------
    >>> layout = pixelfly_layout((64, 64), 1024)
    >>> layout.block_shape, len(layout.rows), layout.rank, layout.cost
    ((4, 4), 48, 2, 1024)
    """
    m, n = shape
    sizes = [2**i for i in range(max(1, min(m, n) // LEAST_BLOCK_SIDE).bit_length())]
    patterns = [
        _butterfly(shape, size, bits) for size in sizes for bits in range(size.bit_length())
    ]
    cheapest = min(pattern.cost for pattern in patterns)
    if cap < cheapest + m + n:
        raise BudgetError(
            f"{cap} multiplications for a {m}x{n} matrix; expected at least {cheapest + m + n}, "
            "the cost of the smallest Pixelfly matrix (allow more, or leave the layer out)"
        )
    most = (cap - cheapest) // (m + n)
    rank = min(max(1, round(LOW_RANK_SHARE * cap / (m + n))), most)
    fitting = [pattern for pattern in patterns if pattern.cost <= cap - rank * (m + n)]
    # Among patterns of one cost, the one with the most blocks.
    best = max(fitting, key=lambda pattern: (pattern.cost, len(pattern.rows)))
    rank = (cap - best.cost) // (m + n)
    cost = best.cost + rank * (m + n)
    return PixelflyLayout(shape, best.block_shape, best.rows, best.cols, rank, cost)


def _butterfly(shape: tuple[int, int], size: int, bits: int) -> PixelflyLayout:
    """Blocks whose grid coordinates agree, or differ in one of the last `bits` bits."""
    (m, n), (p, q) = shape, (-(-shape[0] // size), -(-shape[1] // size))
    i = np.arange(-(-m // p))
    steps = np.array([0, *(1 << bit for bit in range(bits))])
    rows, cols = np.broadcast_arrays(i[:, None], i[:, None] ^ steps)
    there = cols < -(-n // q)
    rows, cols = rows[there], cols[there]
    order = np.lexsort((cols, rows))
    rows, cols = rows[order], cols[order]
    cost = int((np.minimum(p, m - p * rows) * np.minimum(q, n - q * cols)).sum())
    return PixelflyLayout(shape, (p, q), rows, cols, 0, cost)


def random_pixelfly(shape: tuple[int, int], cap: int) -> RandomInit:
    """Pixelfly matrix whose two parts have half of the variance each."""
    layout = pixelfly_layout(shape, cap)
    (m, n), (p, q) = shape, layout.block_shape
    covered = layout.cost - layout.rank * (m + n)

    def draw(variance: float, generator: torch.Generator | None) -> Sum:
        blocks = torch.randn(len(layout.rows), p, q, generator=generator)
        U, V = (torch.randn(size, layout.rank, generator=generator) for size in shape)
        root = (variance / 2 / layout.rank) ** 0.25
        return _sum(layout, blocks * (variance / 2 * m * n / covered) ** 0.5, U * root, V * root)

    return RandomInit(layout.cost, draw)


def _sum(layout: PixelflyLayout, blocks: Tensor, U: Tensor, V: Tensor) -> Sum:
    sparse = BlockSparse(blocks, layout.rows, layout.cols, shape=layout.shape)
    return Sum(sparse, LowRank(U, V))


def fit_pixelfly(A: Tensor, cap: int) -> Sum:
    """Pixelfly matrix near A (m, n), by alternating least squares over its two parts.

    The pattern is fixed. In each sweep the low-rank matrix becomes the truncated singular
    value decomposition of A without the blocks, and the blocks become the entries of A
    without the low-rank matrix. The error falls from sweep to sweep. The better one of two
    starts is kept: with A on the blocks, so that the result is never worse than the
    low-rank part alone, and with zeros there.
    """
    layout = pixelfly_layout((A.shape[0], A.shape[1]), cap)
    inside = _block_mask(layout, A.device)
    found = [_alternated(A, inside, layout.rank, start) for start in (torch.zeros_like(A), A)]
    left, right, _ = min(found, key=lambda fit: fit[2])
    blocks = _cut(torch.where(inside, A - left @ right, 0), layout)
    return _sum(layout, blocks, left, right.T.contiguous())


def _alternated(
    A: Tensor, inside: Tensor, rank: int, smooth: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Factors of the low-rank part, and its error outside of the blocks."""
    missed = torch.inf
    for _ in range(MOST_SWEEPS):
        U, s, Vh = torch.linalg.svd(torch.where(inside, smooth, A), full_matrices=False)
        root = s[:rank].sqrt()
        left, right = U[:, :rank] * root, root[:, None] * Vh[:rank]
        smooth, before = left @ right, missed
        missed = float(torch.where(inside, 0, A - smooth).norm())
        if missed > (1 - LEAST_GAIN) * before:
            break
    return left, right, missed


def _block_mask(layout: PixelflyLayout, device: torch.device) -> Tensor:
    """Mask (m, n) that is True on the blocks."""
    (m, n), (p, q) = layout.shape, layout.block_shape
    grid = torch.zeros(-(-m // p), -(-n // q), dtype=torch.bool)
    grid[torch.from_numpy(layout.rows), torch.from_numpy(layout.cols)] = True
    return grid.repeat_interleave(p, 0).repeat_interleave(q, 1)[:m, :n].to(device)


def _cut(A: Tensor, layout: PixelflyLayout) -> Tensor:
    """Blocks of A (b, p, q), padded with zeros beyond the edge."""
    (m, n), (p, q) = A.shape, layout.block_shape
    padded = torch.nn.functional.pad(A, (0, -n % q, 0, -m % p))
    tiles = padded.unflatten(0, (-1, p)).unflatten(2, (-1, q)).transpose(1, 2)
    return tiles[torch.from_numpy(layout.rows), torch.from_numpy(layout.cols)].contiguous()
