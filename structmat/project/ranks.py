"""Tiles of low rank, and matrices of low rank, that are nearest under a cap on their cost."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import as_content, is_numpy, namespace
from structmat._checks import integer_array
from structmat.errors import BackendError, InputError, ShapeError
from structmat.intervals import IntArray, offsets
from structmat.matrices.block_low_rank import DENSE, BlockLowRank, Tile
from structmat.matrices.low_rank import LowRank
from structmat.project.arguments import as_cap
from structmat.project.shares import rounding_of, share_out
from structmat.project.small_tiles import are_small, small_tile_ranks
from structmat.project.svd import Triple, leading_svd, numerical_rank, svdvals, truncated_svd


def project_tile_ranks(W: Any, cap: int, row_sizes: Any, col_sizes: Any) -> BlockLowRank:
    """The nearest matrix with tiles of low rank on a grid, under a cap on its cost.

    A further rank of a p x q tile costs p + q multiplications and captures the square of the
    next singular value; a dense tile captures the rest and costs p q in all. The steps of all
    tiles are taken in the order of energy per multiplication. That is optimal up to what the
    last step leaves of the cap, which further ranks use where they fit.

    Parameters
    ----------
    W : array, shape (m, n)
        Finite real or complex numbers, in NumPy.
    cap : int
        Most multiplications of a product with one vector.
    row_sizes, col_sizes : sequence of int
        Heights and widths of the tiles; their sums are m and n.

    Returns
    -------
    BlockLowRank
        With ``cost <= cap``, in the dtype of W.

    Raises
    ------
    InputError
        If W holds NaN or infinity, or `cap` is no integer of at least 0.
    ShapeError
        If the sizes of the tiles do not add up to the shape of W.

    Notes
    -----
    The singular value decompositions of all tiles, of large ones twice: O(m n min(p, q)) for p x q
    tiles.

    Examples
    --------
    >>> import numpy as np
    >>> W = np.zeros((6, 6))
    >>> W[:3, 3:] = 1.0
    >>> W[3:, :3] = np.diag([3.0, 2.0, 1.0])
    >>> found = project_tile_ranks(W, 15, [3, 3], [3, 3])
    >>> found.cost, found.ranks
    (15, array([ 1, -1]))
    """
    W, cap = _matrix(W), as_cap(cap)
    heights, widths = _sizes(row_sizes, W, 0), _sizes(col_sizes, W, 1)
    if W.size and are_small(heights, widths):
        return small_tile_ranks(W, cap, heights, widths)
    grid = heights.size, widths.size
    ranks = np.zeros(grid, np.int64)
    if W.size:
        values = np.concatenate(
            [svdvals(_row_of_tiles(W, heights, widths, i)) for i in range(grid[0])]
        )
        # Over a power of two, so that squares neither overflow nor vanish.
        values = np.ldexp(values, -np.frexp(values.max(initial=0.0))[1])
        h, w = np.repeat(heights, grid[1]), np.tile(widths, grid[0])
        some = h * w > 0
        rounding = rounding_of(W, int(max(heights.max(), widths.max())))
        ranks.reshape(-1)[some] = share_out(values[some], h[some], w[some], rounding, cap=cap)[0]
    return tile_matrix(W, ranks, heights, widths, np.random.default_rng(0))


def project_rank(W: Any, cap: int) -> LowRank:
    """The nearest matrix of low rank under a cap on its cost (Eckart & Young).

    Parameters
    ----------
    W : array, shape (m, n)
        Finite real or complex numbers, in NumPy.
    cap : int
        Most multiplications of a product with one vector: the rank is ``cap // (m + n)``, or
        that of W.

    Returns
    -------
    LowRank
        With ``cost <= cap``, in the dtype of W.

    Raises
    ------
    InputError
        If W holds NaN or infinity, or `cap` is no integer of at least 0.

    Notes
    -----
    One singular value decomposition, which large matrices truncate.

    Examples
    --------
    >>> import numpy as np
    >>> project_rank(np.diag([3.0, 2.0, 1.0]), 13).to_dense().round(6)
    array([[3., 0., 0.],
           [0., 2., 0.],
           [0., 0., 0.]])
    """
    W, cap = _matrix(W), as_cap(cap)
    triple = truncated_svd(W, cap // max(sum(W.shape), 1), np.random.default_rng(0))
    return low_rank(triple, numerical_rank(triple[1], W.shape))


def low_rank(triple: Triple, rank: int) -> LowRank:
    """The first terms of a singular value decomposition."""
    U, s, Vh = triple
    return LowRank(U[:, :rank] * s[:rank], np.ascontiguousarray(Vh[:rank].conj().T))


def tile_matrix(
    A: NDArray, ranks: IntArray, heights: IntArray, widths: IntArray, rng: np.random.Generator
) -> BlockLowRank:
    """Tiles of A truncated to their ranks, one for each tile, row after row."""
    tiles: dict[tuple[int, int], Tile] = {}
    for i, row in enumerate(ranks.reshape(heights.size, widths.size)):
        tiles |= _tiles_in_row(A, heights, widths, i, row, rng)
    if not tiles and heights.size and widths.size:
        tiles[0, 0] = zero_tile(A[: heights[0], : widths[0]])
    matrix = BlockLowRank(tiles, row_sizes=heights, col_sizes=widths)
    return matrix if tiles else matrix.astype(A.dtype)


def zero_tile(tile: NDArray) -> Tile:
    """A tile of rank zero, which keeps the dtype."""
    m, n = tile.shape
    return np.zeros((m, 0), tile.dtype), np.zeros((n, 0), tile.dtype)


def _tiles_in_row(
    A: NDArray,
    heights: IntArray,
    widths: IntArray,
    i: int,
    ranks: IntArray,
    rng: np.random.Generator,
) -> dict[tuple[int, int], Tile]:
    """Tiles in row i of the grid that are not zero, decomposed once more, now with vectors."""
    tiles: dict[tuple[int, int], Tile] = {}
    top, lefts = int(heights[:i].sum()), offsets(widths)
    for j in np.flatnonzero(ranks == DENSE).tolist():
        tiles[i, j] = A[top : top + heights[i], lefts[j] : lefts[j + 1]].copy()
    low = np.flatnonzero(ranks > 0)
    if low.size:
        U, s, Vh = leading_svd(
            _row_of_tiles(A, heights, widths, i, low), int(ranks[low].max()), rng
        )
        for t, j in enumerate(low.tolist()):
            height, width, r = heights[i], widths[j], ranks[j]
            left = U[t, :height, :r] * s[t, :r]
            tiles[i, j] = left, Vh[t, :r, :width].conj().T
    return tiles


def _row_of_tiles(
    A: NDArray, heights: IntArray, widths: IntArray, i: int, some: IntArray | None = None
) -> NDArray:
    """Tiles in row i of the grid, all or some, with zeros to the size of the largest."""
    top, lefts = int(heights[:i].sum()), offsets(widths)
    some = np.arange(widths.size) if some is None else some
    stack = np.zeros((some.size, int(heights.max()), int(widths.max())), A.dtype)
    for tile, j in zip(stack, some.tolist(), strict=True):
        part = A[top : top + heights[i], lefts[j] : lefts[j + 1]]
        tile[: part.shape[0], : part.shape[1]] = part
    return stack


def _matrix(W: Any) -> NDArray:
    """A finite NumPy array in single or double precision."""
    W = as_content(W, "W", 2)
    if not is_numpy(namespace(W)):
        raise BackendError(f"W is of {type(W).__module__}; expected a NumPy array (convert it)")
    if W.dtype.itemsize < 4 or W.dtype.char in "gG":
        W = W.astype(np.float32 if W.dtype.itemsize < 4 else np.float64)
    if not np.isfinite(W).all():
        raise InputError("W holds NaN or infinity; expected finite numbers (mend them first)")
    found: NDArray = W
    return found


def _sizes(values: Any, W: NDArray, axis: int) -> IntArray:
    """Sizes of tiles along an axis of W."""
    name = ("row_sizes", "col_sizes")[axis]
    sizes = integer_array(values, name)
    if (sizes < 0).any() or sizes.sum() != W.shape[axis]:
        raise ShapeError(
            f"{name} = {str(sizes.tolist())[:80]}; expected sizes of at least 0 that add up to "
            f"{W.shape[axis]}, as W has shape {W.shape}"
        )
    return sizes
