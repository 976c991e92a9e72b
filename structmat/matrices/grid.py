"""Matrices of matrices: blocks on a grid, each applied to its part of the operand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from structmat._array import Array, integers
from structmat._checks import integer_array
from structmat.contract.operand import multiplied
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray, offsets
from structmat.kinds import kind_class, rule
from structmat.matrices.adjoints import are_adjoint
from structmat.matrices.lazy import Scaled
from structmat.matrix import StructuredMatrix


class Grid(StructuredMatrix, kind="grid"):
    """Blocks that are matrices themselves, on a grid; cost and storage add up.

    Parameters
    ----------
    blocks : StructuredMatrix
        One or more.
    places : array_like of int, shape (t, 2)
        Grid coordinates of the blocks, each once. Absent blocks are zero.
    row_sizes, col_sizes : sequence of int
        Heights and widths of the grid; their sums are the shape.

    Raises
    ------
    InputError
        If there is no block, or one is off the grid, or at the place of another.
    ShapeError
        If a block does not fit its place.
    """

    static_names = ("places", "row_sizes", "col_sizes")

    def __init__(
        self, *blocks: StructuredMatrix, places: Any, row_sizes: Any, col_sizes: Any
    ) -> None:
        self.row_sizes = integer_array(row_sizes, "row_sizes")
        self.col_sizes = integer_array(col_sizes, "col_sizes")
        self.places = integer_array(np.ravel(np.asarray(places)), "places").reshape(-1, 2)
        grid = len(self.row_sizes), len(self.col_sizes)
        if not blocks or len(self.places) != len(blocks):
            raise InputError(
                f"{len(blocks)} blocks at {len(self.places)} places; expected one place for each "
                "block, and a block at least"
            )
        off = ((self.places < 0) | (self.places >= grid)).any()
        if off or len(np.unique(self.places, axis=0)) < len(self.places):
            raise InputError(
                f"blocks at {self.places.tolist()}; expected each place once (add blocks that "
                f"meet), on a {grid[0]}x{grid[1]} grid"
            )
        for block, (i, j) in zip(blocks, self.places, strict=True):
            wanted = int(self.row_sizes[i]), int(self.col_sizes[j])
            if block.shape != wanted:
                raise ShapeError(f"block ({i}, {j}) is {block.shape}; expected {wanted}")
        shape = int(self.row_sizes.sum()), int(self.col_sizes.sum())
        super().__init__(shape, {}, blocks)

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: those of all blocks."""
        return sum(block.cost for block in self.children)

    @property
    def is_block_diagonal(self) -> bool:
        """True if no two blocks share rows or columns."""
        return all(np.unique(at).size == at.size for at in self.places.T)

    def _multiply(self, x: Array) -> Array:
        return self._applied(x, self.places, (self.row_sizes, self.col_sizes), adjoint=False)

    def _multiply_adjoint(self, y: Array) -> Array:
        turned = self.places[:, ::-1]
        return self._applied(y, turned, (self.col_sizes, self.row_sizes), adjoint=True)

    def _applied(
        self, x: Array, places: IntArray, sizes: tuple[IntArray, IntArray], *, adjoint: bool
    ) -> Array:
        """Parts of the result, each the sum of the blocks beside one another."""
        xp, begin = self.xp, offsets(sizes[1]).tolist()
        parts: list[Any] = [None] * len(sizes[0])
        for block, (i, j) in zip(self.children, places.tolist(), strict=True):
            part = multiplied(block, x[begin[j] : begin[j + 1], :], adjoint=adjoint)
            parts[i] = part if parts[i] is None else parts[i] + part
        for i, size in enumerate(sizes[0].tolist()):
            if parts[i] is None:
                parts[i] = xp.zeros((size, x.shape[1]), dtype=x.dtype, device=self.device)
        return parts[0] if len(parts) == 1 else xp.concat(parts)

    def _dense(self) -> Array:
        xp, at = self.xp, dict(zip(map(tuple, self.places.tolist()), self.children, strict=True))
        bands = []
        for i, height in enumerate(self.row_sizes.tolist()):
            parts = [
                xp.astype(at[i, j].to_dense(), self.dtype)
                if (i, j) in at
                else xp.zeros((height, width), dtype=self.dtype, device=self.device)
                for j, width in enumerate(self.col_sizes.tolist())
            ]
            bands.append(xp.concat(parts, axis=1))
        return xp.concat(bands)

    def _hermitian(self) -> bool:
        """Each block is the adjoint of that at the mirrored place, if the grid is square."""
        if not np.array_equal(self.row_sizes, self.col_sizes):
            return False
        at = dict(zip(map(tuple, self.places.tolist()), self.children, strict=True))
        return all(
            (j, i) in at and (i > j or are_adjoint(block, at[j, i])) for (i, j), block in at.items()
        )

    def _adjoint(self) -> "Grid":
        order = np.lexsort((self.places[:, 0], self.places[:, 1]))
        return Grid(
            *(self.children[t].H for t in order), places=self.places[order, ::-1],
            row_sizes=self.col_sizes, col_sizes=self.row_sizes,
        )  # fmt: skip

    def _with(self, blocks: list[StructuredMatrix]) -> "Grid":
        """Other blocks of the same shapes at the same places."""
        return Grid(*blocks, **self._static())

    def _scaled(self, scalar: Any, apply: Callable[[Any, Any], Any]) -> Any:
        scaled = [block._scale(scalar, apply) for block in self.children]
        for block, result in zip(self.children, scaled, strict=True):
            if isinstance(result, Scaled) and not isinstance(block, Scaled):
                return NotImplemented
        return self._with(scaled)

    # Entries.

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        """Entries block by block."""
        xp, sides = self.xp, zip((self.row_sizes, self.col_sizes), (rows, cols), strict=True)
        (i, row), (j, col) = (_inside(sizes, at) for sizes, at in sides)
        at = dict(zip(map(tuple, self.places.tolist()), self.children, strict=True))
        key = i * max(len(self.col_sizes), 1) + j
        order = np.argsort(key, kind="stable")
        found = [xp.zeros(0, dtype=self.dtype, device=self.device)]
        for some in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
            if not some.size:
                continue
            block = at.get((int(i[some[0]]), int(j[some[0]])))
            if block is None:
                found.append(xp.zeros(some.size, dtype=self.dtype, device=self.device))
            else:
                entries = block._entries_at(row[some], col[some])
                found.append(xp.astype(entries, self.dtype))
        back = integers(np.argsort(order), xp, self.device)
        return xp.take(xp.concat(found), back, axis=0)

    def _part(self, rows: IntArray, cols: IntArray) -> Any:
        """Rows and columns that take the blocks in their order cut each block."""
        inside = [
            _inside(sizes, at)
            for sizes, at in zip((self.row_sizes, self.col_sizes), (rows, cols), strict=True)
        ]
        if any((np.diff(block) < 0).any() for block, _ in inside):
            return NotImplemented
        (of_row, row), (of_col, col) = inside
        kept, places = [], []
        for block, (i, j) in zip(self.children, self.places.tolist(), strict=True):
            at = row[of_row == i], col[of_col == j]
            if at[0].size and at[1].size:
                kept.append(block._submatrix(*at))
                places.append((i, j))
        if not kept:
            return zero(self, (rows.size, cols.size))
        sizes = [
            np.bincount(block, minlength=len(whole))
            for (block, _), whole in zip(inside, (self.row_sizes, self.col_sizes), strict=True)
        ]
        one = len(kept) == 1 and kept[0].shape == (rows.size, cols.size)
        found = kept[0] if one else Grid(
            *kept, places=places, row_sizes=sizes[0], col_sizes=sizes[1]
        )  # fmt: skip
        # Parts of neutral blocks have a precision of their own.
        return found if found.dtype == self.dtype else found.astype(self.dtype)

    def _norm(self, ord: Any) -> Any:
        if ord == "fro":
            return math.hypot(*(block.norm() for block in self.children))
        if self.is_block_diagonal:
            return max(block.norm(ord) for block in self.children)
        return NotImplemented


def zero(A: StructuredMatrix, shape: tuple[int, int]) -> StructuredMatrix:
    """The zero matrix of a shape, in the library and the dtype of A: of rank 0."""
    U, V = (A.xp.zeros((size, 0), dtype=A.dtype, device=A.device) for size in shape)
    found: StructuredMatrix = kind_class("low_rank")(U, V)
    return found


def _inside(sizes: IntArray, at: IntArray) -> tuple[IntArray, IntArray]:
    """Number of the stretch that holds each index, and its place inside."""
    begins = offsets(sizes)
    block = np.searchsorted(begins, at, side="right") - 1
    return block, at - begins[block]


def _same_grid(a: Grid, b: Grid) -> bool:
    return np.array_equal(a.row_sizes, b.row_sizes) and np.array_equal(a.col_sizes, b.col_sizes)


@rule("add", "grid", "grid")
def _sum(a: Grid, b: Grid) -> Any:
    """Block by block where both have one grid."""
    if not _same_grid(a, b):
        return NotImplemented
    blocks: dict[tuple[int, int], StructuredMatrix] = {}
    for M in (a, b):
        for block, (i, j) in zip(M.children, M.places.tolist(), strict=True):
            blocks[i, j] = blocks[i, j] + block if (i, j) in blocks else block
    return _of_blocks(blocks, a.row_sizes, a.col_sizes)


@rule("matmul", "grid", "grid")
def _product(a: Grid, b: Grid) -> Any:
    """Block by block where the grids meet and that costs no more."""
    if not np.array_equal(a.col_sizes, b.row_sizes):
        return NotImplemented
    beside: dict[int, list[int]] = {}
    for t, (k, _) in enumerate(b.places.tolist()):
        beside.setdefault(k, []).append(t)
    pairs = [(s, t) for s, (_, k) in enumerate(a.places.tolist()) for t in beside.get(k, ())]
    if sum(a.children[s].cost + b.children[t].cost for s, t in pairs) > a.cost + b.cost:
        return NotImplemented
    blocks: dict[tuple[int, int], StructuredMatrix] = {}
    for s, t in pairs:
        place = int(a.places[s, 0]), int(b.places[t, 1])
        term = a.children[s] @ b.children[t]
        blocks[place] = blocks[place] + term if place in blocks else term
    if not blocks:
        return zero(a, (a.shape[0], b.shape[1]))
    return _of_blocks(blocks, a.row_sizes, b.col_sizes)


def _of_blocks(
    blocks: dict[tuple[int, int], StructuredMatrix], row_sizes: IntArray, col_sizes: IntArray
) -> Grid:
    places = sorted(blocks)
    return Grid(
        *(blocks[place] for place in places), places=places, row_sizes=row_sizes,
        col_sizes=col_sizes,
    )  # fmt: skip
