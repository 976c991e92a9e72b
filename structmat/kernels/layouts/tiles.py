"""Sparse matrices cut into dense tiles that matrix units can multiply.

Plain NumPy on the host: layouts are structure. A matrix W, shape (p, q), is cut on both
sides. Its columns fall into groups of ``tn``; a group owns a list of tiles, each of which
multiplies ``tk`` rows of W. Only tiles that hold something are stored. The product x W
then visits, for every group, its tiles one after another.

A tile's rows are either consecutive or listed one by one. Consecutive rows suit an
operand x that lies in memory row after row; a list wastes no multiplication on rows that
a group does not touch, and costs nothing where x lies column after column.

Both occur in y = (x V) U^T, where column k of V and of U stands on a run of its own. Blocks
sorted by their runs in V fill the tiles of V, and lie anywhere in U. So z = x V is kept
column after column, in the blocks' own order: V scatters its groups into it, and U lists
the blocks that each of its groups needs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat.errors import InputError
from structmat.intervals import IntArray, coarse_runs, offsets, positions, union_size

#: Rows and columns of a tile. A group of 128 columns feeds the matrix units from 43 to 85
#: operations for a byte read, where 64 columns would stay below 51; 64 rows waste little.
TILE = (64, 128)
#: Rows at whose multiples consecutive rows begin, so that reading them stays aligned.
UNIT_ROWS = 16
#: Largest index of 32 bits.
MOST = 2**31 - 1


@dataclass(frozen=True)
class TileLayout:
    """Places of the stored scalars of a sparse matrix in an array of dense tiles.

    Examples
    --------
    >>> layout = tile_layout(np.arange(20), np.arange(20), (20, 20), tile=(16, 16))
    >>> layout.begin, layout.inputs.ravel(), layout.fill
    (array([0, 1, 2], dtype=int32), array([ 0, 16], dtype=int32), 0.0390625)
    """

    #: Shape (p, q) of the matrix W.
    shape: tuple[int, int]
    #: Rows and columns (tk, tn) of a tile: powers of two from 16 to 128.
    tile: tuple[int, int]
    #: Group g owns tiles ``begin[g]`` to ``begin[g + 1]``; shape (groups + 1,).
    begin: NDArray[np.int32]
    #: Rows of W that each tile multiplies: consecutive ones from a multiple of 16, given
    #: by the first, shape (t, 1), or all listed, shape (t, tk). `p` and above are padding.
    inputs: NDArray[np.int32]
    #: Columns of W of each group: consecutive ones, given by the first, shape (groups, 1), or
    #: all listed, shape (groups, tn). `q` and above are padding. Each belongs to one group.
    outputs: NDArray[np.int32]
    #: The group of each tile, shape (t,).
    owner: NDArray[np.int32]
    #: Flat place of each packed scalar in the tiles, an array (t, tk, tn); one past its
    #: end for a scalar that is not part of the matrix.
    entries: IntArray

    @property
    def num_tiles(self) -> int:
        """Number of tiles that are stored."""
        return self.owner.size

    @property
    def fill(self) -> float:
        """Stored scalars as a fraction of the scalars in tiles; 1 without tiles."""
        area = self.num_tiles * self.tile[0] * self.tile[1]
        return int((self.entries < area).sum()) / area if area else 1.0


def tile_layout(
    rows: IntArray,
    cols: IntArray,
    shape: tuple[int, int],
    *,
    tile: tuple[int, int] = TILE,
    order: IntArray | None = None,
    listed: bool = False,
) -> TileLayout:
    """Cut a sparse matrix, given by the coordinates of its stored scalars, into tiles.

    Each packed scalar has one place; those beyond `shape` are dropped. Groups take columns
    in `order`, shape (q,), by default their own. A tile takes consecutive rows, or those that
    it touches if `listed`. Time is O(total log total), memory O(total).

    Examples
    --------
    >>> layout = tile_layout(np.array([2, 30]), np.array([0, 0]), (32, 1), tile=(16, 16))
    >>> layout.inputs.tolist(), layout.entries.tolist()
    ([[0], [16]], [32, 480])
    """
    (p, q), (tk, tn) = shape, tile
    for side in tile:
        if not UNIT_ROWS <= side <= 128 or side & (side - 1):
            raise InputError(
                f"tile = {tile}; expected two powers of two from {UNIT_ROWS} to 128 (use {TILE})"
            )
    if max(p, q) > MOST - max(tile):
        raise InputError(
            f"shape = {shape}; expected sides below 2**31, which tiles index with 32 bits "
            "(cut the matrix in parts)"
        )
    inside = (rows < p) & (cols < q)
    groups = -(-q // tn)
    place = np.arange(q)
    if order is not None:
        place[order] = np.arange(q)
    group, lane = np.divmod(place[cols[inside]], tn)
    cut = _listed if listed else _consecutive
    begin, inputs, tile_of, row = cut(rows[inside], group, groups, p, tk)
    if begin[-1] * tk > MOST:
        raise InputError(
            f"{begin[-1]} tiles of {tk} rows; expected fewer than 2**31 rows in all, which are "
            "indexed with 32 bits (cut the matrix in parts)"
        )
    if order is None:
        outputs = np.arange(groups)[:, None] * tn
    else:
        outputs = np.append(order, np.full(groups * tn - q, q)).reshape(groups, tn)
    entries = np.full(rows.size, begin[-1] * tk * tn)
    entries[inside] = (tile_of * tk + row) * tn + lane
    return TileLayout(
        shape=(p, q),
        tile=tile,
        begin=begin.astype(np.int32),
        inputs=inputs.astype(np.int32),
        outputs=outputs.astype(np.int32),
        owner=np.repeat(np.arange(groups, dtype=np.int32), np.diff(begin)),
        entries=entries,
    )


def _listed(
    rows: IntArray, group: IntArray, groups: int, p: int, tk: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Tiles of the rows that each group touches, one after another.

    Returns the first tile of each group, the rows of all tiles, and for each stored scalar
    its tile and its row in the tile.
    """
    touched, of = np.unique(group * p + rows, return_inverse=True)
    owner, row = np.divmod(touched, max(p, 1))
    count = np.bincount(owner, minlength=groups)
    begin = offsets(-(-count // tk))
    # Place of each touched row among those of its group, after all tiles before.
    slot = np.arange(touched.size) + (begin[:-1] * tk - offsets(count)[:-1])[owner]
    inputs = np.full(begin[-1] * tk, p)
    inputs[slot] = row
    return begin, inputs.reshape(-1, tk), *np.divmod(slot[of], tk)


def _consecutive(
    rows: IntArray, group: IntArray, groups: int, p: int, tk: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Tiles of `tk` consecutive rows, each from the first row not covered so far.

    No cut into windows of one length covers the touched units with fewer.
    """
    units, reach = -(-p // UNIT_ROWS), tk // UNIT_ROWS
    touched, of = np.unique(group * units + rows // UNIT_ROWS, return_inverse=True)
    owner, unit = np.divmod(touched, max(units, 1))
    ends = offsets(np.bincount(owner, minlength=groups))
    at, end = ends[:-1], ends[1:]
    starts = np.zeros(touched.size, bool)
    # One tile more of every group that has touched units left.
    while (more := at < end).any():
        at, end = at[more], end[more]
        starts[at] = True
        at = np.searchsorted(touched, touched[at] + reach)
    begin = offsets(np.bincount(owner[starts], minlength=groups))
    first = unit[starts] * UNIT_ROWS
    tile_of = (np.cumsum(starts) - 1)[of]
    return begin, first[:, None], tile_of, rows - first[tile_of]


def run_order(start: IntArray, width: IntArray, n: int, *, lanes: int = TILE[1]) -> IntArray:
    """Blocks in an order in which each group of `lanes` spans few positions: shape (K,).

    Runs are halved again and again, each time sorted by start, width, centre or end, whichever
    leaves the smaller area under the union of each half's runs. Sorting by one of them alone
    fills well only where widths are alike. Empty runs come last.
    """
    alive = width > 0
    parts = _halves(np.flatnonzero(alive), start, width, n, lanes)
    return np.concatenate([*parts, np.flatnonzero(~alive)])


def _halves(
    blocks: IntArray, start: IntArray, width: IntArray, n: int, lanes: int
) -> list[IntArray]:
    """Groups of blocks, all but the last of full size."""
    if blocks.size <= lanes:
        return [blocks]
    half = (-(-blocks.size // lanes) + 1) // 2 * lanes
    s, w = start[blocks], width[blocks]
    orders = [
        blocks[np.argsort(key, kind="stable")] for key in (s, -w, (s + w // 2) % n, (s + w) % n)
    ]

    def area(order: IntArray) -> int:
        return sum(
            part.size * _spanned(start[part], width[part], n) for part in np.split(order, [half])
        )

    best = min(orders, key=area)
    return [
        group for part in np.split(best, [half]) for group in _halves(part, start, width, n, lanes)
    ]


def _spanned(start: IntArray, width: IntArray, n: int) -> int:
    """Windows of `TILE` rows that some run touches."""
    return union_size(*coarse_runs(start, width, n, TILE[0]), -(-n // TILE[0]))


def run_tile_layouts(
    start: IntArray, width: IntArray, n: int, *, tile: tuple[int, int] = TILE
) -> tuple[TileLayout, TileLayout]:
    """Layouts of an interval factor V, shape (n, K), and of its transpose.

    Column k of V holds its packed contents on cyclic run k. V takes consecutive rows and
    groups blocks by `run_order`; V^T lists the blocks that each of its groups touches, in
    square tiles (tn, tn): lists waste little, and the gradient by the contents reads less for
    them. Both layouts place the same packed contents.
    """
    at, block = positions(start, width, n), np.repeat(np.arange(width.size), width)
    shape = (n, width.size)
    order = run_order(start, width, n, lanes=tile[1])
    return (
        tile_layout(at, block, shape, tile=tile, order=order),
        tile_layout(block, at, shape[::-1], tile=(tile[1], tile[1]), listed=True),
    )


def block_tile_layouts(
    rows: IntArray, cols: IntArray, block: tuple[int, int], shape: tuple[int, int]
) -> tuple[TileLayout, TileLayout]:
    """Layouts of a block-sparse matrix, from its blocks' places on the grid, and of its transpose.

    Contents are packed as (blocks, *block); entries of a last block beyond `shape` are
    ignored. Tiles are full where the sides of a block are powers of two from 16 to 128, or
    multiples of one.
    """
    high, wide = block
    shift = np.arange(high)[:, None], np.arange(wide)
    at = [
        np.broadcast_to(corner[:, None, None] * side + inside, (rows.size, high, wide)).ravel()
        for corner, side, inside in zip((rows, cols), block, shift, strict=True)
    ]
    tile = _side(high), _side(wide)
    return (
        tile_layout(at[0], at[1], shape, tile=tile),
        tile_layout(at[1], at[0], shape[::-1], tile=tile[::-1]),
    )


def _side(size: int) -> int:
    """Side of a tile for blocks of a size: the greatest power of two that divides both."""
    divisor = size & -size
    return min(divisor, max(TILE)) if divisor >= UNIT_ROWS else 2 * UNIT_ROWS
