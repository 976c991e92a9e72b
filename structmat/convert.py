"""Exact conversions between structures: Theorem 1, its tighter form, and Monarch.

Every result is the same matrix up to rounding. A matrix that a structure cannot hold
exactly is refused with a reason; `compress` approximates it.
"""

from typing import Any, NoReturn

import numpy as np

from structmat import _array
from structmat._array import Array
from structmat.errors import ConversionError, InputError
from structmat.intervals import multiplications, offsets
from structmat.kernels.layouts.rectangle_index import rank_one_runs
from structmat.kinds import rule
from structmat.matrices import (
    GBLR,
    Adjoint,
    BlockLowRank,
    BlockSparse,
    Dense,
    HermitianLowRank,
    Hierarchical,
    LowRank,
    Mirrored,
    Monarch,
    Permutation,
    in_orders,
    split_orders,
)
from structmat.matrix import StructuredMatrix


def convert(A: StructuredMatrix, kind: str) -> StructuredMatrix:
    """The same matrix as another structure, exactly.

    Parameters
    ----------
    A : StructuredMatrix
    kind : str
        ``"low_rank"``, ``"block_sparse"``, ``"block_low_rank"``, ``"monarch"``,
        ``"gblr"``, ``"hierarchical"``, ``"diagonal"`` or ``"dense"``.

    Returns
    -------
    StructuredMatrix
        Of that kind. A Monarch matrix becomes block-low-rank or GBLR only with its
        rows reordered, so there the result is the product of a `Permutation`, which
        costs nothing, with a matrix of that kind. So do hierarchical matrices whose rows or
        columns have an order of their own. Permutations around a matrix stay around its
        conversion. Matrices of blocks convert block by block.

    Raises
    ------
    ConversionError
        If the structure cannot hold the matrix exactly; the message says why.
    KindError
        If the kind is unknown.

    Notes
    -----
    To GBLR the conversions are Theorem 1 of Lee & Kim (arXiv 2310.18882): a rank-r
    matrix is r full-width blocks, a tile of rank r is r blocks on the tile. Tighter:
    a dense a x b tile of rank r is r rank-one blocks, or a blocks of height one, or b
    of width one, whichever is cheaper, min(r (a + b), a b). Block-low-rank to block-sparse
    fills tiles in, at the cost of their area. No other conversion to a structure costs more
    than the original matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> A = structmat.LowRank(np.ones((4, 1)), np.arange(3.0)[:, None])
    >>> B = structmat.convert(A, "gblr")
    >>> B.num_blocks, B.cost == A.cost, bool((B.to_dense() == A.to_dense()).all())
    (1, True, True)
    """
    if not isinstance(A, StructuredMatrix):
        raise InputError(
            f"A is a {type(A).__qualname__}; expected a StructuredMatrix (wrap an array in "
            "structmat.Dense, or approximate it with structmat.compress)"
        )
    return A.to_kind(kind)


@rule("convert", "*", "dense", contains=False)
def _to_dense(A: StructuredMatrix) -> Dense:
    return Dense(A.to_dense())


def _refuse(A: StructuredMatrix, kind: str, why: str) -> NoReturn:
    raise ConversionError(
        f"{A!r} to {kind!r} would not be exact: {why}; approximate it with "
        f"structmat.compress(A, {kind!r}, budget=…)"
    )


@rule("convert", "low_rank", "gblr")
def _low_rank_to_gblr(A: LowRank) -> GBLR:
    xp, r, (m, n) = A.xp, A.rank, A.shape
    zero = np.zeros(r, np.int64)
    u, v = (xp.reshape(xp.matrix_transpose(F), (r * size,)) for F, size in ((A.U, m), (A.V, n)))
    return GBLR(zero, zero + m, u, zero, zero + n, v, shape=A.shape)


@rule("convert", "low_rank", "block_low_rank")
def _low_rank_to_block_low_rank(A: LowRank) -> BlockLowRank:
    m, n = A.shape
    return BlockLowRank({(0, 0): (A.U, A.V)}, row_sizes=[m], col_sizes=[n])


@rule("convert", "low_rank", "monarch")
def _low_rank_to_monarch(A: LowRank) -> Monarch:
    """One hand and one piece."""
    return Monarch(A.U[None, :, :], _array.adjoint(A.V, A.xp)[None, :, :], shape=A.shape)


@rule("convert", "dense", "block_low_rank")
def _dense_to_block_low_rank(A: Dense) -> BlockLowRank:
    m, n = A.shape
    return BlockLowRank({(0, 0): A.A}, row_sizes=[m], col_sizes=[n])


@rule("convert", "block_sparse", "block_low_rank")
def _block_sparse_to_block_low_rank(A: BlockSparse) -> BlockLowRank:
    (p, q), (m, n) = A.block_shape, A.shape
    row_sizes = np.diff([*range(0, m, p), m])
    col_sizes = np.diff([*range(0, n, q), n])
    tiles = {
        (int(i), int(j)): A.blocks[k, : int(row_sizes[i]), : int(col_sizes[j])]
        for k, (i, j) in enumerate(zip(A.rows, A.cols, strict=True))
    }
    return _on_grid(A, tiles, row_sizes, col_sizes)


def _on_grid(
    A: StructuredMatrix, tiles: dict[tuple[int, int], Any], row_sizes: Any, col_sizes: Any
) -> BlockLowRank:
    if tiles:
        return BlockLowRank(tiles, row_sizes=row_sizes, col_sizes=col_sizes)
    # Empty contents carry the library, the device and the dtype.
    none = A.xp.zeros(0, dtype=A.dtype, device=A.device)
    static = {
        "places": np.zeros((0, 2), np.int64),
        "ranks": np.zeros(0, np.int64),
        "row_sizes": np.asarray(row_sizes, np.int64),
        "col_sizes": np.asarray(col_sizes, np.int64),
    }
    return BlockLowRank._build({"u": none, "v": none, "dense": none}, (), static)


@rule("convert", "block_low_rank", "block_sparse", contains=False)
def _block_low_rank_to_block_sparse(A: BlockLowRank) -> BlockSparse:
    """Exact on a uniform grid; tiles of low rank are filled in, which may cost more."""
    p, q = _uniform(A, A.row_sizes, "rows"), _uniform(A, A.col_sizes, "columns")
    xp, blocks, places = A.xp, [], []
    for (i, j), tile in A.tiles.items():
        if isinstance(tile, tuple):
            if tile[0].shape[1] == 0:
                continue
            tile = tile[0] @ _array.adjoint(tile[1], xp)
        padded = xp.zeros((p, q), dtype=A.dtype, device=A.device)
        padded[: tile.shape[0], : tile.shape[1]] = tile
        blocks.append(padded)
        places.append((i, j))
    stacked = xp.stack(blocks) if blocks else xp.zeros((0, p, q), dtype=A.dtype, device=A.device)
    rows, cols = np.asarray(places, np.int64).reshape(-1, 2).T
    return BlockSparse(stacked, rows, cols, shape=A.shape)


def _uniform(A: BlockLowRank, sizes: np.ndarray, what: str) -> int:
    """The one block size of a grid whose last block may be smaller."""
    size = int(sizes[0]) if len(sizes) else 1
    if len(sizes) and not ((sizes[:-1] == size).all() and 0 < sizes[-1] <= size):
        _refuse(A, "block_sparse", f"its {what} of tiles have sizes {sizes.tolist()}, not one size")
    return size


@rule("convert", "dense", "gblr")
@rule("convert", "block_sparse", "gblr")
def _tiles_to_gblr(A: StructuredMatrix) -> StructuredMatrix:
    return A.to_kind("block_low_rank").to_kind("gblr")


@rule("convert", "block_low_rank", "gblr")
def _block_low_rank_to_gblr(A: BlockLowRank) -> GBLR:
    """One block a rank; a dense tile as the cheaper of two forms (Theorem 1, tighter)."""
    xp, row_begin, col_begin = A.xp, offsets(A.row_sizes), offsets(A.col_sizes)
    none = xp.zeros(0, dtype=A.dtype, device=A.device)
    runs, u, v = [], [none], [none]
    for (i, j), tile in A.tiles.items():
        top, left = int(row_begin[i]), int(col_begin[j])
        for at, a, high, b, wide in _tile_blocks(tile, xp):
            runs.append((top + at[0], high, left + at[1], wide))
            u.append(a)
            v.append(b)
    rows, heights, cols, widths = np.asarray(runs, np.int64).reshape(-1, 4).T
    return GBLR(rows, heights, xp.concat(u), cols, widths, xp.concat(v), shape=A.shape)


def _tile_blocks(tile: Any, xp: Any) -> list[tuple[tuple[int, int], Array, int, Array, int]]:
    """Rank-one blocks of one tile: ((row, column) inside, u, height, v, width)."""
    if not isinstance(tile, tuple):
        tile = _split(tile, xp)
    if isinstance(tile, tuple):
        U, V = tile
        p, q = U.shape[0], V.shape[0]
        if U.shape[1] * multiplications(p, q) <= p * q:
            return [((0, 0), U[:, t], p, V[:, t], q) for t in range(U.shape[1])]
        tile = U @ _array.adjoint(V, xp)
    p, q = tile.shape
    one = xp.ones(1, dtype=tile.dtype, device=tile.device)
    if p <= q:
        rows = _array.conj(tile, xp)
        return [((i, 0), one, 1, rows[i, :], q) for i in range(p)]
    return [((0, j), tile[:, j], p, one, 1) for j in range(q)]


def _split(tile: Array, xp: Any) -> Any:
    """Factor a dense tile into (U, V) where that is cheaper than its rows or columns."""
    p, q = tile.shape
    if not p * q:
        return tile[:, :0], _array.adjoint(tile[:0, :], xp)
    host = _array.to_numpy(tile)
    if not np.isfinite(host).all():
        return tile
    left, s, right = np.linalg.svd(host, full_matrices=False)
    rank = int((s > s[0] * max(p, q) * np.finfo(s.dtype).eps).sum()) if s[0] > 0 else 0
    if rank * multiplications(p, q) > p * q:
        return tile
    U, V = left[:, :rank] * s[:rank], right[:rank].conj().T
    device = _array.device(tile)
    parts = (_array.from_numpy(np.ascontiguousarray(F), xp, device) for F in (U, V))
    return tuple(xp.astype(part, tile.dtype) for part in parts)


def _monarch_tiles(A: Monarch) -> tuple[Permutation, dict, list[int], list[int]]:
    """Order of rows by hand, and the tiles (j, c) of low rank that the sorted rows have."""
    (l, _, _), (k, q, p), (m, n) = A.L.shape, A.R.shape, A.shape
    xp = A.xp
    hands = [np.arange(j, m, l) for j in range(l)]
    order = np.concatenate([np.zeros(0, np.int64), *hands])
    widths = [max(0, min(p, n - c * p)) for c in range(k)]
    tiles = {}
    for j in range(l):
        for c in range(k):
            t = np.arange(c * q + (j - c * q) % l, (c + 1) * q, l)
            if not t.size:
                continue
            U = xp.take(A.L[j, ...], _array.integers(t // l, xp, A.device), axis=1)
            V = xp.take(A.R[c, ...], _array.integers(t % q, xp, A.device), axis=0)
            V = _array.adjoint(V, xp)
            tiles[j, c] = (U[: hands[j].size, :], V[: widths[c], :])
    back = _array.integers(np.argsort(order), xp, A.device)
    return Permutation(back), tiles, [h.size for h in hands], widths


@rule("convert", "monarch", "block_low_rank", contains=False)
def _monarch_to_block_low_rank(A: Monarch) -> StructuredMatrix:
    order, tiles, heights, widths = _monarch_tiles(A)
    return order @ _on_grid(A, tiles, heights, widths)


@rule("convert", "monarch", "gblr", contains=False)
def _monarch_to_gblr(A: Monarch) -> StructuredMatrix:
    order, tiles, heights, widths = _monarch_tiles(A)
    return order @ _block_low_rank_to_gblr(_on_grid(A, tiles, heights, widths))


@rule("convert", "low_rank", "hierarchical")
@rule("convert", "block_sparse", "hierarchical")
@rule("convert", "dense", "hierarchical")
def _tiles_to_hierarchical(A: StructuredMatrix) -> Any:
    return _block_low_rank_to_hierarchical(A.to_kind("block_low_rank"))


@rule("convert", "block_low_rank", "hierarchical")
def _block_low_rank_to_hierarchical(A: BlockLowRank) -> Hierarchical:
    """Tiles as they are; those without entries are left out."""
    xp, top, left = A.xp, offsets(A.row_sizes), offsets(A.col_sizes)
    none = xp.zeros(0, dtype=A.dtype, device=A.device)
    blocks, contents = [], ([none], [none], [none])
    for (i, j), tile in A.tiles.items():
        p, q = int(A.row_sizes[i]), int(A.col_sizes[j])
        low = isinstance(tile, tuple)
        if not p * q:
            continue
        blocks.append((top[i], p, left[j], q, tile[0].shape[1] if low else -1))
        parts = [xp.matrix_transpose(F) for F in tile] if low else [tile]
        for flat, part in zip(contents[:2] if low else contents[2:], parts, strict=True):
            flat.append(xp.reshape(part, (-1,)))
    u, v, dense = map(xp.concat, contents)
    return Hierarchical(np.asarray(blocks, np.int64), u, v, dense, shape=A.shape)


@rule("convert", "hierarchical", "gblr", contains=False)
def _hierarchical_to_gblr(A: Hierarchical) -> StructuredMatrix:
    """One block a rank, and one for each row of a dense block."""
    whole = A._unfolded()
    rows, cols = rank_one_runs(whole.rectangles)
    u, v = whole._as_runs()
    return in_orders(A._orders[0], GBLR(*rows, u, *cols, v, shape=A.shape), A._orders[1])


@rule("convert", "hierarchical", "block_low_rank", contains=False)
def _hierarchical_to_block_low_rank(A: Hierarchical) -> StructuredMatrix:
    """Blocks on a grid, which are whole tiles of it, become these tiles."""
    whole = A._unfolded()
    top, height, left, width, rank = whole.blocks.T
    sizes = [
        np.diff(np.unique(np.concatenate([[0, n], start, start + size])))
        for n, start, size in zip(A.shape, (top, left), (height, width), strict=True)
    ]
    begins = [offsets(size) for size in sizes]
    places = [np.searchsorted(b, s) for b, s in zip(begins, (top, left), strict=True)]
    fits = all(
        (size[at] == wanted).all()
        for size, at, wanted in zip(sizes, places, (height, width), strict=True)
    )
    once = len(np.unique(np.stack(places, axis=1), axis=0)) == len(whole.blocks)
    if not (fits and once):
        _refuse(A, "block_low_rank", "its blocks are not the tiles of one grid")
    in_u, in_v, in_dense = whole.rectangles.begins
    tiles: dict[tuple[int, int], Any] = {}
    for t, (i, j) in enumerate(zip(*places, strict=True)):
        if rank[t] < 0:
            flat = whole.dense[int(in_dense[t]) : int(in_dense[t + 1])]
            tiles[int(i), int(j)] = A.xp.reshape(flat, (int(height[t]), int(width[t])))
            continue
        tiles[int(i), int(j)] = tuple(
            A.xp.matrix_transpose(
                A.xp.reshape(flat[int(begin[t]) : int(begin[t + 1])], (int(rank[t]), int(size)))
            )
            for flat, begin, size in ((whole.u, in_u, height[t]), (whole.v, in_v, width[t]))
        )
    return in_orders(A._orders[0], _on_grid(A, tiles, *sizes), A._orders[1])


def _through_low_rank(kind: str) -> None:
    @rule("convert", "hermitian_low_rank", kind)
    def convert(A: HermitianLowRank) -> StructuredMatrix:
        return A.to_kind("low_rank").to_kind(kind)


for _kind in ("block_low_rank", "monarch", "gblr", "hierarchical"):
    _through_low_rank(_kind)


@rule("convert", "mirrored", "gblr")
def _mirrored_to_gblr(A: Mirrored) -> StructuredMatrix:
    half = A.children[0].to_kind("gblr")
    found: StructuredMatrix = half + half.H
    if split_orders(found)[1].kind != "gblr":
        _refuse(A, "gblr", "its two halves have orders of their own")
    return found


@rule("convert", "adjoint", "block_low_rank")
def _adjoint_to_block_low_rank(A: Adjoint) -> StructuredMatrix:
    return A.children[0].to_kind("block_low_rank").H


@rule("convert", "adjoint", "gblr")
def _adjoint_to_gblr(A: Adjoint) -> StructuredMatrix:
    return A.children[0].to_kind("gblr").H
