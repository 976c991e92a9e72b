"""Hierarchical: rectangles of all sizes, each of low rank or dense, between two orders."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from structmat._array import Array, as_content, conj, integers, is_complex, is_numpy, to_numpy
from structmat._checks import matrix_shape
from structmat.intervals import IntArray
from structmat.kernels.arrays.rectangles import RectangleBatches
from structmat.kernels.choice.factored import FactoredMatrix
from structmat.kernels.choice.record import has, imports
from structmat.kernels.choice.table import LEAST_COMPILED_SCALARS
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import RunPattern
from structmat.kernels.layouts.rectangle_index import (
    cut,
    rank_one_runs,
    turned_entries,
    unfolded_entries,
)
from structmat.kernels.layouts.rectangles import MIRROR, Rectangles
from structmat.kinds import rule
from structmat.matrices.hierarchical_checks import (
    check_contents,
    check_symmetry,
    checked_blocks,
    checked_order,
)
from structmat.matrices.hierarchical_entries import (
    Contents,
    entries_at,
    filled,
    frobenius_norm,
    picked,
    places_in,
    turned,
)
from structmat.matrices.ordered import Between, OrderedMatrix
from structmat.matrices.permutation import Permutation
from structmat.matrix import StructuredMatrix


class Hierarchical(StructuredMatrix, kind="hierarchical"):
    """Rectangles of rows and columns in orders of their own, each of low rank or dense.

    Entry (i, j) of the ordered matrix is entry ``(row_order[i], col_order[j])`` of this one. Of
    the ordered matrix, block k covers consecutive rows and columns. Cost and storage are
    r (p + q) for a p x q block of rank r and p q for a dense one. A symmetric matrix stores one
    triangle: about half of its cost.

    Parameters
    ----------
    blocks : array_like of int, shape (b, 5)
        First row, height p, first column, width q, and rank of each block; rank -1 stands for a
        dense one. Blocks that overlap add up.
    u, v : array
        U^T, (r, p), and V^T, (r, q), of every block U V^H by rows, one after another.
    dense : array
        Entries of the dense blocks by rows, one after another.
    shape : tuple of int
        ``(m, n)``.
    row_order, col_order : array_like of int, shape (m,) and (n,), optional
        Orders of rows and columns; as they are by default.
    symmetric : bool
        Whether A = A^H and the blocks are those of one triangle. A block off the diagonal then
        stands for its mirror image, too. One on the diagonal is dense, and `dense` holds its
        lower triangle, row by row; of the diagonal itself the real part counts.

    Raises
    ------
    InputError
        If a block is empty or off the matrix, or an order is no permutation.
    ShapeError
        If contents and blocks do not match.

    Examples
    --------
    A dense block, a block of rank one and its mirror image, and another dense block:

    >>> import numpy as np
    >>> A = Hierarchical([[0, 2, 0, 2, -1], [2, 1, 0, 2, 1], [2, 1, 2, 1, -1]],
    ...                  [1.0], [5.0, 6.0], [1.0, 2.0, 3.0, 4.0], shape=(3, 3), symmetric=True)
    >>> A.to_dense()
    array([[1., 2., 5.],
           [2., 3., 6.],
           [5., 6., 4.]])
    >>> A.cost, A.storage
    (11, 7)
    """

    data_names = ("u", "v", "dense")
    static_names = ("blocks", "shape", "row_order", "col_order", "symmetric")
    u: Array
    v: Array
    dense: Array

    def __init__(
        self,
        blocks: Any,
        u: Array,
        v: Array,
        dense: Array,
        *,
        shape: tuple[int, int],
        row_order: Any = None,
        col_order: Any = None,
        symmetric: bool = False,
    ) -> None:
        m, n = matrix_shape(shape)
        self.blocks, self.symmetric = checked_blocks(blocks, (m, n)), bool(symmetric)
        self.row_order = checked_order(row_order, m, "row_order")
        self.col_order = checked_order(col_order, n, "col_order")
        self.rectangles = Rectangles(self.blocks, (m, n), self.symmetric)
        if self.symmetric:
            check_symmetry(self.rectangles, self.row_order, self.col_order)
        given = {"u": u, "v": v, "dense": dense}
        arrays = {name: as_content(array, name, 1) for name, array in given.items()}
        check_contents(self.rectangles, arrays)
        super().__init__((m, n), arrays)

    @property
    def num_blocks(self) -> int:
        """Number of stored blocks."""
        return len(self.blocks)

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: r (p + q) or p q a block, mirror images included."""
        return int(self.rectangles.work.sum())

    @property
    def _contents(self) -> Contents:
        return self.u, self.v, self.dense

    # Products. Kernels multiply in the order of the blocks.

    def _multiply(self, x: Array) -> Array:
        return self._product.multiply(x)

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._product.multiply_adjoint(y)

    @property
    def _product(self) -> Any:
        return self._kept("product", self._bind)

    def _bind(self) -> Any:
        left, right = self._orders
        if is_numpy(self.xp):
            return Between(left, self._on_numpy(), right)
        return OrderedMatrix(left, self._factored_blocks, right, self._structural)

    def _on_numpy(self) -> Any:
        """The ordered matrix for operands on NumPy, compiled where that pays."""
        parts = self.rectangles, *self._contents
        if self.storage >= LEAST_COMPILED_SCALARS and has("numba") and imports("numba"):
            from structmat.kernels.cpu.rectangles import RectangleProduct

            return RectangleProduct(*parts)
        return RectangleBatches(*parts)

    @property
    def _orders(self) -> tuple[Permutation | None, Permutation | None]:
        """Permutations around the ordered matrix; None for rows or columns as they are."""
        return self._structural("orders", self._permutations)

    def _permutations(self) -> tuple[Permutation | None, Permutation | None]:
        left, right = (
            None
            if np.array_equal(order, np.arange(order.size))
            else Permutation(integers(order, self.xp, self.device))
            for order in (self.row_order, self.col_order)
        )
        return None if left is None else left.H, right

    @property
    def _factored_blocks(self) -> FactoredMatrix:
        """The ordered matrix as one of factors, for the kernels of all array libraries."""
        return self._kept("factored blocks", self._fill)

    def _fill(self) -> FactoredMatrix:
        whole = self._unfolded()
        u, v = whole._as_runs()
        structure = self._structural("factors", lambda: self._factors(whole))
        return FactoredMatrix(structure, [u, v], weighed=self._weighed_by_layer)

    def _factors(self, whole: "Hierarchical") -> FactorStructure:
        rows, cols = rank_one_runs(whole.rectangles)
        patterns = RunPattern(*rows, self.shape[0]), RunPattern(*cols, self.shape[1])
        return FactorStructure(*patterns, self.xp, self.device)

    def _as_runs(self) -> tuple[Array, Array]:
        """Contents of these rank-one blocks."""
        xp, of = self.xp, self.rectangles
        count = int(of.height[of.is_dense].sum())
        ones = xp.ones(count, dtype=self.dtype, device=self.device)
        return xp.concat([self.u, ones]), xp.concat([self.v, conj(self.dense, xp)])

    # Dense form and adjoint.

    def _dense(self) -> Array:
        if not is_numpy(self.xp):
            return self._dense_by_products()
        total = filled(self.rectangles, self._contents)
        if self._orders == (None, None):
            return total
        result = np.empty_like(total)
        result[np.ix_(self.row_order, self.col_order)] = total
        return result

    def _hermitian(self) -> bool:
        return self.symmetric

    def _adjoint(self) -> "Hierarchical":
        at = turned_entries(self.rectangles)
        dense = conj(entries_at(self.dense, at, self.xp), self.xp)
        return Hierarchical(
            self.blocks[:, MIRROR], self.v, self.u, dense, shape=self.shape[::-1],
            row_order=self.col_order, col_order=self.row_order,
        )  # fmt: skip

    def _scaled(self, scalar: Any, apply: Callable[[Any, Any], Any]) -> Any:
        """A number in the contents; those of a symmetric matrix take real ones alone."""
        xp, arrays = self.xp, {name: getattr(self, name) for name in self.data_names}
        turns = isinstance(scalar, complex) or (hasattr(scalar, "dtype") and is_complex(scalar, xp))
        if turns and self.symmetric:
            return NotImplemented
        for name in ("u", "dense"):
            array = arrays[name]
            if turns and not is_complex(array, xp):
                array = xp.astype(array, xp.result_type(array.dtype, xp.complex64))
            arrays[name] = apply(array, scalar)
        return type(self)._build(arrays, (), self._static())

    # Entries.

    def _pick(self, rows: IntArray, cols: IntArray) -> Any:
        """Entries of the blocks that hold them: O(rank) each."""
        rows, cols = places_in(self.row_order)[rows], places_in(self.col_order)[cols]
        return picked(self.rectangles, self._contents, rows, cols, self.xp)

    def _unfolded(self) -> "Hierarchical":
        """The same matrix with its mirror images written out; itself if it is not symmetric."""
        if not self.symmetric:
            return self
        xp, at = self.xp, unfolded_entries(self.rectangles)
        dense = turned(entries_at(self.dense, at.at, xp), at.conjugated, at.real, xp)
        return Hierarchical(
            self.rectangles.whole, xp.concat([self.u, self.v]), xp.concat([self.v, self.u]), dense,
            shape=self.shape, row_order=self.row_order, col_order=self.col_order,
        )  # fmt: skip

    def _part(self, rows: IntArray, cols: IntArray) -> Any:
        """Different rows and columns, in any order, cut the blocks."""
        if not all(np.unique(at).size == at.size for at in (rows, cols)):
            return NotImplemented
        A = self if np.array_equal(rows, cols) else self._unfolded()
        at = places_in(A.row_order)[rows], places_in(A.col_order)[cols]
        left = cut(A.rectangles, *at)
        contents = (
            entries_at(flat, places, self.xp)
            for flat, places in zip(A._contents, (left.u, left.v, left.dense), strict=True)
        )
        return Hierarchical(
            left.table, *contents, shape=(rows.size, cols.size), row_order=left.orders[0],
            col_order=left.orders[1], symmetric=A.symmetric,
        )  # fmt: skip

    def _norm(self, ord: Any) -> Any:
        of = self.rectangles
        if ord != "fro" or of.cells is None:
            return NotImplemented
        u, v, dense = map(to_numpy, self._contents)
        return frobenius_norm(of, (u, v, dense))

    @classmethod
    def _from_parts(cls, *, row_order: IntArray, col_order: IntArray, **parts: Any) -> Self:
        """A file without orders is damaged: its shape may be beyond all memory."""
        return cls(row_order=row_order, col_order=col_order, **parts)


@rule("matmul", "permutation", "hierarchical")
def _permutation_times(a: Permutation, b: Hierarchical) -> Any:
    """The order of the rows takes the permutation in; one of a symmetric matrix does not."""
    if b.symmetric or a._is_identity():
        return b if a._is_identity() else NotImplemented
    order = to_numpy(a._inverse)[b.row_order]
    parts = {name: getattr(b, name) for name in b.data_names}
    return b._build(parts, (), {**b._static(), "row_order": order})


@rule("matmul", "hierarchical", "permutation")
def _times_permutation(a: Hierarchical, b: Permutation) -> Any:
    if a.symmetric or b._is_identity():
        return a if b._is_identity() else NotImplemented
    order = to_numpy(b.p)[a.col_order]
    parts = {name: getattr(a, name) for name in a.data_names}
    return a._build(parts, (), {**a._static(), "col_order": order})
