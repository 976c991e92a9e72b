"""The identity, which costs nothing, and diagonal matrices."""

import math
import numbers
from contextlib import nullcontext
from typing import Any

import numpy as np

from structmat._array import (
    Array,
    as_content,
    common_device,
    computing_on,
    conj,
    integers,
    is_complex,
    masked,
    namespace,
    to_numpy,
)
from structmat._checks import matrix_shape
from structmat.errors import InputError
from structmat.intervals import IntArray, offsets, positions
from structmat.kinds import rule
from structmat.matrices.block_low_rank import BlockLowRank
from structmat.matrices.block_sparse import BlockSparse
from structmat.matrices.gblr import GBLR
from structmat.matrices.inner_products import unscaled
from structmat.matrices.permutation import Permutation
from structmat.matrix import StructuredMatrix


class Identity(StructuredMatrix, kind="identity"):
    """Identity of n rows and columns; cost and storage 0.

    Parameters
    ----------
    n : int
    like : array, optional
        Any array of the library and the device that the matrix belongs to; NumPy by default.

    Raises
    ------
    InputError
        If `n` is no integer of at least 0.

    Notes
    -----
    The identity has no precision of its own: products keep the dtype of the operand, and
    `dtype` is float64 for solvers that ask.

    Examples
    --------
    >>> import numpy as np
    >>> Identity(2) @ np.array([1.0, 2.0])
    array([1., 2.])
    >>> (2 * Identity(2) + Diagonal([1.0, 0.0])).d
    array([3., 2.])
    """

    data_names = ("like",)
    static_names = ("n",)
    like: Array
    n: int

    def __init__(self, n: int, *, like: Array | None = None) -> None:
        if not isinstance(n, numbers.Integral) or isinstance(n, bool) or n < 0:
            raise InputError(f"n = {n!r}; expected an integer of at least 0")
        self.n, _ = matrix_shape((n, n))
        # Contents without entries carry the library and the device.
        xp = namespace(np.zeros(0) if like is None else like)
        place = None if like is None else common_device(like)
        with nullcontext() if place is None else computing_on(xp, place):
            none = xp.zeros(0, device=place)
        super().__init__((self.n, self.n), {"like": none}, neutral=True)

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: none."""
        return 0

    def _multiply(self, x: Array) -> Array:
        return self.xp.astype(x, x.dtype, copy=True)

    def _multiply_adjoint(self, y: Array) -> Array:
        return self.xp.astype(y, y.dtype, copy=True)

    def _dense(self) -> Array:
        return self.xp.eye(self.n, dtype=self.dtype, device=self.device)

    def _hermitian(self) -> bool:
        return True

    def _adjoint(self) -> "Identity":
        return self

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        ones = self.xp.ones(rows.size, dtype=self.dtype, device=self.device)
        return masked(ones, rows == cols, self.xp)

    def _norm(self, ord: Any) -> float:
        return math.sqrt(self.n) if ord == "fro" else 1.0


class Diagonal(StructuredMatrix, kind="diagonal"):
    """Square matrix with d on its diagonal; cost and storage n.

    Parameters
    ----------
    d : array, shape (n,)

    Raises
    ------
    InputError
        If `d` has another number of axes.

    Examples
    --------
    >>> import numpy as np
    >>> D = Diagonal([1.0, 2.0])
    >>> D @ np.array([1.0, 10.0])
    array([ 1., 20.])
    >>> (D @ D).d, (D + D).d
    (array([1., 4.]), array([2., 4.]))
    """

    data_names = ("d",)
    scaled_names = ("d",)
    d: Array

    def __init__(self, d: Array) -> None:
        d = as_content(d, "d", 1)
        super().__init__((d.shape[0], d.shape[0]), {"d": d})

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: n."""
        return self.shape[0]

    def _multiply(self, x: Array) -> Array:
        return self.d[:, None] * x

    def _multiply_adjoint(self, y: Array) -> Array:
        return conj(self.d, self.xp)[:, None] * y

    def _dense(self) -> Array:
        on = self.xp.eye(self.shape[0], dtype=self.dtype, device=self.device)
        # A product with zeros would turn infinities into NaN.
        zero = self.xp.zeros((), dtype=self.dtype, device=self.device)
        return self.xp.where(on == 1, self.d[:, None], zero)

    def _hermitian(self) -> bool:
        return not is_complex(self.d, self.xp)

    def _adjoint(self) -> "Diagonal":
        return Diagonal(conj(self.d, self.xp))

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        xp = self.xp
        found = xp.take(self.d, integers(rows, xp, self.device), axis=0)
        return masked(found, rows == cols, xp)

    def _part(self, rows: IntArray, cols: IntArray) -> Any:
        if not np.array_equal(rows, cols):
            return NotImplemented
        return Diagonal(self.xp.take(self.d, integers(rows, self.xp, self.device), axis=0))

    def _norm(self, ord: Any) -> float:
        d = np.abs(to_numpy(self.d))
        return float(np.linalg.norm(d)) if ord == "fro" else float(d.max())


def is_multiple(A: StructuredMatrix) -> bool:
    """True for a multiple of the identity.

    Examples
    --------
    >>> is_multiple(3.0 * Identity(2)), is_multiple(Diagonal([3.0, 3.0]))
    (True, False)
    """
    return isinstance(unscaled(A)[0], Identity)


def _as_diagonal(A: Any, dtype: Any) -> Diagonal | None:
    """A multiple of the identity as a diagonal matrix; None for other matrices."""
    if isinstance(A, Diagonal):
        return A
    if not is_multiple(A):
        return None
    dtype, number = dtype if A.neutral else A.dtype, unscaled(A)[1]
    ones = A.xp.ones(A.shape[0], dtype=dtype, device=A.device)
    return Diagonal(ones if number is None else ones * A.xp.astype(number, dtype))


@rule("add", "diagonal", "diagonal")
@rule("add", "diagonal", "identity")
@rule("add", "identity", "diagonal")
@rule("add", "diagonal", "scaled")
@rule("add", "scaled", "diagonal")
@rule("add", "identity", "identity")
@rule("add", "identity", "scaled")
@rule("add", "scaled", "identity")
@rule("add", "scaled", "scaled")
def _sum(a: StructuredMatrix, b: StructuredMatrix) -> Any:
    wide = [M.dtype for M in (a, b) if not M.neutral] or [a.dtype]
    left, right = (_as_diagonal(M, wide[0]) for M in (a, b))
    if left is None or right is None:
        return NotImplemented
    if a.neutral and b.neutral:
        total = left.d[:1] + right.d[:1]
        one = a if isinstance(a, Identity) else a.children[0]
        return one * total[0] if total.shape[0] else one
    return Diagonal(left.d + right.d)


@rule("matmul", "identity", "*")
def _identity_times(a: Identity, b: StructuredMatrix) -> StructuredMatrix:
    return b


@rule("matmul", "*", "identity")
def _times_identity(a: StructuredMatrix, b: Identity) -> StructuredMatrix:
    return a


@rule("matmul", "diagonal", "diagonal")
def _diagonal_product(a: Diagonal, b: Diagonal) -> Diagonal:
    return Diagonal(a.d * b.d)


@rule("matmul", "diagonal", "gblr")
def _diagonal_times_gblr(a: Diagonal, b: GBLR) -> GBLR:
    """Diagonal times GBLR: the runs of rows take the factors in."""
    at = positions(b.row_start, b.row_width, b.shape[0])
    u = b.u * a.xp.take(a.d, integers(at, a.xp, a.device), axis=0)
    runs = (b.row_start, b.row_width), (b.col_start, b.col_width)
    return GBLR(*runs[0], u, *runs[1], b.v, shape=b.shape)


@rule("matmul", "gblr", "diagonal")
def _gblr_times_diagonal(a: GBLR, b: Diagonal) -> Any:
    return _diagonal_times_gblr(b.H, a.H).H


@rule("matmul", "diagonal", "block_sparse")
def _diagonal_times_blocks(a: Diagonal, b: BlockSparse) -> BlockSparse:
    """Diagonal times block sparse: each row of a block takes its factor in."""
    xp, p = a.xp, b.block_shape[0]
    at = np.minimum(b.rows[:, None] * p + np.arange(p), max(b.shape[0] - 1, 0))
    d = xp.take(a.d, integers(at.ravel(), xp, a.device), axis=0)
    blocks = b.blocks * xp.reshape(d, (*at.shape, 1))
    return BlockSparse(blocks, b.rows, b.cols, shape=b.shape)


@rule("matmul", "block_sparse", "diagonal")
def _blocks_times_diagonal(a: BlockSparse, b: Diagonal) -> Any:
    return _diagonal_times_blocks(b.H, a.H).H


@rule("matmul", "diagonal", "block_low_rank")
def _diagonal_times_tiles(a: Diagonal, b: BlockLowRank) -> BlockLowRank:
    """Diagonal times block low rank: the rows of each tile take their factors in."""
    begin, tiles = offsets(b.row_sizes).tolist(), {}
    for (i, j), tile in b.tiles.items():
        d = a.d[begin[i] : begin[i + 1]][:, None]
        tiles[i, j] = (d * tile[0], tile[1]) if isinstance(tile, tuple) else d * tile
    return BlockLowRank(tiles, row_sizes=b.row_sizes, col_sizes=b.col_sizes)


@rule("matmul", "block_low_rank", "diagonal")
def _tiles_times_diagonal(a: BlockLowRank, b: Diagonal) -> Any:
    return _diagonal_times_tiles(b.H, a.H).H


@rule("convert", "identity", "permutation")
def _identity_to_permutation(A: Identity) -> Permutation:
    return Permutation(integers(np.arange(A.n), A.xp, A.device))


@rule("convert", "identity", "diagonal")
def _identity_to_diagonal(A: Identity) -> Diagonal:
    return Diagonal(A.xp.ones(A.n, dtype=A.dtype, device=A.device))


def _through_diagonal(kind: str) -> None:
    @rule("convert", "identity", kind)
    def convert(A: Identity) -> StructuredMatrix:
        return A.to_kind("diagonal").to_kind(kind)


for _kind in ("block_sparse", "block_low_rank", "gblr"):
    _through_diagonal(_kind)


@rule("convert", "diagonal", "block_sparse")
def _diagonal_to_block_sparse(A: Diagonal) -> BlockSparse:
    at = np.arange(A.shape[0])
    return BlockSparse(A.xp.reshape(A.d, (-1, 1, 1)), at, at, shape=A.shape)


@rule("convert", "diagonal", "block_low_rank")
def _diagonal_to_block_low_rank(A: Diagonal) -> StructuredMatrix:
    return _diagonal_to_block_sparse(A).to_kind("block_low_rank")


@rule("convert", "diagonal", "gblr")
def _diagonal_to_gblr(A: Diagonal) -> GBLR:
    """Blocks of one row and one column: twice the cost."""
    at, one = np.arange(A.shape[0]), np.ones(A.shape[0], np.int64)
    return GBLR(at, one, A.d, at, one, A.xp.ones_like(A.d), shape=A.shape)
