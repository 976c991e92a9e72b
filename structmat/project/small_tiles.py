"""Tiles of low rank that are decomposed all at once, in the library of the matrix."""

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from structmat._array import Array, adjoint, from_numpy, masked, namespace, to_numpy
from structmat._array import device as device_of
from structmat.intervals import IntArray, offsets
from structmat.matrices.block_low_rank import DENSE, BlockLowRank
from structmat.project.reordered import reordered
from structmat.project.shares import rounding_of, share_out

#: Most rows or columns of such a tile.
SIDE = 64
#: Entries that tiles may take with zeros to one size, as a multiple of the matrix.
PADDED = 2.0


def are_small(heights: IntArray, widths: IntArray) -> bool:
    """True for tiles of few rows and columns, and of about the same ones.

    Examples
    --------
    >>> are_small(np.array([4, 5, 4]), np.array([4, 4])), are_small(np.array([9, 1, 1]), np.ones(1))
    (True, False)
    """
    largest = [int(sizes.max(initial=0)) for sizes in (heights, widths)]
    padded = heights.size * widths.size * largest[0] * largest[1]
    return max(largest) <= SIDE and padded <= PADDED * int(heights.sum()) * int(widths.sum())


def small_tile_ranks(W: Array, cap: int, heights: IntArray, widths: IntArray) -> BlockLowRank:
    """The nearest matrix with small tiles of low rank; W is finite, the result in NumPy.

    One decomposition of all tiles, and a number of operations that does not depend on how many
    there are. On a device they stay there: copied are singular values and what is kept.
    """
    xp, grid = namespace(W), (heights.size, widths.size)
    h, w = np.repeat(heights, grid[1]), np.tile(widths, grid[0])
    tiles = _stacked(W, heights, widths, xp)
    U, s, Vh = xp.linalg.svd(tiles, full_matrices=False)
    values, some = to_numpy(s), h * w > 0
    rounding = rounding_of(values, max(tiles.shape[1:]))
    # Over a power of two, so that squares neither overflow nor vanish.
    values = np.ldexp(values.astype(np.float64), -np.frexp(values.max(initial=0))[1])
    ranks = np.zeros(h.size, np.int64)
    ranks[some] = share_out(values[some], h[some], w[some], rounding, cap=cap)[0]
    left = U * xp.astype(s, U.dtype)[:, None, :]
    right = adjoint(Vh, xp)
    low, dense = np.maximum(ranks, 0), np.where(ranks == DENSE, w, 0)
    return _packed((left, h, low), (right, w, low), (tiles, h, dense), ranks, heights, widths)


def _packed(
    u: tuple[Array, IntArray, IntArray],
    v: tuple[Array, IntArray, IntArray],
    dense: tuple[Array, IntArray, IntArray],
    ranks: IntArray,
    heights: IntArray,
    widths: IntArray,
) -> BlockLowRank:
    """The matrix of stacks, of which the first rows and columns of each tile are kept."""
    live = ranks != 0
    if live.size and not live.any():
        live[0] = True  # a tile of rank zero keeps the dtype
    places = np.argwhere(live.reshape(heights.size, widths.size))
    arrays = {name: _kept(*part) for name, part in (("u", u), ("v", v), ("dense", dense))}
    static = {"places": places, "ranks": ranks[live], "row_sizes": heights, "col_sizes": widths}
    return BlockLowRank._build(arrays, (), static)


def _kept(stack: Array, rows: IntArray, cols: IntArray) -> NDArray:
    """The first rows and columns of each matrix of a stack, by rows, one after another."""
    kept = np.arange(stack.shape[1])[:, None] < rows[:, None, None]
    kept = kept & (np.arange(stack.shape[2]) < cols[:, None, None])
    return to_numpy(stack[from_numpy(kept, namespace(stack), device_of(stack))])


def _stacked(W: Array, heights: IntArray, widths: IntArray, xp: ModuleType) -> Array:
    """All tiles, row after row of the grid, with zeros to the size of the largest."""
    (rows, real_rows), (cols, real_cols) = _lines(heights), _lines(widths)
    padded = masked(reordered(W, rows, cols), np.outer(real_rows, real_cols), xp)
    high, wide = int(heights.max()), int(widths.max())
    grid = xp.reshape(padded, (heights.size, high, widths.size, wide))
    return xp.reshape(xp.permute_dims(grid, (0, 2, 1, 3)), (-1, high, wide))


def _lines(sizes: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """Lines of tiles, as many for each as the largest has, and which of them it has itself."""
    inside = np.arange(int(sizes.max()))
    last = np.maximum(sizes - 1, 0)[:, None]
    lines = np.minimum(offsets(sizes)[:-1, None] + np.minimum(inside, last), sizes.sum() - 1)
    return lines.reshape(-1), (inside < sizes[:, None]).reshape(-1)
