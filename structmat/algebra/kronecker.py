"""Kronecker products: one structure where it holds them at no more cost."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from structmat._array import integers
from structmat.algebra.arguments import as_matrix
from structmat.matrices import BlockSparse, Diagonal, Identity, Kronecker, LowRank, Permutation
from structmat.matrix import StructuredMatrix


def kron(A: Any, B: Any) -> StructuredMatrix:
    """Kronecker product of two matrices: blocks A[i, j] B.

    Parameters
    ----------
    A, B : StructuredMatrix, array, sparse matrix, or operator, shapes (m, n) and (p, q)

    Returns
    -------
    StructuredMatrix, shape (m p, n q)
        A permutation, an identity or a diagonal matrix where both are; a low-rank or
        block-sparse matrix where both are and that costs no more; otherwise of kind
        ``"kronecker"``, which keeps A and B.

    Raises
    ------
    InputError
        If A or B is no matrix.

    Notes
    -----
    A product with a vector costs n cost(B) + p cost(A), or q cost(A) + m cost(B), whichever is
    less. ``kron(A, B) @ kron(C, D)`` is ``kron(A @ C, B @ D)`` where the sizes meet, and norms
    are the products of those of A and B.

    Examples
    --------
    >>> import numpy as np
    >>> K = kron(Identity(3), np.ones((2, 2)))
    >>> K.kind, K.shape, K.cost
    ('kronecker', (6, 6), 12)
    >>> kron(Diagonal([1.0, 2.0]), Diagonal([1.0, 10.0])).d
    array([ 1., 10.,  2., 20.])
    """
    A, B = as_matrix(A, "A"), as_matrix(B, "B")
    lazy = Kronecker(A, B)
    found = _candidate(A, B)
    if found is None or (found.cost, found.storage) > (lazy.cost, lazy.storage):
        return lazy
    return found.make()


class _Candidate(NamedTuple):
    cost: int
    storage: int
    make: Callable[[], StructuredMatrix]


def _candidate(A: StructuredMatrix, B: StructuredMatrix) -> _Candidate | None:
    """The structure that holds the product, with its cost, before it is made."""
    kinds = {type(A), type(B)}
    if kinds == {Identity}:
        n = A.shape[0] * B.shape[0]
        return _Candidate(0, 0, lambda: Identity(n, like=A._leaves()[0]))
    if kinds <= {Identity, Permutation}:
        return _Candidate(0, 0, lambda: _permutation(A, B))
    if kinds <= {Identity, Diagonal}:
        n = A.shape[0] * B.shape[0]
        return _Candidate(n, 0, lambda: _diagonal(A, B))
    if isinstance(A, LowRank) and isinstance(B, LowRank):
        rank = A.rank * B.rank
        size = A.shape[0] * B.shape[0] + A.shape[1] * B.shape[1]
        return _Candidate(rank * size, rank * size, lambda: kron_low_rank(A, B))
    if kinds <= {BlockSparse, Diagonal} and isinstance(B, BlockSparse):
        return _blocks(A, B)
    return None


def _permutation(A: StructuredMatrix, B: StructuredMatrix) -> Permutation:
    p, q = (M.to_kind("permutation") for M in (A, B))
    xp, n = A.xp, B.shape[0]
    return Permutation(xp.reshape(p.p[:, None] * n + q.p[None, :], (-1,)))


def _diagonal(A: StructuredMatrix, B: StructuredMatrix) -> Diagonal:
    d, e = (M.diagonal() for M in (A, B))
    if A.neutral or B.neutral:
        dtype = B.dtype if A.neutral else A.dtype
        d, e = (A.xp.astype(x, dtype) for x in (d, e))
    return Diagonal(A.xp.reshape(d[:, None] * e[None, :], (-1,)))


def kron_low_rank(A: LowRank, B: LowRank) -> LowRank:
    """The Kronecker product of two low-rank matrices by thin factors, of the product of ranks.

    Examples
    --------
    >>> A = LowRank(np.ones((4, 2)), np.ones((3, 2)))
    >>> kron_low_rank(A, A).shape, kron_low_rank(A, A).rank
    ((16, 9), 4)
    """
    xp = A.xp

    def joined(F: Any, G: Any) -> Any:
        product = F[:, None, :, None] * G[None, :, None, :]
        return xp.reshape(product, (F.shape[0] * G.shape[0], F.shape[1] * G.shape[1]))

    return LowRank(joined(A.U, B.U), joined(A.V, B.V))


def _blocks(A: StructuredMatrix, B: BlockSparse) -> _Candidate | None:
    """Blocks of B times the entries of A, where the grid of B tiles B."""
    (p, q), (m, n) = B.block_shape, B.shape
    if m % p or n % q:
        return None
    storage = A.cost * math.prod(B.blocks.shape)
    return _Candidate(A.cost * B.cost, storage, lambda: _of_entries(A, B))


def _of_entries(A: StructuredMatrix, B: BlockSparse) -> BlockSparse:
    S = A.to_kind("block_sparse")
    xp, (b, p, q) = A.xp, S.blocks.shape
    rows = np.broadcast_to(S.rows[:, None, None] * p + np.arange(p)[:, None], (b, p, q)).ravel()
    cols = np.broadcast_to(S.cols[:, None, None] * q + np.arange(q), (b, p, q)).ravel()
    inside = np.flatnonzero((rows < A.shape[0]) & (cols < A.shape[1]))
    entries = xp.take(xp.reshape(S.blocks, (-1,)), integers(inside, xp, A.device), axis=0)
    high, wide = B.shape[0] // B.block_shape[0], B.shape[1] // B.block_shape[1]
    i = (rows[inside][:, None] * high + B.rows).ravel()
    j = (cols[inside][:, None] * wide + B.cols).ravel()
    blocks = entries[:, None, None, None] * B.blocks[None, ...]
    blocks = xp.reshape(blocks, (i.size, *B.block_shape))
    order = np.lexsort((j, i))
    shape = A.shape[0] * B.shape[0], A.shape[1] * B.shape[1]
    blocks = xp.take(blocks, integers(order, xp, A.device), axis=0)
    return BlockSparse(blocks, i[order], j[order], shape=shape)
