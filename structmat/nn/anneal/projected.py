"""Result of a projection: the structure of a weight while it is learned."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, masked, namespace, to_numpy
from structmat.binding import construct
from structmat.intervals import IntArray, offsets
from structmat.matrices import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    Dense,
    LowRank,
    Permutation,
)
from structmat.matrix import StructuredMatrix
from structmat.project.reordered import reordered


@dataclass(frozen=True, kw_only=True)
class Projected:
    """Structure of an (m, n) weight, as a projection found it.

    Attributes
    ----------
    cost : int
        Multiplications for one vector.
    support : array of bool (m, n)
        Entries that may differ from zero.
    row_order, col_order : array of int, optional
        Orders in which runs and blocks are contiguous: position k holds row ``row_order[k]``.
        None for the given order.
    matrix : StructuredMatrix, optional
        The weight as the projection leaves it, on NumPy and in these orders. None where the
        entries on the support stay as they are.
    side : int, optional
        Rows and columns of the tiles that the support consists of.
    is_final : bool
        Whether no later projection changes the structure, whatever its cap.
    price : float
        Energy for one multiplication at which the projection met its cap, to start the next
        one from.
    charge : float
        Multiplications that each block counted beside its own.
    """

    cost: int
    support: NDArray[np.bool_]
    row_order: IntArray | None = None
    col_order: IntArray | None = None
    matrix: StructuredMatrix | None = None
    side: int | None = None
    price: float | None = None
    charge: float = 0.0
    is_final: bool = False

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> "Projected":
        """The structure of a weight before its first projection: all entries."""
        return cls(cost=math.prod(shape), support=np.ones(shape, bool))

    @property
    def storage(self) -> int:
        """Scalars of the structure, with its orders: a run of L entries has L + 1."""
        orders = sum(len(order) for order in (self.row_order, self.col_order) if order is not None)
        if self.matrix is not None:
            return self.matrix.storage + orders
        if self.side is not None or self.support.all():
            return self.cost + orders
        rows, cols = self.order
        return self.cost + len(runs_of(self.support[rows][:, cols])[0]) + orders

    @property
    def order(self) -> tuple[IntArray, IntArray]:
        """Orders of rows and columns; the given ones as well."""
        m, n = self.support.shape
        rows = np.arange(m) if self.row_order is None else self.row_order
        cols = np.arange(n) if self.col_order is None else self.col_order
        return rows, cols


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of projections.

    Attributes
    ----------
    charge : float
        Multiplications that a block counts beside its own.
    orders : bool
        Whether rows and columns may be reordered.
    tile : int, optional
        Rows and columns of tiles; by default chosen by the budget.
    group : int, optional
        Outputs that share their windows of inputs; by default each has runs of its own, and
        blocks later.
    """

    charge: float = 0.0
    orders: bool = True
    tile: int | None = None
    group: int | None = None


def in_order(
    matrix: StructuredMatrix, row_order: IntArray | None, col_order: IntArray | None
) -> StructuredMatrix:
    """The matrix of the given order, from the one whose rows and columns are reordered."""
    xp, device = matrix.xp, matrix.device
    if col_order is not None:
        matrix = matrix @ Permutation(xp.asarray(col_order, device=device))
    if row_order is not None:
        matrix = Permutation(xp.asarray(row_order, device=device)).H @ matrix
    return matrix


def in_given_order(
    mask: NDArray[np.bool_], row_order: IntArray | None, col_order: IntArray | None
) -> NDArray[np.bool_]:
    """The mask of the given order, from one whose rows and columns are reordered."""
    rows = slice(None) if row_order is None else np.argsort(row_order)
    cols = slice(None) if col_order is None else np.argsort(col_order)
    return mask[rows][:, cols]


def balanced(matrix: LowRank | BlockLowRank) -> StructuredMatrix:
    """The same matrix, with factors of equal norm for each rank: these train best.

    Examples
    --------
    >>> matrix = balanced(LowRank(np.array([[8.0], [0.0]]), np.array([[2.0]])))
    >>> matrix.U.ravel().tolist(), matrix.V.ravel().tolist()
    ([4.0, 0.0], [4.0])
    """
    if isinstance(matrix, LowRank):
        return LowRank(*_balanced(matrix.U, matrix.V))
    (rows, cols), ranks = matrix.places.T, np.maximum(matrix.ranks, 0)
    # Ranks of all tiles, numbered one after another, to which the packed factors belong.
    of_u, of_v = (
        _ranks_of(sizes[at], ranks)
        for sizes, at in ((matrix.row_sizes, rows), (matrix.col_sizes, cols))
    )
    count = int(ranks.sum())
    left, right = (
        np.sqrt(np.bincount(at, part.astype(np.float64) ** 2, minlength=count))
        for at, part in ((of_u, matrix.u), (of_v, matrix.v))
    )
    ratio = _ratio(left, right).astype(matrix.dtype)
    return construct(matrix, [matrix.u * ratio[of_u], matrix.v / ratio[of_v], matrix.dense])


def _ranks_of(sizes: IntArray, ranks: IntArray) -> IntArray:
    """Number of the rank of each entry of packed factors (size, rank), row after row."""
    entries = sizes * ranks
    inside = np.arange(int(entries.sum())) - np.repeat(offsets(entries)[:-1], entries)
    found: IntArray = np.repeat(offsets(ranks)[:-1], entries) + inside % np.repeat(ranks, entries)
    return found


def _ratio(left: NDArray, right: NDArray) -> NDArray:
    """Factors that give columns of two norms the same one; 1 where there is none."""
    some = (left > 0) & (right > 0)
    ratio: NDArray = np.divide(right, left, out=np.ones_like(left), where=some) ** 0.5
    return ratio


def _balanced(U: NDArray, V: NDArray) -> tuple[NDArray, NDArray]:
    ratio = _ratio(np.linalg.norm(U, axis=0), np.linalg.norm(V, axis=0))
    return U * ratio, V / ratio


def runs_of(support: NDArray[np.bool_]) -> tuple[IntArray, IntArray, IntArray]:
    """Rows, starts and lengths of the runs of a support, row after row.

    Examples
    --------
    >>> rows, starts, lengths = runs_of(np.array([[True, True, False, True]]))
    >>> rows.tolist(), starts.tolist(), lengths.tolist()
    ([0, 0], [0, 3], [2, 1])
    """
    m, n = support.shape
    edges = np.zeros((m, n + 1), np.int8)
    edges[:, :n] = support
    edges[:, 1:] -= support
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return rows, starts, ends - starts


def packed(weight: NDArray, projected: Projected) -> StructuredMatrix:
    """The matrix of the entries on a support, without any loss: runs, tiles, or all of them."""
    support, (rows, cols) = projected.support, projected.order
    if support.all():
        return Dense(weight)
    if projected.side is not None:
        return _tiles(weight, support, projected.side)
    ordered, kept = weight[rows][:, cols], support[rows][:, cols]
    at, start, length = runs_of(kept)
    one = np.ones_like(at)
    matrix = GBLR(
        at, one, np.ones(len(at), weight.dtype), start, length, ordered[kept], shape=weight.shape
    )
    return in_order(matrix, projected.row_order, projected.col_order)


def _tiles(weight: NDArray, support: NDArray[np.bool_], side: int) -> BlockSparse:
    """Block-sparse matrix of the tiles that hold a part of the support."""
    (m, n), (down, across) = weight.shape, (-(-s // side) for s in weight.shape)
    padded = np.zeros((down * side, across * side), weight.dtype)
    padded[:m, :n] = np.where(support, weight, 0)
    tiles = padded.reshape(down, side, across, side).swapaxes(1, 2)
    marks = np.zeros(padded.shape, bool)
    marks[:m, :n] = support
    rows, cols = np.nonzero(marks.reshape(down, side, across, side).any((1, 3)))
    return BlockSparse(tiles[rows, cols], rows, cols, shape=(m, n))


def named_order(order: tuple[IntArray, IntArray]) -> dict[str, Any]:
    """Orders by name, None for the given ones."""
    names = ("row_order", "col_order")
    given = [np.array_equal(at, np.arange(len(at))) for at in order]
    return {n: None if same else at for n, at, same in zip(names, order, given, strict=True)}


def nearest(W: Array, made: list[Projected]) -> Projected:
    """The projection that misses least of W, and of several the one of fewest scalars."""
    return min(made, key=lambda one: (missed(W, one), one.storage))


def energy_of(W: Array) -> float:
    """Sum of the squares of a real matrix."""
    xp = namespace(W)
    return float(xp.sum(xp.vecdot(W, W), dtype=xp.float64))


def missed(W: Array, found: Projected) -> float:
    """Squared distance of W from a projection; W is of any library."""
    if found.matrix is None:
        return energy_of(masked(W, ~found.support, namespace(W)))
    return energy_of(to_numpy(reordered(W, *found.order)) - found.matrix.to_dense())
