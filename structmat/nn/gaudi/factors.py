"""Products by the factors of Gaudi blocks: one side's contents, then the other's.

Work follows the widths. On a CPU the kernels of `structmat.kernels` multiply, by strips
made anew for the runs of the moment; elsewhere the axes are cut into tiles, each with a
dense panel of the blocks that touch it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from structmat.kernels.choice.packages import has
from structmat.nn.gaudi.side import Axis, Tile, as_given

#: Coefficients kept for the backward pass, at most, for each number that contents hold.
_KEPT = 1.5
#: Samples of the shorter axis from which on compiled kernels multiply.
_LEAST_COMPILED = 256


def factor_product(
    x: Tensor, u: Tensor, v: Tensor, runs: tuple[Tensor, ...], rows: Axis, cols: Axis
) -> Tensor:
    """Vectors (T, n) to (T, m) through the column contents, then the row contents."""
    with as_given(x):
        return _FactorProduct.apply(x, u, v, *runs, rows, cols)


def is_compiled(contents: Tensor, dtype: torch.dtype, rows: Axis, cols: Axis) -> bool:
    """Whether compiled kernels multiply: on a CPU, in single or double, with Numba.

    Short axes are left to panels, which are as long as they are and so leave nothing out.
    """
    fits = contents.device.type == "cpu" and dtype in (torch.float32, torch.float64)
    return has("numba") and fits and min(rows.size, cols.size) >= _LEAST_COMPILED


class _FactorProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, v: Tensor, *rest: Any) -> Tensor:
        *_runs, rows, cols = rest
        ctx.axes, ctx.compiled = (rows, cols), is_compiled(u, x.dtype, rows, cols)
        if ctx.compiled:
            ctx.save_for_backward(x, u, v)
            return _compiled(rows, cols, u, v, x.dtype).multiply(x)
        columns = x.T.contiguous()
        left, right = _Panels(rows, u, x.dtype), _Panels(cols, v, x.dtype)
        middle = right.collect(columns)
        # Fine blocks have more coefficients than contents: better made again than kept.
        kept = middle.numel() <= _KEPT * (u.numel() + v.numel())
        ctx.save_for_backward(x, u, v, *[middle] * kept)
        ctx.tiles = left.tiles, right.tiles
        return left.spread(middle).T

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, u, v, *kept = ctx.saved_tensors
        rows, cols = ctx.axes
        if ctx.compiled:
            product = _compiled(rows, cols, u, v, x.dtype)
            grad_x, grad_u, grad_v = product.gradients(x, grad, ctx.needs_input_grad[0])
            grad_u, *by_row = rows.gradients(u, grad_u)
            grad_v, *by_col = cols.gradients(v, grad_v)
            return grad_x, grad_u, grad_v, *by_row, *by_col, None, None
        left = _Panels(rows, u, x.dtype, ctx.tiles[0])
        right = _Panels(cols, v, x.dtype, ctx.tiles[1])
        grad = grad.T.contiguous()
        with as_given(grad):
            middle = kept[0] if kept else right.collect(x.T)
            grad_middle = left.collect(grad)
            grad_u, *by_row = rows.gradients(u, left.outer(middle, grad))
            grad_v, *by_col = cols.gradients(v, right.outer(grad_middle, x.T))
            grad_x = right.spread(grad_middle).T if ctx.needs_input_grad[0] else None
        return grad_x, grad_u, grad_v, *by_row, *by_col, None, None


class _Panels:
    """One side's masked contents, cut into dense panels: (blocks of a tile, r, samples)."""

    def __init__(
        self, axis: Axis, contents: Tensor, dtype: torch.dtype, tiles: list[Tile] | None = None
    ) -> None:
        self.axis, self.shape, self.dtype = axis, contents.shape, contents.dtype
        self.tiles = axis.tiles(contents.shape[1]) if tiles is None else tiles
        masked = axis.masked(contents).to(dtype)
        # One more sample, zero, for what lies beside a window.
        self._masked = (
            masked if axis.window == axis.size else torch.nn.functional.pad(masked, (0, 1))
        )

    def __iter__(self) -> Iterator[tuple[Tile, Tensor]]:
        for tile in self.tiles:
            place = self.axis.place(tile)
            if place is None:
                panel = self._masked[:, :, tile.begin : tile.end].index_select(0, tile.blocks)
            else:
                chosen = self._masked.index_select(0, tile.blocks)
                shape = (*chosen.shape[:2], place.shape[1])
                panel = chosen.gather(-1, place[:, None, :].expand(shape))
            yield tile, panel.flatten(0, 1)

    def collect(self, columns: Tensor) -> Tensor:
        """Inner products of every block with columns (size, T): (K, r, T)."""
        count, rank, _ = self.shape
        out = columns.new_zeros(count, rank, columns.shape[1])
        for tile, panel in self:
            part = panel @ columns[tile.begin : tile.end]
            shape = (len(tile.blocks), rank, columns.shape[1])
            out.index_add_(0, tile.blocks, part.view(shape))
        return out

    def spread(self, middle: Tensor) -> Tensor:
        """Blocks times their coefficients (K, r, T), summed: (size, T)."""
        parts = [
            panel.T @ middle.index_select(0, tile.blocks).flatten(0, 1) for tile, panel in self
        ]
        return torch.cat(parts)

    def outer(self, middle: Tensor, columns: Tensor) -> Tensor:
        """Gradient of the masked contents: coefficients (K, r, T) times columns (size, T)."""
        axis = self.axis
        grad = torch.zeros(
            (*self.shape[:2], self._masked.shape[-1]), dtype=self.dtype, device=middle.device
        )
        for tile in self.tiles:
            chosen = middle.index_select(0, tile.blocks)
            part = (chosen.flatten(0, 1) @ columns[tile.begin : tile.end].T).to(self.dtype)
            part = part.view(*chosen.shape[:2], tile.end - tile.begin)
            place = axis.place(tile)
            if place is None:
                grad[:, :, tile.begin : tile.end].index_copy_(0, tile.blocks, part)
            else:
                grad[tile.blocks[:, None], :, place] = part.transpose(1, 2)
        return grad[:, :, : axis.window]


def _compiled(rows: Axis, cols: Axis, u: Tensor, v: Tensor, dtype: torch.dtype) -> Any:
    """Masked contents of both sides as compiled kernels multiply by them."""
    from structmat.kernels.cpu.torch_runs import RunProduct

    axes = [
        (axis.masked(contents).to(dtype), *axis.reach, axis.size)
        for axis, contents in ((rows, u), (cols, v))
    ]
    return RunProduct(*axes)
