"""Products of thin factors: joined, put into a better form, and found in other structures."""

from typing import Any

import numpy as np

from structmat._array import Array, adjoint, device, from_numpy, integers, masked, to_numpy
from structmat.algebra.kronecker import kron_low_rank
from structmat.intervals import IntArray, offsets
from structmat.matrices import (
    GBLR,
    BlockLowRank,
    HermitianLowRank,
    Kronecker,
    LowRank,
    Mirrored,
    Product,
)
from structmat.matrix import StructuredMatrix

#: Thin factors in the place of blocks have at most this fraction of the rows as columns.
_THIN = 1 / 8
#: Full columns in the place of tiles hold at most this many numbers for each stored one.
FULL = 8
#: Entries of a diagonal below this fraction of its median are left to the thin factors.
_SMALL = 1e-4


def thin_form(A: StructuredMatrix) -> LowRank | None:
    """A matrix as a product of thin factors; None where it has none by its structure.

    Examples
    --------
    >>> A = GBLR([0], [9], np.ones(9), [7], [4], np.ones(4), shape=(9, 9))
    >>> bool((thin_form(A).to_dense() == A.to_dense()).all())
    True
    """
    if isinstance(A, LowRank):
        return A
    if isinstance(A, HermitianLowRank):
        found: LowRank = A.to_kind("low_rank")
        return found
    if isinstance(A, Mirrored):
        half = thin_form(A.children[0])
        return None if half is None else half + half.H
    if isinstance(A, GBLR) and A.num_blocks <= _THIN * min(A.shape):
        return LowRank(
            _columns(A, A.u, A.row_start, A.row_width, A.shape[0]),
            _columns(A, A.v, A.col_start, A.col_width, A.shape[1]),
        )
    special = {Product: _through_short_side, BlockLowRank: _of_tiles, Kronecker: _of_both}
    find = special.get(type(A))
    return None if find is None else find(A)


def _through_short_side(A: Product) -> LowRank | None:
    """The factors on both sides of a short one, as columns; None without a short side."""
    sides = [factor.shape[1] for factor in A.children[:-1]]
    at = int(np.argmin(sides)) + 1
    if sides[at - 1] > _THIN * min(A.shape):
        return None
    left, right = (
        part[0] if len(part) == 1 else Product(*part) for part in (A.children[:at], A.children[at:])
    )
    return LowRank(left.to_dense(), right.H.to_dense())


def _of_tiles(A: BlockLowRank) -> LowRank | None:
    """The factors of few tiles of low rank, side by side as full columns."""
    rank = int(A.ranks.sum())
    if not A.ranks.size or (A.ranks < 0).any() or rank > _THIN * min(A.shape):
        return None
    if rank * sum(A.shape) > FULL * A.storage:
        return None
    tops, lefts = (offsets(sizes).tolist() for sizes in (A.row_sizes, A.col_sizes))
    parts = [in_columns(LowRank(*tile), tops[i], lefts[j], A) for (i, j), tile in A.tiles.items()]
    return LowRank(
        A.xp.concat([part.U for part in parts], axis=1),
        A.xp.concat([part.V for part in parts], axis=1),
    )


def in_columns(block: LowRank, top: int, left: int, A: StructuredMatrix) -> LowRank:
    """A block of A at a row and a column, as a matrix of the shape of A that is zero elsewhere."""
    xp, sides = A.xp, []
    for F, first, size in ((block.U, int(top), A.shape[0]), (block.V, int(left), A.shape[1])):
        above, below = (
            xp.zeros((rows, block.rank), dtype=F.dtype, device=A.device)
            for rows in (first, size - first - F.shape[0])
        )
        sides.append(xp.concat([above, F, below], axis=0))
    return LowRank(*sides)


def _of_both(A: Kronecker) -> LowRank | None:
    """A Kronecker product of two products of thin factors; its rank is the product of theirs."""
    outer, inner = (thin_form(factor) for factor in A.children)
    if outer is None or inner is None or outer.rank * inner.rank > _THIN * min(A.shape):
        return None
    return kron_low_rank(outer, inner)


def _columns(A: GBLR, contents: Array, start: IntArray, width: IntArray, size: int) -> Array:
    """Packed contents of runs as full columns (size, K)."""
    xp = A.xp
    if not contents.shape[0]:
        return xp.zeros((size, start.size), dtype=A.dtype, device=A.device)
    place = (np.arange(size)[:, None] - start) % max(size, 1)
    inside = place < width
    at = np.where(inside, place + offsets(width)[:-1], 0)
    taken = xp.take(contents, integers(at.ravel(), xp, A.device), axis=0)
    return masked(xp.reshape(taken, at.shape), inside, xp)


def balanced(low_rank: LowRank, dtype: Any) -> LowRank:
    """The same product by orthogonal columns of equal sizes on both sides.

    What cancels in the product is gone, and so is what is below its rounding error.
    """
    xp = low_rank.xp
    with np.errstate(all="ignore"):
        left, right = (
            xp.linalg.qr(xp.astype(F, dtype, copy=False)) for F in (low_rank.U, low_rank.V)
        )
        u, s, vh = xp.linalg.svd(left[1] @ adjoint(right[1], xp), full_matrices=False)
    sizes = to_numpy(s)
    rounding = sizes.size * np.finfo(np.float64).eps * sizes.max(initial=0.0)
    keep = int((sizes > rounding).sum())
    root = xp.sqrt(s[:keep])
    return LowRank(left[0] @ (u[:, :keep] * root), right[0] @ (adjoint(vh, xp)[:, :keep] * root))


def split_diagonal(d: Array, xp: Any) -> tuple[Array, LowRank | None]:
    """A diagonal without small entries, and thin factors that give them back; None without any.

    Examples
    --------
    >>> d, rest = split_diagonal(np.array([1.0, 0.0, 1.0]), np)
    >>> d, rest.to_dense()[1]
    (array([1., 1., 1.]), array([ 0., -1.,  0.]))
    """
    sizes = np.abs(to_numpy(d)).astype(np.float64)
    positive = sizes[sizes > 0]
    if not positive.size:
        return d, None
    median = float(np.median(positive))
    small = np.flatnonzero(sizes < _SMALL * median)
    if not small.size:
        return d, None
    filled = xp.where(from_numpy(sizes < _SMALL * median, xp, device(d)), median, d)
    filled = xp.astype(filled, d.dtype)
    rows = from_numpy(np.arange(d.shape[0])[:, None] == small, xp, device(d))
    unit = xp.astype(rows, d.dtype)
    return filled, LowRank(unit * (d - filled)[:, None], unit)
