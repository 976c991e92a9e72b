"""Tiles of a hierarchical matrix: their pieces as arrays, sums of them, and products."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import to_numpy
from structmat.intervals import IntArray
from structmat.kernels.layouts.rectangles import DENSE, triangle_index
from structmat.matrices.hierarchical import Hierarchical
from structmat.solvers.hierarchical.tree import INSIDE, LOWER, UPPER, Halves, sorted_pieces

#: Factors of a piece from the left: U and V^H, or one array of entries.
Factors = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Tile:
    """A rectangle (p, q) with pieces of low rank and dense ones, which add up."""

    shape: tuple[int, int]
    #: First row and first column of each piece, and its factors.
    pieces: list[tuple[int, int, Factors]]

    @property
    def work(self) -> int:
        """Multiplications of a product with one vector."""
        return sum(factor.size for _, _, factors in self.pieces for factor in factors)

    def factors(self, most: int, dtype: Any) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """U^T (r, p) and V^T (r, q) of a tile that is one piece of a rank up to `most`."""
        p, q = self.shape
        if not self.pieces:
            return np.zeros((0, p), dtype), np.zeros((0, q), dtype)
        i, j, factors = self.pieces[0]
        if len(self.pieces) > 1 or len(factors) == 1 or len(factors[1]) > min(most, p, q):
            return None
        return _padded(factors[0].T, i, p), _padded(factors[1].conj(), j, q)

    def formed(self, dtype: Any) -> "Tile":
        """The same with one dense piece."""
        total = np.zeros(self.shape, dtype)
        for i, j, factors in self.pieces:
            block = factors[0] if len(factors) == 1 else factors[0] @ factors[1]
            total[i : i + block.shape[0], j : j + block.shape[1]] += block
        return Tile(self.shape, [(0, 0, (total,))])

    def times(self, x: NDArray[Any]) -> NDArray[Any]:
        """T x."""
        y = np.zeros((self.shape[0], x.shape[1]), x.dtype)
        for i, j, factors in self.pieces:
            z = x[j : j + factors[-1].shape[1]]
            for factor in reversed(factors):
                z = factor @ z
            y[i : i + len(z)] += z
        return y

    def adjoint_times(self, x: NDArray[Any]) -> NDArray[Any]:
        """T^H x."""
        y = np.zeros((self.shape[1], x.shape[1]), x.dtype)
        for i, j, factors in self.pieces:
            z = x[i : i + len(factors[0])]
            for factor in factors:
                z = factor.conj().T @ z
            y[j : j + len(z)] += z
        return y


class Tiles:
    """The pieces of a square matrix on the host, by the nodes of a tree."""

    def __init__(self, A: Hierarchical, tree: Halves, dtype: Any) -> None:
        self._of, self._tree, self.dtype = A.rectangles, tree, np.dtype(dtype)
        self._flat = [to_numpy(array).astype(dtype, copy=False) for array in (A.u, A.v, A.dense)]
        self._pieces = sorted_pieces(A.rectangles, tree)
        key = 3 * self._pieces.node + self._pieces.tile
        self._first = np.searchsorted(key, np.arange(3 * len(tree.begin) + 1))

    @property
    def symmetric(self) -> bool:
        """Tell whether lower tiles stand for the upper ones."""
        return self._of.symmetric

    def tile(self, node: int, which: int) -> Tile:
        """The tile of a node below its diagonal, or above it; the lower one if symmetric."""
        a, m, b = (int(side[node]) for side in self._tree[:3])
        top, left, shape = (m, a, (b - m, m - a)) if which == LOWER else (a, m, (m - a, b - m))
        found = self._placed(node, which, top, left)
        if self.symmetric:
            mirrored = self._placed(node, UPPER, left, top)
            found += [(j, i, _adjoint(factors)) for i, j, factors in mirrored]
        return Tile(shape, found)

    def leaf(self, node: int) -> NDArray[Any]:
        """All entries of a leaf's own block."""
        a, b = int(self._tree.begin[node]), int(self._tree.end[node])
        pieces = self._placed(node, INSIDE, a, a)
        if self.symmetric:
            pieces += [(j, i, _adjoint(factors)) for i, j, factors in pieces if i != j]
        (whole,) = Tile((b - a, b - a), pieces).formed(self.dtype).pieces
        return whole[2][0]

    def _placed(self, node: int, which: int, top: int, left: int) -> list[tuple[int, int, Factors]]:
        first, last = self._first[3 * node + which], self._first[3 * node + which + 1]
        found = []
        for k, (a, b, c, d) in zip(
            self._pieces.block[first:last].tolist(),
            self._pieces.ends[first:last].tolist(),
            strict=True,
        ):
            found.append((a - top, c - left, self._factors(k, a, b, c, d)))
        return found

    def _factors(self, k: int, a: int, b: int, c: int, d: int) -> Factors:
        """Factors of rows a to b and columns c to d of a block."""
        top, p, left, q, rank = self._of.table[k].tolist()
        u, v, dense = self._flat
        rows, cols = slice(a - top, b - top), slice(c - left, d - left)
        in_u, in_v, in_dense = (int(begin[k]) for begin in self._of.begins)
        if rank != DENSE:
            U = u[in_u : in_u + rank * p].reshape(rank, p)[:, rows]
            V = v[in_v : in_v + rank * q].reshape(rank, q)[:, cols]
            return U.T, V.conj()
        if not self._of.is_triangular[k]:
            return (dense[in_dense : in_dense + p * q].reshape(p, q)[rows, cols],)
        below, at = _triangle(p)
        full = dense[in_dense + at]
        if full.dtype.kind == "c":
            full = np.where(below, full, full.conj())
            np.fill_diagonal(full, full.diagonal().real)
        return (full[rows, cols],)


@lru_cache(maxsize=64)
def _triangle(p: int) -> tuple[NDArray[np.bool_], IntArray]:
    """A mask of a lower triangle, and the places of all entries in one that is stored by rows."""
    i, j = np.indices((p, p))
    return i >= j, triangle_index(i, j)


def _adjoint(factors: Factors) -> Factors:
    return tuple(factor.conj().T for factor in reversed(factors))


def _padded(factor: NDArray[Any], first: int, size: int) -> NDArray[Any]:
    whole = np.zeros((len(factor), size), factor.dtype)
    whole[:, first : first + factor.shape[1]] = factor
    return whole
