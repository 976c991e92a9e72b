"""Hierarchical: rectangles of all sizes, each of low rank or dense, between two orders."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from structmat._array import (
    Array,
    as_content,
    conj,
    from_numpy,
    integers,
    is_complex,
    is_numpy,
    to_numpy,
)
from structmat._checks import exact_total, integer_array, matrix_shape
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray, ramps
from structmat.kernels.arrays.rectangles import RectangleBatches
from structmat.kernels.choice.factored import FactoredMatrix
from structmat.kernels.choice.record import has, imports
from structmat.kernels.choice.table import LEAST_COMPILED_SCALARS
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import RunPattern
from structmat.kernels.layouts.rectangle_index import (
    cut,
    dense_entries,
    factor_entries,
    turned_entries,
    unfolded_entries,
)
from structmat.kernels.layouts.rectangles import DENSE, MIRROR, Rectangles
from structmat.kinds import rule
from structmat.matrices.ordered import OrderedMatrix
from structmat.matrices.permutation import Permutation
from structmat.matrix import StructuredMatrix

#: Most pairs of an entry and a rank at once.
_PAIRS = 2**20


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
        self.blocks, self.symmetric = _blocks(blocks, (m, n)), bool(symmetric)
        self.row_order = _order(row_order, m, "row_order")
        self.col_order = _order(col_order, n, "col_order")
        self.rectangles = Rectangles(self.blocks, (m, n), self.symmetric)
        if self.symmetric:
            self._check_symmetry(m, n)
        arrays = {
            name: as_content(array, name, 1)
            for name, array in (("u", u), ("v", v), ("dense", dense))
        }
        self._check_contents(arrays)
        super().__init__((m, n), arrays)

    def _check_symmetry(self, m: int, n: int) -> None:
        if m != n or not np.array_equal(self.row_order, self.col_order):
            raise ShapeError(
                f"symmetric, with shape {(m, n)} and orders that are "
                f"{'equal' if m == n else 'of two lengths'}; expected as many rows as columns, in "
                "one order (or symmetric=False)"
            )
        of, (top, height, left, width, _) = self.rectangles, self.blocks.T
        apart = (top + height <= left) | (left + width <= top)
        wrong = np.flatnonzero(~apart & ~(of.is_triangular & of.is_dense))
        if wrong.size:
            k = wrong[0]
            raise InputError(
                f"block {k} = {self.blocks[k].tolist()} of a symmetric matrix meets the diagonal; "
                "expected equal rows and columns and rank -1 there (or symmetric=False)"
            )

    def _check_contents(self, arrays: dict[str, Array]) -> None:
        of, triangular = self.rectangles, self.rectangles.is_triangular
        dense = of.is_dense.astype(np.int64)
        full, half = dense * ~triangular, dense * triangular
        # p (p + 1) is even; the two halves are exact in any number of bits.
        totals = {
            "u": exact_total(of.height, of.rank),
            "v": exact_total(of.width, of.rank),
            "dense": exact_total(of.height, of.width, full)
            + exact_total(of.height, of.height + 1, half) // 2,
        }
        for name, total in totals.items():
            if arrays[name].shape[0] != total:
                raise ShapeError(
                    f"{name} holds {arrays[name].shape[0]} entries; expected {total}, by the "
                    "heights, widths and ranks of the blocks"
                )

    @property
    def num_blocks(self) -> int:
        """Number of stored blocks."""
        return len(self.blocks)

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: r (p + q) or p q a block, mirror images included."""
        return int(self.rectangles.work.sum())

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
            return _Between(left, self._on_numpy(), right)
        return OrderedMatrix(left, self._factored_blocks, right, self._structural)

    def _on_numpy(self) -> Any:
        """The ordered matrix for operands on NumPy, compiled where that pays."""
        parts = self.rectangles, self.u, self.v, self.dense
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
        rows, cols = whole._runs()
        patterns = RunPattern(*rows, self.shape[0]), RunPattern(*cols, self.shape[1])
        return FactorStructure(*patterns, self.xp, self.device)

    def _runs(self) -> tuple[tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
        """Runs of rank-one blocks: one a rank, and one for each row of a dense block."""
        of = self.rectangles
        low, dense = np.flatnonzero(~of.is_dense), np.flatnonzero(of.is_dense)
        which = np.repeat(low, of.rank[low])
        lines = np.repeat(dense, of.height[dense])
        top, height, left, width, _ = self.blocks.T
        row = top[lines] + ramps(height[dense])
        return (
            (np.concatenate([top[which], row]), np.append(height[which], np.ones_like(row))),
            (np.append(left[which], left[lines]), np.append(width[which], width[lines])),
        )

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
        of, total = self.rectangles, np.zeros(self.shape, self.dtype)
        for group, contents in RectangleBatches(of, self.u, self.v, self.dense).stacks():
            full = contents[0]
            if group.rank >= 0:
                full = contents[0].swapaxes(1, 2) @ contents[1].conj()
            for (top, p, left, q, _), block in zip(of.table[group.members], full, strict=True):
                total[top : top + p, left : left + q] += block
                if of.symmetric and not group.triangular:
                    total[left : left + q, top : top + p] += block.conj().T
        if self._orders == (None, None):
            return total
        result = np.empty_like(total)
        result[np.ix_(self.row_order, self.col_order)] = total
        return result

    def _adjoint(self) -> "Hierarchical":
        if self.symmetric:
            return self
        dense = conj(self._at(self.dense, turned_entries(self.rectangles)), self.xp)
        return Hierarchical(
            self.blocks[:, MIRROR], self.v, self.u, dense, shape=self.shape[::-1],
            row_order=self.col_order, col_order=self.row_order,
        )  # fmt: skip

    def _at(self, flat: Array, at: IntArray) -> Array:
        taken = self.xp.take(flat, integers(at.ravel(), self.xp, self.device), axis=0)
        return self.xp.reshape(taken, at.shape)

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
        rows, cols = _inverse(self.row_order)[rows], _inverse(self.col_order)[cols]
        located = self.rectangles.locate(rows, cols)
        if located is None:
            return NotImplemented
        xp, (number, flipped) = self.xp, located
        i, j = np.where(flipped, cols, rows), np.where(flipped, rows, cols)
        found = [xp.zeros(0, dtype=self.dtype, device=self.device)]
        step = max(1, _PAIRS // max(int(self.rectangles.rank.max(initial=0)), 1))
        for first in range(0, number.size, step):
            some = slice(first, first + step)
            found.append(self._stored(number[some], i[some], j[some], flipped[some]))
        return xp.concat(found)

    def _stored(self, number: IntArray, i: IntArray, j: IntArray, flipped: np.ndarray) -> Array:
        """Entries (i, j) of the blocks of these numbers, some of them conjugated."""
        xp, of = self.xp, self.rectangles
        zero = xp.zeros(1, dtype=self.dtype, device=self.device)
        u, v, dense = (xp.concat([flat, zero]) for flat in (self.u, self.v, self.dense))
        ends = self.u.shape[0], self.v.shape[0]
        factors = factor_entries(of, number, i, j, ends)
        left, right = (self._at(flat, at) for flat, at in zip((u, v), factors, strict=True))
        entries = dense_entries(of, number, i, j, self.dense.shape[0])
        value = xp.sum(left * conj(right, xp), axis=1) + self._at(dense, entries.at)
        return self._turned(value, entries.conjugated | flipped, entries.real)

    def _turned(self, value: Array, conjugated: np.ndarray, real: np.ndarray) -> Array:
        """Entries, some of them conjugated, and of some the real part."""
        xp = self.xp
        if not is_complex(value, xp):
            return value
        other, plain = (from_numpy(mask, xp, self.device) for mask in (conjugated, real))
        value = xp.where(other, conj(value, xp), value)
        return xp.where(plain, (value + conj(value, xp)) / 2, value)

    def _unfolded(self) -> "Hierarchical":
        """The same matrix with its mirror images written out; itself if it is not symmetric."""
        if not self.symmetric:
            return self
        xp, at = self.xp, unfolded_entries(self.rectangles)
        dense = self._turned(self._at(self.dense, at.at), at.conjugated, at.real)
        return Hierarchical(
            self.rectangles.whole, xp.concat([self.u, self.v]), xp.concat([self.v, self.u]), dense,
            shape=self.shape, row_order=self.row_order, col_order=self.col_order,
        )  # fmt: skip

    def _part(self, rows: IntArray, cols: IntArray) -> Any:
        """Different rows and columns, in any order, cut the blocks."""
        if not all(np.unique(at).size == at.size for at in (rows, cols)):
            return NotImplemented
        A = self if np.array_equal(rows, cols) else self._unfolded()
        at = _inverse(A.row_order)[rows], _inverse(A.col_order)[cols]
        left = cut(A.rectangles, *at)
        contents = (
            self._at(flat, places)
            for flat, places in zip((A.u, A.v, A.dense), (left.u, left.v, left.dense), strict=True)
        )
        return Hierarchical(
            left.table, *contents, shape=(rows.size, cols.size), row_order=left.orders[0],
            col_order=left.orders[1], symmetric=A.symmetric,
        )  # fmt: skip

    def _norm(self, ord: Any) -> Any:
        of = self.rectangles
        if ord != "fro" or of.cells is None:
            return NotImplemented
        arrays = (to_numpy(getattr(self, name)) for name in self.data_names)
        norms = [np.zeros(0)]
        for group, contents in RectangleBatches(of, *arrays).stacks():
            full = contents[0]
            if group.rank >= 0:
                triangles = (np.linalg.qr(F.swapaxes(1, 2), mode="r") for F in contents)
                left, right = (np.asarray(R) for R in triangles)
                full = left @ right.conj().swapaxes(1, 2)
            twice = np.sqrt(2.0) if of.symmetric and not group.triangular else 1.0
            norms.append(twice * np.asarray(np.linalg.norm(full, axis=(1, 2))))
        return np.linalg.norm(np.concatenate(norms))

    @classmethod
    def _from_parts(cls, *, row_order: IntArray, col_order: IntArray, **parts: Any) -> Self:
        """A file without orders is damaged: its shape may be beyond all memory."""
        return cls(row_order=row_order, col_order=col_order, **parts)


class _Between:
    """A product between orders, on NumPy."""

    def __init__(self, left: Permutation | None, inner: Any, right: Permutation | None) -> None:
        self._left, self._inner, self._right = left, inner, right

    def multiply(self, x: Array) -> Array:
        """A x: (n, k) to (m, k)."""
        x = x if self._right is None else self._right._multiply(x)
        y = self._inner.multiply(x)
        return y if self._left is None else self._left._multiply(y)

    def multiply_adjoint(self, y: Array) -> Array:
        """A^H y: (m, k) to (n, k)."""
        y = y if self._left is None else self._left._multiply_adjoint(y)
        x = self._inner.multiply_adjoint(y)
        return x if self._right is None else self._right._multiply_adjoint(x)


def _blocks(blocks: Any, shape: tuple[int, int]) -> IntArray:
    """Check the table of blocks, and return it as a new array (b, 5) that is read only."""
    table = np.asarray(blocks)
    if table.size == 0:
        table = np.zeros((0, 5), np.int64)
    if table.ndim != 2 or table.shape[1] != 5:
        raise ShapeError(
            f"blocks has shape {table.shape}; expected (b, 5): first row, height, first column, "
            "width, rank"
        )
    table = integer_array(table.ravel(), "blocks").reshape(-1, 5)
    start, size, rank = table[:, [0, 2]], table[:, [1, 3]], table[:, 4]
    # Subtractions: sums might not fit in 64 bits.
    off = (start < 0) | (size < 1) | (size > np.asarray(shape))
    off |= start > np.asarray(shape) - np.where(off, 0, size)
    wrong = np.flatnonzero(off[:, 0] | off[:, 1] | (rank < DENSE))
    if wrong.size:
        k = wrong[0]
        raise InputError(
            f"block {k} = {table[k].tolist()}; expected first row, height, first column and width "
            f"of at least one row and column inside {shape}, and a rank of at least 0, or -1"
        )
    table.flags.writeable = False
    return table


def _order(order: Any, n: int, name: str) -> IntArray:
    """Check an order of n positions, and return it as a new array that is read only."""
    found = np.arange(n) if order is None else integer_array(order, name)
    inside = found.size == n and ((found >= 0) & (found < n)).all()
    if not (inside and (np.bincount(found, minlength=n) == 1).all()):
        raise InputError(
            f"{name} with {found.size} entries is no order of {n} positions; expected each of 0 to "
            f"{n - 1} exactly once"
        )
    found.flags.writeable = False
    return found


def _inverse(order: IntArray) -> IntArray:
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    return back


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
