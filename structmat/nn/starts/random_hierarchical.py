"""Random hierarchical matrices: halves of halves, of low rank beside the diagonal."""

from typing import NamedTuple

import numpy as np
import torch

from structmat.intervals import IntArray
from structmat.kernels.layouts.rectangles import DENSE
from structmat.matrices import Hierarchical
from structmat.nn.starts.random_init import (
    LEAST_BLOCK_SIDE,
    UNUSED_SHARE,
    Generator,
    RandomInit,
    check_cap,
    normal,
)


def random_hierarchical(shape: tuple[int, int], cap: int) -> RandomInit:
    """Hierarchical matrix with the most levels that use the cap nearly whole.

    Rows and columns are halved together, level by level. Beside the diagonal, the blocks of a
    level have one rank. Those that are left on the diagonal are dense, or of low rank as well.
    """
    m, n = shape
    check_cap(shape, cap, min(m + n, max(1, m * n)), "hierarchical")
    deepest = max(0, (min(shape) // LEAST_BLOCK_SIDE).bit_length() - 1)
    trees = [tree for levels in range(deepest + 1) for tree in _trees(shape, cap, levels)]
    best = max(tree.cost for tree in trees)
    blocks, cost = [tree for tree in trees if tree.cost >= (1 - UNUSED_SHARE) * best][-1]
    is_dense = blocks[:, 4] == DENSE
    entries = int((blocks[:, 1] * blocks[:, 3])[is_dense].sum())
    low = blocks[~is_dense]

    def draw(variance: float, generator: Generator) -> Hierarchical:
        sides = []
        for widths in (low[:, 1], low[:, 3]):
            roots = np.repeat((variance / low[:, 4]) ** 0.25, low[:, 4] * widths)
            sides.append(normal(roots.shape, 1.0, generator) * torch.from_numpy(roots).float())
        dense = normal((entries,), variance**0.5, generator)
        u, v = sides
        return Hierarchical(blocks, u, v, dense, shape=shape)

    return RandomInit(cost, draw)


class _Tree(NamedTuple):
    """Blocks of a hierarchical matrix, (b, 5), and their multiplications."""

    blocks: IntArray
    cost: int


def _trees(shape: tuple[int, int], cap: int, levels: int) -> list[_Tree]:
    """Trees of some levels that cost at most `cap`: with ends of low rank, and with dense ones."""
    found = []
    ends = _blocks(shape, levels, 0, DENSE)
    for low_rank_ends in (True, False):
        left = cap if low_rank_ends else cap - int((ends[:, 1] * ends[:, 3]).sum())
        # Each rank of a level, or of the ends, costs m + n.
        count, ranks = levels + low_rank_ends, left // sum(shape)
        if left < 0 or ranks < count:
            continue
        # What does not divide evenly goes to the largest blocks.
        rank = [ranks // count + (k < ranks % count) for k in range(count)]
        parts = [_blocks(shape, k + 1, 1, rank[k]) for k in range(levels)]
        parts.append(_blocks(shape, levels, 0, rank[levels]) if low_rank_ends else ends)
        blocks = np.concatenate(parts)
        whole = blocks[:, 1] * blocks[:, 3]
        low = blocks[:, 4] * (blocks[:, 1] + blocks[:, 3])
        blocks[:, 4] = np.where(low < whole, blocks[:, 4], DENSE)
        is_dense = blocks[:, 4] == DENSE
        found.append(_Tree(blocks, int(np.where(is_dense, whole, low).sum())))
    return found


def _blocks(shape: tuple[int, int], level: int, beside: int, rank: int) -> IntArray:
    """Blocks of a level on the diagonal, or `beside` it (1): each in the other half.

    Examples
    --------
    >>> _blocks((4, 6), 1, 1, 2)
    array([[0, 2, 3, 3, 2],
           [2, 2, 0, 3, 2]])
    """
    i = np.arange(1 << level)
    bounds = [np.append(i, i.size) * size >> level for size in shape]
    (top, height), (left, width) = (
        (bound[j], np.diff(bound)[j]) for bound, j in zip(bounds, (i, i ^ beside), strict=True)
    )
    return np.stack([top, height, left, width, np.full_like(i, rank)], 1)
