"""Sums that grow: a new term joins one that it fits, so that equal terms cost no more."""

from typing import Any

import numpy as np

from structmat._array import integers
from structmat.intervals import alternated, offsets
from structmat.kinds import find_rules, rule
from structmat.matrices.block_low_rank import BlockLowRank
from structmat.matrices.block_sparse import BlockSparse
from structmat.matrices.dense import Dense
from structmat.matrices.diagonal import Diagonal
from structmat.matrices.hierarchical import Hierarchical
from structmat.matrices.lazy import Sum
from structmat.matrix import StructuredMatrix


@rule("add", "sum", "*")
@rule("add", "*", "sum")
def joined(a: StructuredMatrix, b: StructuredMatrix) -> Any:
    """The terms of both; each of the second takes in, or joins, the first one that it fits."""
    if isinstance(a, Dense) or isinstance(b, Dense):
        return NotImplemented  # which takes in the whole sum
    terms = list(a.children if isinstance(a, Sum) else (a,))
    for term in b.children if isinstance(b, Sum) else (b,):
        for at, present in enumerate(terms):
            total = _total(present, term)
            if total is not None:
                terms[at] = total
                break
        else:
            terms.append(term)
    return terms[0] if len(terms) == 1 else Sum(*terms)


def _total(a: StructuredMatrix, b: StructuredMatrix) -> StructuredMatrix | None:
    """The sum of two terms by the rule for their kinds; None if that is lazy.

    A dense term stays as it is: beside its adjoint it leaves the sum Hermitian.
    """
    if isinstance(a, Dense):
        return None
    for apply in find_rules("add", a.kind, b.kind):
        found = apply(a, b)
        if found is not NotImplemented and not isinstance(found, Sum):
            total: StructuredMatrix = found
            return total
    return None


@rule("add", "block_sparse", "diagonal")
def _blocks_plus_diagonal(a: BlockSparse, b: Diagonal) -> Any:
    """Blocks of single entries, or blocks that cover the whole diagonal, take it in."""
    p, q = a.block_shape
    if p != q:
        return NotImplemented
    on = np.flatnonzero(a.rows == a.cols)
    if p == 1:
        return a + b.to_kind("block_sparse")
    if on.size < -(-a.shape[0] // p):
        return NotImplemented
    xp, d = a.xp, b.d
    padded = xp.concat([d, xp.zeros(on.size * p - d.shape[0], dtype=d.dtype, device=a.device)])
    zero = xp.zeros((1, p, p), dtype=d.dtype, device=a.device)
    one = xp.eye(p, dtype=d.dtype, device=a.device) == 1
    whole = xp.where(one, xp.reshape(padded, (on.size, p, 1)), zero)
    at = np.where(a.rows == a.cols, a.rows, on.size)
    added = xp.take(xp.concat([whole, zero]), integers(at, xp, a.device), axis=0)
    return BlockSparse(a.blocks + added, a.rows, a.cols, shape=a.shape)


@rule("add", "diagonal", "block_sparse")
def _diagonal_plus_blocks(a: Diagonal, b: BlockSparse) -> Any:
    return _blocks_plus_diagonal(b, a)


@rule("add", "block_low_rank", "block_sparse")
def _tiles_plus_blocks(a: BlockLowRank, b: BlockSparse) -> Any:
    """Blocks on the grid of tiles are tiles."""
    p, q = b.block_shape
    for size, sizes in ((p, a.row_sizes), (q, a.col_sizes)):
        begins = offsets(sizes)[:-1]
        if not np.array_equal(begins, np.arange(len(sizes)) * size):
            return NotImplemented
    return a + b.to_kind("block_low_rank")


@rule("add", "block_sparse", "block_low_rank")
def _blocks_plus_tiles(a: BlockSparse, b: BlockLowRank) -> Any:
    return _tiles_plus_blocks(b, a)


@rule("add", "hierarchical", "hierarchical")
def _hierarchical_sum(a: Hierarchical, b: Hierarchical) -> Any:
    """Block by block where both have the same blocks in the same orders: ranks add up."""
    ranks = a.blocks[:, 4], b.blocks[:, 4]
    fits = (
        a.symmetric == b.symmetric
        and np.array_equal(a.blocks[:, :4], b.blocks[:, :4])
        and np.array_equal(ranks[0] < 0, ranks[1] < 0)
        and np.array_equal(a.row_order, b.row_order)
        and np.array_equal(a.col_order, b.col_order)
    )
    if not fits:
        return NotImplemented
    xp, low = a.xp, [np.maximum(rank, 0) for rank in ranks]
    arrays = {"dense": a.dense + b.dense}
    for name, size in (("u", a.blocks[:, 1]), ("v", a.blocks[:, 3])):
        at = integers(alternated(low[0] * size, low[1] * size), xp, a.device)
        both = xp.concat([getattr(a, name), getattr(b, name)])
        arrays[name] = xp.take(both, at, axis=0)
    table = a.blocks.copy()
    table[:, 4] = np.where(ranks[0] < 0, -1, low[0] + low[1])
    return a._build(arrays, (), {**a._static(), "blocks": table})
