"""GBLR: a sum of rank-one blocks, each on its own cyclic runs."""

import math
from typing import Any, Self

import numpy as np

from structmat._array import (
    Array,
    as_content,
    common_device,
    computing_on,
    conj,
    integers,
    namespace,
    to_numpy,
)
from structmat._checks import check_runs, exact_total, matrix_shape
from structmat.errors import ShapeError
from structmat.intervals import (
    IntArray,
    cover_count,
    entry_index,
    is_increasing,
    multiplications,
    offsets,
    positions,
    runs_among,
)
from structmat.kernels.choice.factored import FactoredMatrix
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import RunPattern
from structmat.kinds import rule
from structmat.matrices.inner_products import LARGE, columns_of_runs, norm_of_factors
from structmat.matrix import StructuredMatrix

#: Most pairs of an entry and a block at once.
_PAIRS = 2**20


class GBLR(StructuredMatrix, kind="gblr"):
    """Generalized block-low-rank: A = Σ_k ZeroPad(u_k v_k^H), each on its own runs.

    Block k stands on a cyclic run of rows and a cyclic run of columns; runs wrap
    around the edge and blocks may overlap. Low-rank, block-sparse and block-low-rank
    matrices are special cases (Lee & Kim, arXiv 2310.18882, Theorem 1; `convert` says
    at what cost). Storage is the sum of all widths. The cost is as much, less one for each block
    one row high or one column wide: its other side can be multiplied by the single entry
    beforehand.

    Parameters
    ----------
    row_start, row_width : array_like of int, shape (K,)
        Runs of rows: rows ``(row_start + i) mod m`` for ``0 <= i < row_width``.
    u : array, shape (row_width.sum(),)
        Contents on the runs of rows, block after block.
    col_start, col_width : array_like of int, shape (K,)
        Runs of columns.
    v : array, shape (col_width.sum(),)
        Contents on the runs of columns; the product takes their conjugate.
    shape : tuple of int
        ``(m, n)``.

    Raises
    ------
    InputError
        If a width is negative or longer than its axis, or a start is off the circle.
    ShapeError
        If contents and widths do not match.

    See Also
    --------
    GBLR.from_masked : from full-length contents.

    Examples
    --------
    One block on the last and first row, and on columns 1 and 2:

    >>> A = GBLR([3], [2], [1.0, 2.0], [1], [2], [1.0, 10.0], shape=(4, 3))
    >>> A.to_dense()
    array([[ 0.,  2., 20.],
           [ 0.,  0.,  0.],
           [ 0.,  0.,  0.],
           [ 0.,  1., 10.]])
    >>> A.cost
    4
    """

    data_names = ("u", "v")
    static_names = ("row_start", "row_width", "col_start", "col_width", "shape")
    scaled_names = ("u",)
    u: Array
    v: Array

    def __init__(
        self,
        row_start: Any,
        row_width: Any,
        u: Array,
        col_start: Any,
        col_width: Any,
        v: Array,
        *,
        shape: tuple[int, int],
    ) -> None:
        m, n = matrix_shape(shape)
        self.row_start, self.row_width = check_runs(row_start, row_width, m, name="row")
        self.col_start, self.col_width = check_runs(col_start, col_width, n, name="col")
        if self.row_width.size != self.col_width.size:
            raise ShapeError(
                f"{self.row_width.size} runs of rows and {self.col_width.size} of columns; "
                "expected one of each a block"
            )
        u, v = as_content(u, "u", 1), as_content(v, "v", 1)
        for name, array, width in (("u", u, self.row_width), ("v", v, self.col_width)):
            if array.shape[0] != (total := exact_total(width)):
                raise ShapeError(
                    f"{name} holds {array.shape[0]} entries; expected {total}, the sum of "
                    "the widths (for full-length contents use GBLR.from_masked)"
                )
        super().__init__((m, n), {"u": u, "v": v})

    @classmethod
    def from_masked(
        cls, U: Array, V: Array, row_start: Any, row_width: Any, col_start: Any, col_width: Any
    ) -> Self:
        """A = Σ_k ZeroPad(u_k v_k^H) from contents of full length.

        Parameters
        ----------
        U : array, shape (K, m)
        V : array, shape (K, n)
            Row k is block k; entries outside its run are dropped.
        row_start, row_width, col_start, col_width : array_like of int, shape (K,)

        Examples
        --------
        >>> import numpy as np
        >>> A = GBLR.from_masked(np.ones((1, 3)), np.ones((1, 2)), [2], [2], [0], [1])
        >>> A.to_dense()
        array([[1., 0.],
               [0., 0.],
               [1., 0.]])
        """
        U, V = as_content(U, "U", 2), as_content(V, "V", 2)
        xp, m, n = namespace(U, V), U.shape[1], V.shape[1]
        row_start, row_width = check_runs(row_start, row_width, m, name="row")
        col_start, col_width = check_runs(col_start, col_width, n, name="col")
        if not U.shape[0] == V.shape[0] == row_width.size == col_width.size:
            raise ShapeError(
                f"U holds {U.shape[0]} blocks, V {V.shape[0]}, the runs {row_width.size} and "
                f"{col_width.size}; expected one number of blocks"
            )

        def packed(full: Array, start: np.ndarray, width: np.ndarray) -> Array:
            size, place = full.shape[1], common_device(full)
            at = np.repeat(np.arange(width.size) * size, width) + positions(start, width, size)
            with computing_on(xp, place):
                return xp.take(xp.reshape(full, (-1,)), integers(at, xp, place))

        u, v = packed(U, row_start, row_width), packed(V, col_start, col_width)
        return cls(row_start, row_width, u, col_start, col_width, v, shape=(m, n))

    @property
    def num_blocks(self) -> int:
        """Number of blocks, those of width zero included."""
        return int(self.row_width.size)

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: all widths but those of a block's only row or column."""
        return int(multiplications(self.row_width, self.col_width).sum())

    def coverage(self) -> np.ndarray:
        """Number of blocks that cover each entry: an integer array (m, n) on the host."""
        rows, cols = (self.row_start, self.row_width), (self.col_start, self.col_width)
        return cover_count(rows, cols, self.shape, np.ones(self.num_blocks, np.int64))

    @property
    def _factored(self) -> FactoredMatrix:
        return self._kept("factored", self._fill)

    def _fill(self) -> FactoredMatrix:
        structure = self._structural("factors", self._factors)
        return FactoredMatrix(structure, [self.u, self.v], weighed=self._weighed_by_layer)

    def _factors(self) -> FactorStructure:
        rows = RunPattern(self.row_start, self.row_width, self.shape[0])
        cols = RunPattern(self.col_start, self.col_width, self.shape[1])
        return FactorStructure(rows, cols, self.xp, self.device)

    def _multiply(self, x: Array) -> Array:
        return self._factored.multiply(x)

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._factored.multiply_adjoint(y)

    def _dense(self) -> Array:
        return self._dense_by_products()

    def _adjoint(self) -> "GBLR":
        rows, cols = (
            (self.row_start, self.row_width, self.u),
            (self.col_start, self.col_width, self.v),
        )
        return GBLR(*cols, *rows, shape=(self.shape[1], self.shape[0]))

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        """Sum over all blocks for some entries at a time: O(entries · blocks)."""
        xp, found = self.xp, [self.xp.zeros(0, dtype=self.dtype, device=self.device)]
        block = np.arange(self.num_blocks)
        # The index one past the end stands for entries off a run.
        zero = xp.zeros(1, dtype=self.dtype, device=self.device)
        u, v = xp.concat([self.u, zero]), xp.concat([self.v, zero])
        row_runs = self.row_start, self.row_width, offsets(self.row_width), self.shape[0]
        col_runs = self.col_start, self.col_width, offsets(self.col_width), self.shape[1]
        step = max(1, _PAIRS // max(self.num_blocks, 1))
        for first in range(0, rows.size, step):
            i, j = (at[first : first + step, None] for at in (rows, cols))
            a = self._taken(u, entry_index(*row_runs, block, i))
            b = self._taken(v, entry_index(*col_runs, block, j))
            found.append(xp.sum(a * conj(b, xp), axis=1))
        return xp.concat(found)

    def _taken(self, contents: Array, at: IntArray) -> Array:
        flat = self.xp.take(contents, integers(at.ravel(), self.xp, self.device), axis=0)
        return self.xp.reshape(flat, at.shape)

    def _part(self, rows: IntArray, cols: IntArray) -> Any:
        """Increasing indices leave a run of each run."""
        if not (is_increasing(rows) and is_increasing(cols)):
            return NotImplemented
        sides = (
            (self.row_start, self.row_width, self.u, rows, self.shape[0]),
            (self.col_start, self.col_width, self.v, cols, self.shape[1]),
        )
        left = [runs_among(start, width, n, at) for start, width, _, at, n in sides]
        blocks = np.flatnonzero((left[0][1] > 0) & (left[1][1] > 0))
        parts: list[Any] = []
        for (old_start, old_width, contents, at, n), (start, width) in zip(
            sides, left, strict=True
        ):
            start, width = start[blocks], width[blocks]
            place = at[positions(start, width, at.size)]
            old = old_start, old_width, offsets(old_width), n
            index = entry_index(*old, np.repeat(blocks, width), place)
            taken = self.xp.take(contents, integers(index, self.xp, self.device), axis=0)
            parts += [start, width, taken]
        return GBLR(*parts, shape=(rows.size, cols.size))

    def _norm(self, ord: Any) -> Any:
        """Norm from inner products of the blocks where n products would take long."""
        if ord != "fro" or math.prod(self.shape) <= LARGE:
            return NotImplemented
        m, n = self.shape
        U = columns_of_runs(to_numpy(self.u), self.row_start, self.row_width, m)
        V = columns_of_runs(to_numpy(self.v), self.col_start, self.col_width, n)
        found = norm_of_factors(U, V)
        return NotImplemented if found is None else found


@rule("add", "gblr", "gblr")
def _sum(a: GBLR, b: GBLR) -> GBLR:
    return GBLR(
        np.concatenate([a.row_start, b.row_start]),
        np.concatenate([a.row_width, b.row_width]),
        a.xp.concat([a.u, b.u]),
        np.concatenate([a.col_start, b.col_start]),
        np.concatenate([a.col_width, b.col_width]),
        a.xp.concat([a.v, b.v]),
        shape=a.shape,
    )
