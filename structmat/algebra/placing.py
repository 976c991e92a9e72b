"""Blocks at places of a grid, as one structured matrix where that is exact and costs no more."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from structmat._array import integers
from structmat.errors import ConversionError
from structmat.intervals import IntArray, offsets, ramps
from structmat.kinds import rule
from structmat.matrices import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    Dense,
    Diagonal,
    Grid,
    Hierarchical,
    Identity,
    LowRank,
    Permutation,
)
from structmat.matrix import StructuredMatrix

Sizes = tuple[IntArray, IntArray]


def placed(
    blocks: Sequence[StructuredMatrix], places: Sequence[tuple[int, int]], sizes: Sizes
) -> StructuredMatrix:
    """The matrix with blocks at places (t, 2) of the grid of these heights and widths.

    Examples
    --------
    >>> sizes = np.array([1, 2]), np.array([1, 2])
    >>> placed([Diagonal([1.0]), Diagonal([2.0, 3.0])], [(0, 0), (1, 1)], sizes).d
    array([1., 2., 3.])
    """
    lazy = Grid(*blocks, places=places, row_sizes=sizes[0], col_sizes=sizes[1])
    if len(blocks) == 1 and blocks[0].shape == lazy.shape:
        return blocks[0]
    for structured in (_dense, _diagonal, _block_sparse, _tiles, _runs, _hierarchical):
        found = structured(lazy)
        if found is not None and found.cost <= lazy.cost:
            return found if found.dtype == lazy.dtype else found.astype(lazy.dtype)
    return lazy


def _kinds(A: Grid) -> set[type]:
    return {type(block) for block in A.children}


def _is_diagonal(A: Grid) -> bool:
    """True if square blocks stand on the whole diagonal of the grid, in order."""
    same = np.array_equal(A.row_sizes, A.col_sizes)
    at = np.arange(len(A.row_sizes))
    return same and np.array_equal(A.places, np.stack([at, at], axis=1))


def _dense(A: Grid) -> StructuredMatrix | None:
    """Dense blocks at all places."""
    full = len(A.children) == len(A.row_sizes) * len(A.col_sizes)
    return Dense(A.to_dense()) if full and _kinds(A) == {Dense} else None


def _diagonal(A: Grid) -> StructuredMatrix | None:
    """Identities, permutations and diagonal matrices down the diagonal."""
    if not _is_diagonal(A):
        return None
    kinds, xp = _kinds(A), A.xp
    if kinds == {Identity}:
        return Identity(A.shape[0], like=A._leaves()[0])
    if kinds <= {Identity, Permutation}:
        tops = offsets(A.row_sizes).tolist()
        parts = [M.to_kind("permutation") for M in A.children]
        return Permutation(
            xp.concat([part.p + top for part, top in zip(parts, tops, strict=False)])
        )
    if kinds == {Diagonal}:
        return Diagonal(xp.concat([xp.astype(M.diagonal(), A.dtype) for M in A.children]))
    return None


def _block_sparse(A: Grid) -> StructuredMatrix | None:
    """Block-sparse matrices, or dense ones of one shape, on one grid of blocks."""
    kinds = _kinds(A)
    if kinds == {Dense}:
        shapes = {M.shape for M in A.children}
        if len(shapes) > 1 or 0 in A.shape:
            return None
        ((p, q),) = shapes
    elif kinds <= {BlockSparse, Diagonal} and BlockSparse in kinds:
        shapes = {M.block_shape if isinstance(M, BlockSparse) else (1, 1) for M in A.children}
        if len(shapes) > 1:
            return None
        ((p, q),) = shapes
    else:
        return None
    starts = [offsets(size) for size in (A.row_sizes, A.col_sizes)]
    rows, cols, contents, xp = [], [], [], A.xp
    for M, (i, j) in zip(A.children, A.places.tolist(), strict=True):
        top, left = int(starts[0][i]), int(starts[1][j])
        # A block that was cut at the edge of its matrix would reach into the next one, which then
        # begins off the grid.
        if top % p or left % q:
            return None
        B = None if isinstance(M, Dense) else M.to_kind("block_sparse")
        rows.append((np.zeros(1, np.int64) if B is None else B.rows) + top // p)
        cols.append((np.zeros(1, np.int64) if B is None else B.cols) + left // q)
        blocks = M.to_dense()[None, ...] if B is None else B.blocks
        contents.append(xp.astype(blocks, A.dtype))
    at = np.concatenate(rows), np.concatenate(cols)
    order = np.lexsort(at[::-1])
    blocks = xp.take(xp.concat(contents), integers(order, xp, A.device), axis=0)
    return BlockSparse(blocks, at[0][order], at[1][order], shape=A.shape)


def _tiles(A: Grid) -> StructuredMatrix | None:
    """Low-rank, block-low-rank and dense matrices, of which not all are dense."""
    if not _kinds(A) <= {LowRank, BlockLowRank, Dense}:
        return None
    parts = [M.to_kind("block_low_rank") for M in A.children]
    sizes, cuts = [], []
    for axis, whole in enumerate((A.row_sizes, A.col_sizes)):
        begins = offsets(whole)
        ends = [begins]
        for M, place in zip(parts, A.places.tolist(), strict=True):
            own = M.col_sizes if axis else M.row_sizes
            ends.append(begins[place[axis]] + offsets(own))
        cuts.append(np.unique(np.concatenate(ends)))
        sizes.append(np.diff(cuts[axis]))
    tiles: dict[tuple[int, int], Any] = {}
    for M, (i, j) in zip(parts, A.places.tolist(), strict=True):
        corner = int(offsets(A.row_sizes)[i]), int(offsets(A.col_sizes)[j])
        if not _cut_into(tiles, M, corner, cuts):
            return None
    if not tiles:
        return None
    return BlockLowRank(tiles, row_sizes=sizes[0], col_sizes=sizes[1])


def _cut_into(
    tiles: dict[tuple[int, int], Any], M: Any, corner: tuple[int, int], cuts: list[IntArray]
) -> bool:
    """Put the tiles of M into a finer grid; False where that would cut a tile of low rank."""
    tops, lefts = (
        corner[axis] + offsets(size) for axis, size in enumerate((M.row_sizes, M.col_sizes))
    )
    for (i, j), tile in M.tiles.items():
        ends = (tops[i], tops[i + 1]), (lefts[j], lefts[j + 1])
        if ends[0][0] == ends[0][1] or ends[1][0] == ends[1][1]:
            continue
        first, last = (
            [int(np.searchsorted(cut, side[end])) for cut, side in zip(cuts, ends, strict=True)]
            for end in (0, 1)
        )
        if isinstance(tile, tuple):
            if last[0] - first[0] > 1 or last[1] - first[1] > 1:
                return False
            tiles[first[0], first[1]] = tile
            continue
        for a in range(first[0], last[0]):
            for b in range(first[1], last[1]):
                rows, cols = (
                    slice(int(cut[at] - side[0]), int(cut[at + 1] - side[0]))
                    for cut, at, side in zip(cuts, (a, b), ends, strict=True)
                )
                tiles[a, b] = tile[rows, cols]
    return True


def _runs(A: Grid) -> StructuredMatrix | None:
    """GBLR matrices, and low-rank ones beside them."""
    kinds = _kinds(A)
    return as_runs(A) if kinds <= {GBLR, LowRank} and GBLR in kinds else None


def as_runs(A: Grid) -> GBLR:
    """GBLR blocks in their places; a run that wraps around in its own matrix becomes two."""
    sides: tuple[list[Any], ...] = ([], [], [], [], [], [])
    starts = [offsets(size) for size in (A.row_sizes, A.col_sizes)]
    for M, place in zip(A.children, A.places.tolist(), strict=True):
        G = M.to_kind("gblr")
        top, left = (int(start[at]) for start, at in zip(starts, place, strict=True))
        for rows in _pieces(G.row_start, G.row_width, G.shape[0]):
            for cols in _pieces(G.col_start, G.col_width, G.shape[1]):
                kept = np.flatnonzero((rows[1] > 0) & (cols[1] > 0))
                for at, piece, side, own, first in (
                    (0, rows, (G.row_start, G.row_width), G.u, top),
                    (3, cols, (G.col_start, G.col_width), G.v, left),
                ):
                    start, width, skipped = (part[kept] for part in piece)
                    index = np.repeat(offsets(side[1])[:-1][kept] + skipped, width)
                    index = index + ramps(width)
                    taken = A.xp.take(own, integers(index, A.xp, A.device), axis=0)
                    sides[at].append(start + first)
                    sides[at + 1].append(width)
                    sides[at + 2].append(A.xp.astype(taken, A.dtype))
    parts = [
        A.xp.concat(side) if at % 3 == 2 else np.concatenate(side) for at, side in enumerate(sides)
    ]
    return GBLR(*parts, shape=A.shape)


def _pieces(start: IntArray, width: IntArray, n: int) -> list[tuple[IntArray, IntArray, IntArray]]:
    """Runs that do not wrap around: what is before the end, and what is after it.

    Each with starts, widths, and the entries of the run that come before.
    """
    before = np.minimum(width, n - start)
    zero = np.zeros_like(start)
    return [(start, before, zero), (zero, width - before, before)]


def _hierarchical(A: Grid) -> StructuredMatrix | None:
    """Hierarchical matrices whose orders agree beside and above one another."""
    if _kinds(A) != {Hierarchical}:
        return None
    parts: Any = A.children
    symmetric = _is_diagonal(A) and all(M.symmetric for M in parts)
    parts = parts if symmetric else [M._unfolded() for M in parts]
    orders = [
        _joint_order(sizes, list(zip(A.places[:, axis].tolist(), own, strict=True)))
        for axis, (sizes, own) in enumerate(
            (
                (A.row_sizes, [M.row_order for M in parts]),
                (A.col_sizes, [M.col_order for M in parts]),
            )
        )
    ]
    if orders[0] is None or orders[1] is None:
        return None
    starts = [offsets(size) for size in (A.row_sizes, A.col_sizes)]
    tables = [
        M.blocks + np.array([starts[0][i], 0, starts[1][j], 0, 0])
        for M, (i, j) in zip(parts, A.places.tolist(), strict=True)
    ]
    contents = [
        A.xp.concat([A.xp.astype(getattr(M, name), A.dtype) for M in parts])
        for name in Hierarchical.data_names
    ]
    return Hierarchical(
        np.concatenate(tables), *contents, shape=A.shape, row_order=orders[0],
        col_order=orders[1], symmetric=symmetric,
    )  # fmt: skip


def _joint_order(sizes: IntArray, own: list[tuple[int, IntArray]]) -> IntArray | None:
    """The order of all rows, or of all columns; None if two blocks disagree about a stretch."""
    order, begins = np.arange(int(sizes.sum())), offsets(sizes)
    seen: dict[int, IntArray] = {}
    for at, part in own:
        if at in seen and not np.array_equal(seen[at], part):
            return None
        seen[at] = part
        order[begins[at] : begins[at + 1]] = begins[at] + part
    return order


def _converted(A: Grid, kind: str) -> Grid:
    """The same blocks, each of a kind; refused where one keeps an order around it."""
    parts = [M.to_kind(kind) for M in A.children]
    for M, part in zip(A.children, parts, strict=True):
        if part.kind != kind:
            raise ConversionError(
                f"{A!r} to {kind!r} would not be exact: its block {M!r} has an order of its own; "
                f"approximate it with structmat.compress(A, {kind!r}, budget=…)"
            )
    return Grid(*parts, **A._static())


@rule("convert", "grid", "gblr", contains=False)
def _grid_to_gblr(A: Grid) -> GBLR:
    return as_runs(_converted(A, "gblr"))


@rule("convert", "grid", "block_low_rank", contains=False)
def _grid_to_block_low_rank(A: Grid) -> StructuredMatrix:
    found = _tiles(_converted(A, "block_low_rank"))
    if found is None:
        raise ConversionError(
            f"{A!r} to 'block_low_rank' would not be exact: its blocks have tiles of low rank that "
            "no common grid holds; approximate it with structmat.compress(A, 'block_low_rank', "
            "budget=…)"
        )
    return found
