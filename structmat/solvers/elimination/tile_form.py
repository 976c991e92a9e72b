"""Structured matrices as square matrices of tiles: dense arrays and thin products, on NumPy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from structmat._array import to_numpy
from structmat.intervals import IntArray, offsets
from structmat.matrices.block_low_rank import BlockLowRank
from structmat.matrices.block_sparse import BlockSparse
from structmat.matrices.lazy import Adjoint, Scaled, Sum
from structmat.matrix import StructuredMatrix
from structmat.solvers.elimination.sparse_form import sparse_form
from structmat.solvers.elimination.tile_arithmetic import (
    Thin,
    Tile,
    adjoint_tile,
    as_dense,
    as_tile,
)

Place = tuple[int, int]


@dataclass(frozen=True)
class TileForm:
    """A square matrix of tiles: borders `begins` (t + 1,), and tiles by place; others are zero."""

    begins: IntArray
    tiles: dict[Place, Tile]
    dtype: np.dtype

    @property
    def sizes(self) -> IntArray:
        """Side of each diagonal tile."""
        return np.diff(self.begins)

    def map(self, change: Callable[[Tile], Tile]) -> "TileForm":
        """The same grid with every tile changed."""
        return replace(self, tiles={at: change(tile) for at, tile in self.tiles.items()})


def tile_form(A: StructuredMatrix) -> TileForm | None:
    """Tiles of a block-low-rank matrix, of square blocks, or of a sum with matrices of few entries.

    The tiles of a sum are those of its coarsest grid; entries of terms with another grid, or
    without one, are laid onto it. None where the diagonal tiles are not square, or where there
    are no tiles.

    Examples
    --------
    >>> import structmat
    >>> A = structmat.BlockSparse(np.ones((1, 2, 2)), [1], [0], shape=(4, 4))
    >>> sorted(tile_form(A + structmat.Diagonal(np.ones(4))).tiles)
    [(0, 0), (1, 0), (1, 1)]
    """
    terms = A.children if isinstance(A, Sum) else (A,)
    forms = [_own_tiles(term) for term in terms]
    found = [form for form in forms if form is not None]
    if not found:
        return None
    grid = min(found, key=lambda form: len(form.begins)).begins
    tiles: dict[Place, Tile] = {}
    rest = []
    for term, form in zip(terms, forms, strict=True):
        if form is None or not np.array_equal(form.begins, grid):
            rest.append(term)
            continue
        for at, tile in form.tiles.items():
            tiles[at] = _added(tiles[at], tile) if at in tiles else tile
    if rest:
        entries = sparse_form(rest[0] if len(rest) == 1 else Sum(*rest))
        if entries is None:
            return None
        _lay(entries, tiles, grid)
    return TileForm(grid, tiles, np.dtype(A.dtype))


def tiles_in_a_row(A: StructuredMatrix) -> tuple[int, bool] | None:
    """Number of tiles along a side of the grid, and whether some may be thin; None without tiles.

    Nothing but sizes is read, so that a form of too many tiles is not made.

    Examples
    --------
    >>> import structmat
    >>> A = structmat.BlockSparse(np.ones((1, 2, 2)), [1], [0], shape=(4, 4))
    >>> tiles_in_a_row(A + structmat.Diagonal(np.ones(4)))
    (2, False)
    """
    if isinstance(A, Sum):
        found = [own for own in map(tiles_in_a_row, A.children) if own is not None]
        return (min(found)[0], any(thin for _, thin in found)) if found else None
    if isinstance(A, BlockLowRank):
        square = np.array_equal(A.row_sizes, A.col_sizes)
        return (int(np.count_nonzero(A.row_sizes)), True) if square else None
    if isinstance(A, BlockSparse):
        p, q = A.block_shape
        return (-(-A.shape[0] // p), False) if p == q and A.shape[0] == A.shape[1] else None
    return tiles_in_a_row(A.children[0]) if isinstance(A, (Scaled, Adjoint)) else None


def _own_tiles(A: StructuredMatrix) -> TileForm | None:
    """Tiles of a matrix that has a grid of its own."""
    if isinstance(A, BlockLowRank):
        return _of_tiles(A)
    if isinstance(A, BlockSparse):
        return _of_blocks(A)
    found = _own_tiles(A.children[0]) if isinstance(A, (Scaled, Adjoint)) else None
    if found is None:
        return None
    if isinstance(A, Scaled):
        alpha = to_numpy(A.alpha)[()]
        return found.map(lambda tile: _scaled(tile, alpha))
    tiles = {(j, i): adjoint_tile(tile) for (i, j), tile in found.tiles.items()}
    return replace(found, tiles=tiles)


def _of_tiles(A: BlockLowRank) -> TileForm | None:
    if not np.array_equal(A.row_sizes, A.col_sizes):
        return None
    kept = np.flatnonzero(A.row_sizes)
    at = {int(i): k for k, i in enumerate(kept)}
    tiles = {
        (at[i], at[j]): as_tile(tile)
        for (i, j), tile in A.tiles.items()
        if i in at and j in at and not (isinstance(tile, tuple) and not tile[0].shape[1])
    }
    return TileForm(offsets(A.row_sizes[kept]), tiles, np.dtype(A.dtype))


def _of_blocks(A: BlockSparse) -> TileForm | None:
    (p, q), n = A.block_shape, A.shape[0]
    if p != q or A.shape[1] != n:
        return None
    begins = np.minimum(np.arange(-(-n // p) + 1) * p, n)
    heights = np.diff(begins)
    tiles: dict[Place, Tile] = {
        (int(i), int(j)): block[: heights[i], : heights[j]]
        for i, j, block in zip(A.rows, A.cols, to_numpy(A.blocks), strict=True)
    }
    return TileForm(begins, tiles, np.dtype(A.dtype))


def _lay(entries: csr_array, tiles: dict[Place, Tile], begins: IntArray) -> None:
    """Add single entries to tiles, which become dense, and no longer share their contents."""
    at = entries.tocoo()
    places = [np.searchsorted(begins, side, side="right") - 1 for side in (at.row, at.col)]
    key = places[0].astype(np.int64) * len(begins) + places[1]
    order = np.argsort(key, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if not some.size:
            continue
        i, j = (int(side[some[0]]) for side in places)
        old = tiles.get((i, j))
        shape = int(begins[i + 1] - begins[i]), int(begins[j + 1] - begins[j])
        dense = np.zeros(shape, at.data.dtype) if old is None else as_dense(old)
        tiles[i, j] = dense = np.array(dense, np.result_type(dense, at.data))
        dense[at.row[some] - begins[i], at.col[some] - begins[j]] += at.data[some]


def _scaled(tile: Tile, alpha: Any) -> Tile:
    return Thin(tile.U * alpha, tile.V) if isinstance(tile, Thin) else tile * alpha


def _added(a: Tile, b: Tile) -> Tile:
    if isinstance(a, Thin) and isinstance(b, Thin):
        return Thin(np.concatenate([a.U, b.U], 1), np.concatenate([a.V, b.V], 1))
    return as_dense(a) + as_dense(b)


def shifted(form: TileForm, shift: Any) -> TileForm:
    """The form with a multiple of the identity added, and all diagonal tiles dense."""
    dtype = np.result_type(form.dtype, shift)
    tiles = dict(form.tiles)
    for k, size in enumerate(form.sizes.tolist()):
        old = tiles.get((k, k))
        dense = np.zeros((size, size), form.dtype) if old is None else as_dense(old)
        tiles[k, k] = dense + np.asarray(shift, dtype) * np.eye(size, dtype=dtype)
    return replace(form, tiles=tiles, dtype=dtype)


def is_hermitian(form: TileForm) -> bool:
    """True if every tile is the adjoint of the tile across the diagonal, to the last bit."""
    for (i, j), tile in form.tiles.items():
        if i > j:
            continue
        across = form.tiles.get((j, i))
        if across is None or isinstance(across, Thin) != isinstance(tile, Thin):
            return False
        if isinstance(tile, Thin) and isinstance(across, Thin):
            if not (np.array_equal(tile.U, across.V) and np.array_equal(tile.V, across.U)):
                return False
        elif not np.array_equal(as_dense(tile), as_dense(across).conj().T):
            return False
    return all((j, i) in form.tiles for i, j in form.tiles)
