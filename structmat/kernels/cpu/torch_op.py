"""Compiled products on PyTorch's CPU tensors, as operators that torch can compile and export.

The kernels of `structmat.kernels.cpu.columns` multiply tensors where they lie: the vectors
(tokens, n) of a layer are columns side by side there. Gradients of operand and contents
take one pass over both; the numbers between the factors are computed again for them.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.library import custom_op

from structmat._derivatives import is_recorded, is_transformed, recorded_gradients
from structmat.kernels.cpu.column_loops import ROWS
from structmat.kernels.cpu.columns import TileFactor, TileProduct, gradients
from structmat.kernels.cpu.row_groups import RowGroups
from structmat.kernels.layouts.panels import Pattern


class RowGroupIndex:
    """The row groups of a factor with `total` packed contents, as tensors.

    `arrays` are the index of the `RowGroups`. `entries`, (cells, ROWS), are the positions of
    all cells in the contents, and `places`, (total,), those of the contents among all
    cells; one past the end stands for zero.
    """

    def __init__(self, pattern: Pattern, total: int) -> None:
        groups = RowGroups.of(pattern, ROWS, total)
        # Half the memory, wherever 32 bits suffice.
        small = np.int32 if max(total, groups.entries.size) < 2**31 else np.int64
        entries = groups.entries.astype(small)
        places = np.full(total + 1, entries.size, small)
        places[entries.ravel()] = np.arange(entries.size)
        # Tensors made in inference mode could not serve a later backward pass.
        with torch.inference_mode(False):
            self.arrays = [torch.from_numpy(np.ascontiguousarray(a)) for a in groups.index]
            self.entries, self.shape = torch.from_numpy(entries), pattern.shape
            self.places = torch.from_numpy(places[:total])

    def fill(self, contents: Tensor) -> Tensor:
        """Contents as cells, shape (cells, ROWS), with gradients."""
        if contents.requires_grad:
            return _Take.apply(contents, self.entries, self.places)
        return _filled(contents, self.entries)


class TorchTiles:
    """R, R C^T or, `through`, R [C^T; I] on CPU tensors, multiplied by operators of torch.

    Indices and contents, in float32 or float64, are those of R and, where there is one, of C.
    """

    def __init__(
        self, indices: list[RowGroupIndex], contents: list[Tensor], *, through: bool
    ) -> None:
        self._index = [array for index in indices for array in index.arrays]
        cells = [i.fill(c) for i, c in zip(indices, contents, strict=True)]
        self._cells = cells if len(cells) == 2 else [*cells, contents[0].new_zeros(0, ROWS)]
        row, col = indices[0].shape, indices[-1].shape if len(indices) == 2 else None
        #: Rows of A, its columns, and numbers between the factors.
        self._sizes = [row[0], row[1] if col is None else col[0], 0 if col is None else col[1]]
        self._through = through

    @cached_property
    def product(self) -> TileProduct:
        """The same product on NumPy."""
        row, col = self._cells
        return _product(self._index, row, col, self._sizes, self._through)

    def multiply(self, x: Tensor, *, by_columns: bool = False) -> Tensor:
        """A x: (n, k) to (m, k), in memory column after column."""
        return self._product(x, adjoint=False)

    def multiply_adjoint(self, y: Tensor, *, by_columns: bool = False) -> Tensor:
        """A^T y: (m, k) to (n, k), in memory column after column."""
        return self._product(y, adjoint=True)

    def _product(self, x: Tensor, *, adjoint: bool) -> Tensor:
        y = _tiles(x.T, self._index, *self._cells, self._sizes, self._through, adjoint)
        return y.T


@custom_op("structmat::tiles", mutates_args=(), device_types="cpu")
def _tiles(
    x: Tensor,
    index: list[Tensor],
    row: Tensor,
    col: Tensor,
    sizes: list[int],
    through: bool,
    adjoint: bool,
) -> Tensor:
    product = _product(index, row, col, sizes, through)
    columns = on_numpy(x).T
    multiply = product.multiply_adjoint if adjoint else product.multiply
    return torch.from_numpy(multiply(columns, by_columns=True).T)


@_tiles.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    *_, sizes, _through, adjoint = rest
    return x.new_empty(x.shape[0], sizes[1 if adjoint else 0])


@custom_op("structmat::tile_gradients", mutates_args=(), device_types="cpu")
def _gradients(
    x: Tensor,
    grad: Tensor,
    index: list[Tensor],
    row: Tensor,
    col: Tensor,
    sizes: list[int],
    through: bool,
    operand: bool,
    contents: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    product = _product(index, row, col, sizes, through)
    found = gradients(product, on_numpy(x).T, on_numpy(grad).T, contents=contents, operand=operand)
    by_x, *cells = (None if g is None else torch.from_numpy(g) for g in found)
    # Columns of a gradient's cells beyond `ROWS` are no part of it. Results of an operator
    # must not share memory, not even empty ones.
    by_row, by_col = (x.new_empty(0) if g is None else g[:, :ROWS].contiguous() for g in cells)
    return x.new_empty(0) if by_x is None else by_x.T, by_row, by_col


@_gradients.register_fake
def _(x: Tensor, grad: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    index, row, col, *_, operand, contents = rest
    return (
        x.new_empty(x.shape if operand else 0),
        row.new_empty(row.shape if contents else 0),
        col.new_empty(col.shape if contents and index[4:] else 0),
    )


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.index, row, col, ctx.sizes, ctx.through, ctx.adjoint = inputs
    ctx.save_for_backward(x, row, col)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, row, col = ctx.saved_tensors
    operand, contents = ctx.needs_input_grad[0], any(ctx.needs_input_grad[2:4])
    rest = ctx.index, row, col, ctx.sizes, ctx.through
    if is_recorded(grad):
        by_x, by_row, by_col = _recorded_gradients(x, grad, *rest, ctx)
    elif ctx.adjoint:
        # <g, A^T u> = <A g, u>: contents see g as the operand and u as the gradient.
        by_x = _tiles(grad, *rest, False) if operand else None
        by_row = by_col = None
        if contents:
            _, by_row, by_col = _gradients(grad, x, *rest, False, True)
    else:
        by_x, by_row, by_col = _gradients(x, grad, *rest, operand, contents)
    contents_too = (by_row, by_col if ctx.index[4:] else None) if contents else (None, None)
    no_index = [None] * len(ctx.index)
    return by_x if operand else None, no_index, *contents_too, None, None, None


_tiles.register_autograd(_backward, setup_context=_context)


def _recorded_gradients(
    x: Tensor,
    grad: Tensor,
    index: list[Tensor],
    row: Tensor,
    col: Tensor,
    sizes: list[int],
    through: bool,
    ctx: Any,
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, by dense factors: right, not fast."""

    def product(x: Tensor, row: Tensor, col: Tensor) -> Tensor:
        return _plain_tiles(x, index, row, col, sizes, through, ctx.adjoint)

    needed = ctx.needs_input_grad
    return recorded_gradients(product, (x, row, col), (needed[0], *needed[2:4]), grad)


@torch._decomp.register_decomposition(torch.ops.structmat.tiles.default)
def _plain_tiles(
    x: Tensor,
    index: list[Tensor],
    row: Tensor,
    col: Tensor,
    sizes: list[int],
    through: bool,
    adjoint: bool,
) -> Tensor:
    """The operator `structmat::tiles` by operations of torch alone, through the dense matrix.

    They are differentiated any number of times; exporters to ONNX take them for the operator.
    """
    (m, n, middle), inner = sizes, sizes[2] + (sizes[1] if through else 0)
    R = _dense(row, index[:4], (m, inner))
    parts = [_dense(col, index[4:], (n, middle))] if index[4:] else []
    if through:
        parts.append((torch.arange(n)[:, None] == torch.arange(n)).to(x))
    A = R @ torch.cat(parts, dim=1).T
    return x @ (A if adjoint else A.T)


def _dense(cells: Tensor, index: list[Tensor], shape: tuple[int, int]) -> Tensor:
    """Cells as a dense matrix; all sizes follow from shapes, so that exporters know them."""
    begin, rows, ptr, column = index
    group = (torch.arange(cells.shape[0])[:, None] >= ptr[1:]).sum(1)
    inside = torch.arange(ROWS)
    # Numbers below the end of a group, all zero, go to one more row.
    here = torch.where(inside < rows[group][:, None], begin[group][:, None] + inside, shape[0])
    place = here.long(), column.long()[:, None].expand_as(here)
    return cells.new_zeros(shape[0] + 1, shape[1]).index_put(place, cells)[: shape[0]]


class _Take(torch.autograd.Function):
    """Contents to cells, or cells to contents: each is the gradient of the other.

    Each entry lies in one cell at most, so both directions only read.
    """

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, places: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(places, back)
        return _filled(numbers, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        places, back = ctx.saved_tensors
        if is_transformed(grad):
            return _filled(grad, back), None, None
        return _Take.apply(grad, back, places), None, None


def _filled(numbers: Tensor, places: Tensor) -> Tensor:
    """Take numbers at places; the place past their end holds zero."""
    padded = torch.cat([numbers.reshape(-1), numbers.new_zeros(1)])
    return padded.index_select(0, places.reshape(-1)).view(places.shape)


def _product(
    index: list[Tensor], row: Tensor, col: Tensor, sizes: list[int], through: bool
) -> TileProduct:
    (m, n, middle), inner = sizes, sizes[2] + (sizes[1] if through else 0)
    arrays = [i.numpy() for i in index]
    left = TileFactor.of((*arrays[:4], on_numpy(row)), (m, inner))
    right = TileFactor.of((*arrays[4:], on_numpy(col)), (n, middle)) if arrays[4:] else None
    return TileProduct(left, right, through=through, threads=torch.get_num_threads())


def on_numpy(x: Tensor) -> np.ndarray:
    """A tensor as an array of NumPy that shares its memory, without gradients."""
    return x.detach().resolve_neg().numpy()
