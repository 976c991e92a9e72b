"""Traces with the inverse of a factored weak form, without a solve.

For a node of halves 1 and 2 the inverse is that of its halves and a term of low rank,

    S^-1 = diag(S1^-1, S2^-1) - Y M Y^T,    Y = diag(Y1, Y2),    M^-1 = ((G1, I), (I, G2)),

in the words of `recursion`. So tr(S^-1 B) is the sum over leaves of tr(S_leaf^-1 B_leaf), less
the sum over all other nodes of tr(M Y^T B Y). The products of B with the factors Y of all nodes
take the time of a product of B with as many columns as the ranks from the root to a leaf add up to.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray
from structmat.kernels.cpu.threads import num_threads, shared_out
from structmat.matrices.hierarchical import Hierarchical
from structmat.solvers.hierarchical.recursion import Recursion
from structmat.solvers.hierarchical.tiles import Tiles
from structmat.solvers.hierarchical.tree import LOWER

Real = NDArray[np.float64]


def inverse_trace(recursion: Recursion) -> float:
    """The trace of S^-1 for a real symmetric S, in the order of n r^2 operations.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> points = np.random.default_rng(0).random((300, 1))
    >>> K = structmat.KernelMatrix(points, "matern32")
    >>> A = structmat.compress(K, "hierarchical", tol=1e-9, rng=0).matrix
    >>> F = structmat.factorize(A, shift=0.1)
    >>> exact = np.trace(np.linalg.inv(K.to_dense() + 0.1 * np.eye(300)))
    >>> bool(np.isclose(inverse_trace(F.recursion), exact))
    True
    """
    tree, Y = recursion.tree, recursion.factors
    total = sum(float(np.trace(recursion.inverse(leaf))) for leaf in tree.leaves.tolist())
    for node in tree.inner.tolist():
        one, two = tree.sides(node)
        M = _middle(recursion, node)
        total -= _dot(M.first, Y[one] @ Y[one].T) + _dot(M.second, Y[two] @ Y[two].T)
    return total


def trace_with(recursion: Recursion, B: Hierarchical) -> float:
    """The trace of S^-1 B for real symmetric S and B in the same order.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> from structmat.solvers.hierarchical.points import compressed_beside
    >>> points = np.random.default_rng(0).random((300, 1))
    >>> K, dK = (structmat.KernelMatrix(points, name) for name in ("matern32", "matern32 slope"))
    >>> A = structmat.compress(K, "hierarchical", tol=1e-9, rng=0).matrix
    >>> B = compressed_beside(dK, A, 1e-9)
    >>> F = structmat.factorize(A, shift=0.1)
    >>> exact = np.trace(F.solve(B.to_dense()))
    >>> bool(np.isclose(trace_with(F.recursion, B), exact))
    True
    """
    tree, Y = recursion.tree, recursion.factors
    products = _Products(recursion, B)
    total = products.leaves
    for node in tree.inner.tolist():
        one, two = tree.sides(node)
        M = _middle(recursion, node)
        total -= _dot(M.first, Y[one] @ products.inside[one].T)
        total -= _dot(M.second, Y[two] @ products.inside[two].T)
        total -= 2 * _dot(M.beside, products.across[node])
    return total


class _Middle(NamedTuple):
    """M of a node: its first block, its second one, and the one that joins the halves."""

    first: Real
    second: Real
    beside: Real


def _middle(recursion: Recursion, node: int) -> _Middle:
    # The inverse that is kept has the columns of the halves exchanged.
    K = recursion.inverse(node)
    rank = len(K) // 2
    return _Middle(K[:rank, rank:], K[rank:, :rank], K[:rank, :rank])


def _dot(A: Real, B: Real) -> float:
    """The trace of A B."""
    return float((A * B.T).sum())


class _Products:
    """Products of the blocks of B on and beside the diagonal with the factors of nodes.

    Attributes
    ----------
    leaves : float
        The traces of S^-1 B of all leaves.
    inside : list of array
        (B_c Y_c)^T for the block B_c on the diagonal of each node c, (r, rows).
    across : dict of array
        Y_2^T B_21 Y_1 for each node of halves 1 and 2, (r, r).
    """

    def __init__(self, recursion: Recursion, B: Hierarchical) -> None:
        self.tree, self.factors = recursion.tree, recursion.factors
        self.inside = [np.zeros_like(factor) for factor in self.factors]
        self.across: dict[int, Real] = {}
        self._recursion, self._tiles = recursion, Tiles(B, self.tree, np.float64)
        self._above, levels = self._paths(), self.tree.level[self.tree.inner]
        self.leaves = sum(self._shared(self._inside_leaf, self.tree.leaves))
        for level in np.unique(levels):
            nodes = self.tree.inner[levels == level]
            products = self._shared(self._across, nodes)
            self.across.update(zip(nodes.tolist(), products, strict=True))

    def _shared(self, each: Callable[[int], Any], nodes: IntArray) -> list[Any]:
        """Results for nodes without rows in common, shared out among threads."""
        found: list[Any] = [None] * len(nodes)

        def work(first: int, last: int) -> None:
            for k in range(first, last):
                found[k] = each(int(nodes[k]))

        shared_out(work, len(nodes), num_threads())
        return found

    def _paths(self) -> list[list[int]]:
        """The nodes from each one up to below the root."""
        found: list[list[int]] = [[] for _ in self.factors]
        for node in self.tree.inner.tolist():
            for half in self.tree.sides(node):
                found[half] = [half, *found[node]]
        return found

    def _inside_leaf(self, leaf: int) -> float:
        """The block of a leaf, for its own factor and for those above, and its trace."""
        block = self._tiles.leaf(leaf)
        self._add(leaf, leaf, self._stacked(leaf, leaf) @ block)
        return _dot(self._recursion.inverse(leaf), block)

    def _across(self, node: int) -> Real:
        """The tiles of a node, for its own factor and those above; Y_2^T B_21 Y_1 of its halves."""
        one, two = self.tree.sides(node)
        tile = self._tiles.tile(node, LOWER)
        first = np.concatenate([self._stacked(node, one), self.factors[one]])
        product = tile.times(first.T).T
        above = len(product) - len(self.factors[one])
        self._add(node, two, product[:above])
        self._add(node, one, tile.adjoint_times(self._stacked(node, two).T).T)
        return self.factors[two] @ product[above:].T

    def _stacked(self, node: int, part: int) -> Real:
        """The factors of a node and of those above it, at the rows of a part of the node."""
        rows = self.tree.rows(part)
        found = [self.factors[c][:, self._within(c, rows)] for c in self._above[node]]
        return np.concatenate(found or [np.zeros((0, rows.stop - rows.start))])

    def _add(self, node: int, part: int, stacked: Real) -> None:
        """Add products for a node and those above it, at the rows of a part of the node."""
        rows, at = self.tree.rows(part), 0
        for c in self._above[node]:
            rank = len(self.factors[c])
            self.inside[c][:, self._within(c, rows)] += stacked[at : at + rank]
            at += rank

    def _within(self, node: int, rows: slice) -> slice:
        first = int(self.tree.begin[node])
        return slice(rows.start - first, rows.stop - first)
