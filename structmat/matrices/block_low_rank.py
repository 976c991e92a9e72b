"""Block low rank: a grid of tiles, each with a rank of its own."""

import numbers
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from structmat._array import (
    Array,
    adjoint,
    as_content,
    common_device,
    computing_on,
    conj,
    integers,
    namespace,
    to_numpy,
)
from structmat._checks import exact_total, integer_array, matrix_shape
from structmat.contract.entries import factored_norm
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray, is_stretch, offsets
from structmat.kernels.choice.factored import FactoredMatrix
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import StackedPattern
from structmat.kinds import rule
from structmat.matrix import StructuredMatrix

Tile = Any
#: Entry of `BlockLowRank.ranks` for a tile that is stored dense.
DENSE = -1


class BlockLowRank(StructuredMatrix, kind="block_low_rank"):
    """Tiles on a grid, each U V^H of its own rank, dense, or zero.

    Cost and storage are r (p + q) for a p x q tile of rank r and p q for a dense one.

    Parameters
    ----------
    tiles : mapping of (i, j) to (U, V) or array
        Tile (i, j) is U V^H with U (p_i, r) and V (q_j, r), or a dense (p_i, q_j)
        array. Absent tiles are zero.
    row_sizes, col_sizes : sequence of int
        Heights p_i and widths q_j of the grid; their sums are the shape.

    Attributes
    ----------
    places : ndarray of int, shape (t, 2)
        Grid coordinates of the tiles, sorted by row and column.
    ranks : ndarray of int, shape (t,)
        Rank of each tile, or -1 for a dense one.
    u, v, dense : array
        All U, all V and all dense tiles, each tile by rows, one after another.

    Raises
    ------
    InputError
        If a tile is off the grid or a size is negative.
    ShapeError
        If a tile does not fit its place.

    Examples
    --------
    >>> import numpy as np
    >>> A = BlockLowRank({(0, 1): (np.ones((2, 1)), np.ones((1, 1))), (1, 0): np.eye(1, 2)},
    ...                  row_sizes=[2, 1], col_sizes=[2, 1])
    >>> A.to_dense()
    array([[0., 0., 1.],
           [0., 0., 1.],
           [1., 0., 0.]])
    >>> A.cost
    5
    """

    data_names = ("u", "v", "dense")
    static_names = ("places", "ranks", "row_sizes", "col_sizes")
    scaled_names = ("u", "dense")
    u: Array
    v: Array
    dense: Array

    def __init__(
        self, tiles: Mapping[tuple[int, int], Tile], *, row_sizes: Any, col_sizes: Any
    ) -> None:
        row_sizes, col_sizes = _sizes(row_sizes, "row_sizes"), _sizes(col_sizes, "col_sizes")
        places = _sorted_places(tiles)
        parts = [_check_tile(tiles[place], place, row_sizes, col_sizes) for place in places]
        u = [part[0] for part in parts if len(part) == 2]
        v = [part[1] for part in parts if len(part) == 2]
        dense = [part[0] for part in parts if len(part) == 1]
        everything = [*u, *v, *dense] or [np.zeros(0)]
        ranks = [part[0].shape[1] if len(part) == 2 else DENSE for part in parts]
        self._set(
            np.asarray(places, np.int64).reshape(-1, 2),
            np.asarray(ranks, np.int64),
            {
                "u": _packed(u, everything),
                "v": _packed(v, everything),
                "dense": _packed(dense, everything),
            },
            row_sizes,
            col_sizes,
        )

    def _set(
        self,
        places: IntArray,
        ranks: IntArray,
        arrays: Mapping[str, Array],
        row_sizes: IntArray,
        col_sizes: IntArray,
    ) -> None:
        self.places, self.ranks = places, ranks
        self.row_sizes, self.col_sizes = row_sizes, col_sizes
        self._has_dense = bool((ranks == DENSE).any())
        self._check_packing(arrays)
        super().__init__((int(row_sizes.sum()), int(col_sizes.sum())), arrays)

    def _check_packing(self, arrays: Mapping[str, Array]) -> None:
        """Refuse packed contents that do not fill the tiles, as those of a damaged file."""
        _sizes(self.row_sizes, "row_sizes")
        _sizes(self.col_sizes, "col_sizes")
        count, grid = self.ranks.size, (len(self.row_sizes), len(self.col_sizes))
        if self.places.shape != (count, 2) or (self.ranks < DENSE).any():
            raise ShapeError(
                f"places of shape {self.places.shape} for ranks {self.ranks.tolist()}; expected "
                "two coordinates a tile, and ranks of at least 0, or -1 for a dense tile"
            )
        if ((self.places < 0) | (self.places >= grid)).any():
            raise InputError(f"tiles at {self.places.tolist()}; expected places on a {grid} grid")
        matrix_shape((exact_total(self.row_sizes), exact_total(self.col_sizes)))
        height, width = self.row_sizes[self.places[:, 0]], self.col_sizes[self.places[:, 1]]
        rank, dense = np.maximum(self.ranks, 0), (self.ranks == DENSE).astype(np.int64)
        parts = (height, rank), (width, rank), (height, width, dense)
        for name, part in zip(self.data_names, parts, strict=True):
            if tuple(arrays[name].shape) != (total := exact_total(*part),):
                raise ShapeError(
                    f"{name} has shape {tuple(arrays[name].shape)}; expected ({total},), one "
                    "entry for each of its tiles' places"
                )

    @property
    def _begins(self) -> tuple[IntArray, IntArray, IntArray]:
        """Start of every tile in `u`, in `v` and in `dense`, then the end of the last one."""
        height, width = self.row_sizes[self.places[:, 0]], self.col_sizes[self.places[:, 1]]
        rank = np.maximum(self.ranks, 0)
        area = np.where(self.ranks == DENSE, height * width, 0)
        return offsets(height * rank), offsets(width * rank), offsets(area)

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: Σ r (p + q), the area for a dense tile."""
        return sum(int(begin[-1]) for begin in self._begins)

    @property
    def tiles(self) -> dict[tuple[int, int], Tile]:
        """The tiles as the constructor takes them; views of the packed arrays."""
        begins = self._begins
        return {(int(i), int(j)): self._tile(t, begins) for t, (i, j) in enumerate(self.places)}

    def _tile(self, t: int, begins: tuple[IntArray, IntArray, IntArray]) -> Tile:
        """Tile t, for the starts of all tiles."""
        (i, j), rank, reshape = self.places[t], int(self.ranks[t]), self.xp.reshape
        p, q = int(self.row_sizes[i]), int(self.col_sizes[j])
        in_u, in_v, in_dense = (slice(int(side[t]), int(side[t + 1])) for side in begins)
        if rank == DENSE:
            return reshape(self.dense[in_dense], (p, q))
        return reshape(self.u[in_u], (p, rank)), reshape(self.v[in_v], (q, rank))

    # A = [U-panels | dense tiles] @ [V-panels^H ; I]: the middle vector holds one entry a
    # rank, then the operand itself, so that a dense tile costs its area and no more.

    @property
    def _factored(self) -> FactoredMatrix:
        return self._kept("factored", self._fill)

    def _fill(self) -> FactoredMatrix:
        learns = self._backend.records_gradients
        # An empty array that learns has its gradient, too.
        joined = self._has_dense or (learns is not None and learns(self.dense))
        row = self.xp.concat([self.u, self.dense]) if joined else self.u
        structure = self._structural("factors", self._factors)
        return FactoredMatrix(structure, [row, self.v], weighed=self._weighed_by_layer)

    def _factors(self) -> FactorStructure:
        patterns = self._row_pattern(), self._col_pattern()
        return FactorStructure(*patterns, self.xp, self.device, through=self._has_dense)

    def _row_pattern(self) -> StackedPattern:
        (in_u, _, in_dense), middle = self._begins, offsets(np.maximum(self.ranks, 0))
        col_begin = offsets(self.col_sizes)
        tiles = []
        for t, ((i, j), rank) in enumerate(zip(self.places, self.ranks, strict=True)):
            if rank == DENSE:
                columns = middle[-1] + np.arange(col_begin[j], col_begin[j + 1])
                tiles.append((i, in_u[-1] + in_dense[t], columns))
            else:
                tiles.append((i, in_u[t], np.arange(middle[t], middle[t + 1])))
        size = int(middle[-1]) + (self.shape[1] if self._has_dense else 0)
        return StackedPattern(self.row_sizes, tiles, size)

    def _col_pattern(self) -> StackedPattern:
        in_v, middle = self._begins[1], offsets(np.maximum(self.ranks, 0))
        tiles = [
            (j, in_v[t], np.arange(middle[t], middle[t + 1]))
            for t, j in enumerate(self.places[:, 1])
            if self.ranks[t] != DENSE
        ]
        return StackedPattern(self.col_sizes, tiles, int(middle[-1]))

    def _multiply(self, x: Array) -> Array:
        return self._factored.multiply(x)

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._factored.multiply_adjoint(y)

    def _dense(self) -> Array:
        return self._dense_by_products()

    def _adjoint(self) -> "BlockLowRank":
        xp, arrays = self.xp, {name: getattr(self, name) for name in self.data_names}
        if not self.ranks.size:
            static = {**self._static(), "row_sizes": self.col_sizes, "col_sizes": self.row_sizes}
            return self._build(arrays, (), static)
        tiles = {
            (j, i): tile[::-1] if isinstance(tile, tuple) else adjoint(tile, xp)
            for (i, j), tile in self.tiles.items()
        }
        return BlockLowRank(tiles, row_sizes=self.col_sizes, col_sizes=self.row_sizes)

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        """Entries tile by tile: O(rank) each."""
        xp, tiles = self.xp, self.tiles
        tops, lefts = offsets(self.row_sizes), offsets(self.col_sizes)
        i = np.searchsorted(tops, rows, side="right") - 1
        j = np.searchsorted(lefts, cols, side="right") - 1
        key = i * max(len(self.col_sizes), 1) + j
        order, found = np.argsort(key, kind="stable"), []
        for some in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
            if some.size:
                place = int(i[some[0]]), int(j[some[0]])
                at = rows[some] - tops[place[0]], cols[some] - lefts[place[1]]
                found.append(self._in_tile(tiles.get(place), *at))
        back = integers(np.argsort(order), xp, self.device)
        none = xp.zeros(0, dtype=self.dtype, device=self.device)
        return xp.take(xp.concat([none, *found]), back, axis=0)

    def _in_tile(self, tile: Tile, rows: IntArray, cols: IntArray) -> Array:
        xp = self.xp
        if tile is None:
            return xp.zeros(rows.size, dtype=self.dtype, device=self.device)
        if isinstance(tile, tuple):
            U, V = (
                xp.take(F, integers(at, xp, self.device), axis=0)
                for F, at in zip(tile, (rows, cols), strict=True)
            )
            return xp.sum(U * conj(V, xp), axis=1)
        at = integers(rows * tile.shape[1] + cols, xp, self.device)
        return xp.take(xp.reshape(tile, (-1,)), at, axis=0)

    def _part(self, rows: IntArray, cols: IntArray) -> Any:
        """Slices cut the tiles at their edges."""
        if not (self.ranks.size and is_stretch(rows) and is_stretch(cols)):
            return NotImplemented
        cuts = [_cuts(self.row_sizes, rows), _cuts(self.col_sizes, cols)]
        lengths = [end - begin for begin, end in cuts]
        left = [side > 0 for side in lengths]
        inside = np.flatnonzero(left[0][self.places[:, 0]] & left[1][self.places[:, 1]])
        if not inside.size:  # of all tiles, which hold the dtype
            left, inside = [np.ones_like(side) for side in left], np.arange(self.ranks.size)
        at, begins, tiles = [np.cumsum(side) - 1 for side in left], self._begins, {}
        for t in inside.tolist():
            tile, (i, j) = self._tile(t, begins), self.places[t]
            p, q = (slice(int(c[0][k]), int(c[1][k])) for c, k in zip(cuts, (i, j), strict=True))
            part = (tile[0][p, :], tile[1][q, :]) if isinstance(tile, tuple) else tile[p, q]
            tiles[int(at[0][i]), int(at[1][j])] = part
        sizes = [side[kept] for side, kept in zip(lengths, left, strict=True)]
        return BlockLowRank(tiles, row_sizes=sizes[0], col_sizes=sizes[1])

    def _norm(self, ord: Any) -> Any:
        if ord != "fro":
            return NotImplemented
        norms = [
            factored_norm(tile[0], tile[1], ord) if isinstance(tile, tuple) else _norm_of(tile)
            for tile in self.tiles.values()
        ]
        return np.linalg.norm(np.asarray(norms))

    @classmethod
    def _from_parts(cls, *, u: Array, v: Array, dense: Array, **static: IntArray) -> Self:
        matrix = cls.__new__(cls)
        matrix._set(arrays={"u": u, "v": v, "dense": dense}, **static)
        return matrix


def _norm_of(tile: Array) -> float:
    return float(np.linalg.norm(to_numpy(tile)))


def _cuts(sizes: IntArray, at: IntArray) -> tuple[IntArray, IntArray]:
    """First and last position of a stretch of indices inside each tile of these sizes."""
    begins = offsets(sizes)[:-1]
    return np.clip(at[0] - begins, 0, sizes), np.clip(at[-1] + 1 - begins, 0, sizes)


def _sizes(values: Any, name: str) -> IntArray:
    sizes = integer_array(values, name)
    if (sizes < 0).any():
        raise InputError(f"{name} holds {sizes.min()}; expected sizes of at least 0")
    return sizes


def _sorted_places(tiles: Any) -> list[tuple[int, int]]:
    if not isinstance(tiles, Mapping):
        raise InputError(
            f"tiles is a {type(tiles).__qualname__}; expected a mapping of (i, j) to (U, V) or "
            "to a dense array"
        )
    for place in tiles:
        pair = isinstance(place, tuple) and len(place) == 2
        if not (pair and all(isinstance(i, numbers.Integral) for i in place)):
            raise InputError(f"tile at {place!r}; expected a pair (i, j) of integers")
    return sorted(tiles)


def _check_tile(
    tile: Tile, place: tuple[int, int], row_sizes: IntArray, col_sizes: IntArray
) -> tuple[Array, ...]:
    """Check that a tile fits its place; return it as (U, V) or as (dense,)."""
    i, j = place
    if not (0 <= i < len(row_sizes) and 0 <= j < len(col_sizes)):
        raise InputError(
            f"tile {place} is off the grid; expected rows 0 to {len(row_sizes) - 1} and columns "
            f"0 to {len(col_sizes) - 1} of tiles"
        )
    p, q = int(row_sizes[i]), int(col_sizes[j])
    if isinstance(tile, tuple):
        if len(tile) != 2:
            raise InputError(f"tile {place} holds {len(tile)} arrays; expected (U, V)")
        U, V = as_content(tile[0], f"U of tile {place}", 2), as_content(tile[1], f"V of {place}", 2)
        if U.shape[0] != p or V.shape[0] != q or U.shape[1] != V.shape[1]:
            raise ShapeError(
                f"tile {place} has U of shape {tuple(U.shape)} and V of shape {tuple(V.shape)}; "
                f"expected ({p}, r) and ({q}, r) with one rank r"
            )
        return U, V
    tile = as_content(tile, f"tile {place}", 2)
    if tuple(tile.shape) != (p, q):
        raise ShapeError(f"tile {place} has shape {tuple(tile.shape)}; expected {(p, q)}")
    return (tile,)


def _packed(parts: list[Array], everything: list[Array]) -> Array:
    """The parts, flattened, one after another, in the dtype and on the device of all."""
    xp, device = namespace(*everything), common_device(*everything)
    dtype = xp.result_type(*everything)
    with computing_on(xp, device):
        flat = [xp.astype(xp.reshape(a, (-1,)), dtype) for a in parts]
        return xp.concat([*flat, xp.zeros(0, dtype=dtype, device=device)])


@rule("add", "block_low_rank", "block_low_rank")
def _sum(a: BlockLowRank, b: BlockLowRank) -> Any:
    """Tile by tile where both have one grid: ranks add up, a dense tile takes the other in."""
    same_rows = np.array_equal(a.row_sizes, b.row_sizes)
    if not (same_rows and np.array_equal(a.col_sizes, b.col_sizes)):
        return NotImplemented
    xp, tiles = a.xp, a.tiles
    for place, tile in b.tiles.items():
        mine = tiles.get(place)
        if mine is None:
            tiles[place] = tile
        elif isinstance(mine, tuple) and isinstance(tile, tuple):
            tiles[place] = tuple(xp.concat(pair, axis=1) for pair in zip(mine, tile, strict=True))
        else:
            tiles[place] = _filled(mine, xp) + _filled(tile, xp)
    if not tiles:
        return a
    return BlockLowRank(tiles, row_sizes=a.row_sizes, col_sizes=a.col_sizes)


def _filled(tile: Tile, xp: Any) -> Array:
    return tile[0] @ adjoint(tile[1], xp) if isinstance(tile, tuple) else tile
