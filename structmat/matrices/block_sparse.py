"""Block sparse: dense blocks of one size on a grid."""

from typing import Any

import numpy as np

from structmat._array import Array, as_content, integers, to_numpy
from structmat._checks import integer_array, matrix_shape
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray, is_stretch
from structmat.kernels.choice.factored import FactoredMatrix
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import BlockPattern
from structmat.kinds import rule
from structmat.matrix import StructuredMatrix


class BlockSparse(StructuredMatrix, kind="block_sparse"):
    """Dense p x q blocks on the grid that tiles the matrix; cost the area they cover.

    Parameters
    ----------
    blocks : array, shape (b, p, q)
        Contents. Entries of a block beyond the edge of the matrix are not part of the
        matrix.
    rows, cols : array_like of int, shape (b,)
        Grid coordinates, sorted by row and then column: block k covers rows
        ``p rows[k]`` to ``p (rows[k] + 1)``, and columns likewise.
    shape : tuple of int
        ``(m, n)``; neither needs to be a multiple of p or q.

    Raises
    ------
    InputError
        If coordinates are off the grid, unsorted, or occur twice.

    Examples
    --------
    >>> import numpy as np
    >>> A = BlockSparse(np.ones((2, 2, 2)), [0, 1], [1, 0], shape=(4, 3))
    >>> A.to_dense()
    array([[0., 0., 1.],
           [0., 0., 1.],
           [1., 1., 0.],
           [1., 1., 0.]])
    >>> A.cost
    6
    """

    data_names = ("blocks",)
    static_names = ("rows", "cols", "shape")
    scaled_names = ("blocks",)
    blocks: Array

    def __init__(self, blocks: Array, rows: Any, cols: Any, *, shape: tuple[int, int]) -> None:
        blocks = as_content(blocks, "blocks", 3)
        b, p, q = blocks.shape
        m, n = matrix_shape(shape)
        if min(p, q) < 1:
            raise ShapeError(f"blocks of {p}x{q}; expected blocks of at least 1x1")
        self.rows, self.cols = integer_array(rows, "rows"), integer_array(cols, "cols")
        if self.rows.shape != (b,) or self.cols.shape != (b,):
            raise ShapeError(
                f"{b} blocks with rows of shape {self.rows.shape} and cols of shape "
                f"{self.cols.shape}; expected ({b},) for both"
            )
        self._check_coordinates(-(-m // p), -(-n // q))
        super().__init__((m, n), {"blocks": blocks})

    def _check_coordinates(self, height: int, width: int) -> None:
        off = np.flatnonzero(
            (self.rows < 0) | (self.rows >= height) | (self.cols < 0) | (self.cols >= width)
        )
        if off.size:
            k = off[0]
            raise InputError(
                f"block {k} is at ({self.rows[k]}, {self.cols[k]}); expected coordinates on the "
                f"{height}x{width} grid of blocks"
            )
        step = np.diff(self.rows * width + self.cols)
        wrong = np.flatnonzero(step <= 0)
        if wrong.size:
            k = wrong[0]
            at = f"({self.rows[k + 1]}, {self.cols[k + 1]})"
            if step[k] == 0:
                raise InputError(
                    f"blocks {k} and {k + 1} overlap at {at}; expected each place once (add them)"
                )
            raise InputError(
                f"block {k + 1} at {at} comes after block {k} at ({self.rows[k]}, {self.cols[k]}); "
                "expected blocks sorted by row, then column (use numpy.lexsort((cols, rows)))"
            )

    @property
    def block_shape(self) -> tuple[int, int]:
        """Size (p, q) of the blocks."""
        return self.blocks.shape[1], self.blocks.shape[2]

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: the area that the blocks cover."""
        (m, n), (p, q) = self.shape, self.block_shape
        height = np.minimum(p, m - p * self.rows)
        width = np.minimum(q, n - q * self.cols)
        return int((height * width).sum())

    @property
    def _factored(self) -> FactoredMatrix:
        return self._kept("factored", self._fill)

    def _fill(self) -> FactoredMatrix:
        blocks = self.xp.reshape(self.blocks, (-1,))
        structure = self._structural("factors", self._factors)
        return FactoredMatrix(structure, [blocks], weighed=self._weighed_by_layer)

    def _factors(self) -> FactorStructure:
        blocks = BlockPattern(self.rows, self.cols, self.block_shape, self.shape)
        return FactorStructure(blocks, None, self.xp, self.device)

    def _multiply(self, x: Array) -> Array:
        return self._factored.multiply(x)

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._factored.multiply_adjoint(y)

    def _dense(self) -> Array:
        return self._dense_by_products()

    def _adjoint(self) -> "BlockSparse":
        order = np.lexsort((self.rows, self.cols))
        index = self.xp.asarray(order, device=self.device)
        blocks = self.xp.take(self.blocks, index, axis=0)
        swapped = self.xp.matrix_transpose(blocks)
        m, n = self.shape
        result = BlockSparse(swapped, self.cols[order], self.rows[order], shape=(n, m))
        return result.conj()

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        xp, (p, q) = self.xp, self.block_shape
        width = -(-self.shape[1] // q)
        places, wanted = self.rows * width + self.cols, (rows // p) * width + cols // q
        k = np.searchsorted(places, wanted)
        found = np.append(places, -1)[k] == wanted
        zero = xp.zeros(1, dtype=self.dtype, device=self.device)
        flat = xp.concat([xp.reshape(self.blocks, (-1,)), zero])
        at = np.where(found, (k * p + rows % p) * q + cols % q, flat.shape[0] - 1)
        return xp.take(flat, integers(at, xp, self.device), axis=0)

    def _part(self, rows: IntArray, cols: IntArray) -> Any:
        """Slices that begin at blocks stay on the grid."""
        (p, q), ends = self.block_shape, (len(rows), len(cols))
        if not (is_stretch(rows, p) and is_stretch(cols, q)):
            return NotImplemented
        i, j = self.rows - rows[0] // p, self.cols - cols[0] // q
        kept = np.flatnonzero((i >= 0) & (i * p < ends[0]) & (j >= 0) & (j * q < ends[1]))
        blocks = self.xp.take(self.blocks, integers(kept, self.xp, self.device), axis=0)
        return BlockSparse(blocks, i[kept], j[kept], shape=ends)

    def _norm(self, ord: Any) -> Any:
        if ord != "fro":
            return NotImplemented
        (m, n), (p, q) = self.shape, self.block_shape
        inside = (self.rows[:, None] * p + np.arange(p) < m)[:, :, None] & (
            self.cols[:, None] * q + np.arange(q) < n
        )[:, None, :]
        return np.linalg.norm(np.where(inside, to_numpy(self.blocks), 0).ravel())


@rule("add", "block_sparse", "block_sparse")
def _sum(a: BlockSparse, b: BlockSparse) -> Any:
    """Union of the blocks where both use one grid."""
    if a.block_shape != b.block_shape:
        return NotImplemented
    xp, (p, q) = a.xp, a.block_shape
    grid_width = -(-a.shape[1] // q)
    key_a, key_b = a.rows * grid_width + a.cols, b.rows * grid_width + b.cols
    keys = np.union1d(key_a, key_b)

    def spread(matrix: BlockSparse, present: np.ndarray) -> Array:
        zero = xp.zeros((1, p, q), dtype=matrix.dtype, device=a.device)
        place = np.searchsorted(present, keys)
        found = np.isin(keys, present)
        index = np.where(found, place, len(present))
        return xp.take(xp.concat([matrix.blocks, zero]), xp.asarray(index, device=a.device), axis=0)

    blocks = spread(a, key_a) + spread(b, key_b)
    return BlockSparse(blocks, keys // grid_width, keys % grid_width, shape=a.shape)
