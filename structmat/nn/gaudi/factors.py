"""Products by the factors of Gaudi blocks: one side's contents, then the other's.

Work follows the widths. On a CPU the kernels of `structmat.kernels` multiply, by cells
that are laid out for the runs of the moment; elsewhere the axes are cut into tiles, each
with a dense panel of the blocks that touch it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from structmat._derivatives import is_recorded, recorded_gradients
from structmat.kernels.choice.record import has
from structmat.nn.gaudi import plain
from structmat.nn.gaudi.side import Side, Tile
from structmat.nn.gaudi.structure import Runs

#: Coefficients kept for the backward pass, at most, per number that contents hold.
_KEPT_COEFFICIENTS = 1.5
#: Samples of the shorter axis from which on compiled kernels multiply.
_COMPILED_SAMPLES = 256


def factor_product(x: Tensor, u: Tensor, v: Tensor, runs: Runs, rows: Side, cols: Side) -> Tensor:
    """Vectors (T, n) to (T, m) through the column contents, then the row contents."""
    with torch.autocast(x.device.type, enabled=False):
        if plain.is_plain(x, u, v, *runs):
            supports = _supports(rows, cols, u, x.dtype)
            return plain.product(x, u, v, runs, *zip((rows, cols), supports, strict=True))
        return _FactorProduct.apply(x, u, v, *runs, rows, cols)


def is_compiled(contents: Tensor, dtype: torch.dtype, rows: Side, cols: Side) -> bool:
    """Tell whether compiled kernels multiply: on a CPU, in single or double, with Numba.

    Short axes are left to panels, which are as long as they are and so leave nothing out.
    """
    fits = contents.device.type == "cpu" and dtype in (torch.float32, torch.float64)
    return has("numba") and fits and min(rows.size, cols.size) >= _COMPILED_SAMPLES


class _FactorProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, v: Tensor, *rest: Any) -> Tensor:
        *runs, rows, cols = rest
        ctx.sides, ctx.compiled = (rows, cols), is_compiled(u, x.dtype, rows, cols)
        if ctx.compiled:
            ctx.save_for_backward(x, u, v, *runs)
            return _compiled(rows, cols, u, v, x.dtype).multiply(x)
        columns = x.T.contiguous()
        left, right = _Panels(rows, u, x.dtype), _Panels(cols, v, x.dtype)
        middle = right.collect(columns)
        # Fine blocks have more coefficients than contents: computed again rather than kept.
        kept = middle.numel() <= _KEPT_COEFFICIENTS * (u.numel() + v.numel())
        ctx.save_for_backward(x, u, v, *runs, *[middle] * kept)
        ctx.tiles = left.tiles, right.tiles
        return left.spread(middle).T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if is_recorded(grad):
            return *_recorded(ctx, grad), None, None
        x, u, v, _, _, _, _, *kept = ctx.saved_tensors
        (rows, cols), needed = ctx.sides, ctx.needs_input_grad
        known = {} if ctx.compiled else {"tiles": ctx.tiles, "kept": kept}
        by_rows, by_cols = any(needed[3:5]), any(needed[5:7])
        with torch.autocast(grad.device.type, enabled=False):
            found = factor_gradients(
                grad, x, u, v, rows, cols, needed[0], by_rows, by_cols, **known
            )
            return *found, None, None


def factor_gradients(
    grad: Tensor,
    x: Tensor,
    u: Tensor,
    v: Tensor,
    rows: Side,
    cols: Side,
    by_operand: bool,
    by_rows: bool,
    by_cols: bool,
    *,
    tiles: tuple[list[Tile], list[Tile]] | None = None,
    kept: Sequence[Tensor] = (),
) -> tuple[Tensor | None, ...]:
    """Gradients of operand, contents and runs, from that of the product (T, m).

    `tiles` and `kept` coefficients are those of the forward pass, where it has some.
    """
    if is_compiled(u, x.dtype, rows, cols):
        product = _compiled(rows, cols, u, v, x.dtype)
        grad_x, grad_u, grad_v = product.gradients(x, grad, by_operand)
        grad_u, *by_row = rows.gradients(u, grad_u, by_rows)
        grad_v, *by_col = cols.gradients(v, grad_v, by_cols)
        return grad_x, grad_u, grad_v, *by_row, *by_col
    of_rows, of_cols = tiles or (None, None)
    left, right = _Panels(rows, u, x.dtype, of_rows), _Panels(cols, v, x.dtype, of_cols)
    grad = grad.T.contiguous()
    middle = kept[0] if kept else right.collect(x.T)
    grad_middle = left.collect(grad)
    grad_u, *by_row = rows.gradients(u, left.outer(middle, grad), by_rows)
    grad_v, *by_col = cols.gradients(v, right.outer(grad_middle, x.T), by_cols)
    grad_x = right.spread(grad_middle).T if by_operand else None
    return grad_x, grad_u, grad_v, *by_row, *by_col


def _recorded(ctx: Any, grad: Tensor) -> list[Tensor | None]:
    """Gradients that can be differentiated again, by plain operations."""
    tensors, (rows, cols) = ctx.saved_tensors[:7], ctx.sides
    x, u, *_ = tensors
    supports = _supports(rows, cols, u, x.dtype)

    def product(x: Tensor, u: Tensor, v: Tensor, *runs: Tensor) -> Tensor:
        return plain.product(x, u, v, Runs(*runs), *zip((rows, cols), supports, strict=True))

    with torch.autocast(grad.device.type, enabled=False):
        return recorded_gradients(product, tensors, ctx.needs_input_grad[:7], grad)


def _supports(rows: Side, cols: Side, u: Tensor, dtype: torch.dtype) -> list[Tensor | None]:
    """Samples on which the fast product has masks: runs with margins, or tiles they touch."""
    if is_compiled(u, dtype, rows, cols):
        return [side.support() for side in (rows, cols)]
    return [side.tile_support(u.shape[1]) for side in (rows, cols)]


class _Panels:
    """One side's masked contents, cut into dense panels: (blocks of a tile, r, samples)."""

    def __init__(
        self, side: Side, contents: Tensor, dtype: torch.dtype, tiles: list[Tile] | None = None
    ) -> None:
        self.side, self.shape, self.dtype = side, contents.shape, contents.dtype
        self.tiles = side.tiles(contents.shape[1]) if tiles is None else tiles
        masked = side.masked(contents).to(dtype)
        # One more sample, zero, stands for samples beside a window.
        self._masked = (
            masked if side.window == side.size else torch.nn.functional.pad(masked, (0, 1))
        )

    def __iter__(self) -> Iterator[tuple[Tile, Tensor]]:
        for tile in self.tiles:
            place = self.side.place(tile)
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
        grad = torch.zeros(
            (*self.shape[:2], self._masked.shape[-1]), dtype=self.dtype, device=middle.device
        )
        for tile in self.tiles:
            chosen = middle.index_select(0, tile.blocks)
            part = (chosen.flatten(0, 1) @ columns[tile.begin : tile.end].T).to(self.dtype)
            part = part.view(*chosen.shape[:2], tile.end - tile.begin)
            place = self.side.place(tile)
            if place is None:
                grad[:, :, tile.begin : tile.end].index_copy_(0, tile.blocks, part)
            else:
                grad[tile.blocks[:, None], :, place] = part.transpose(1, 2)
        return grad[:, :, : self.side.window]


def _compiled(rows: Side, cols: Side, u: Tensor, v: Tensor, dtype: torch.dtype) -> Any:
    """Masked contents of both sides as compiled kernels multiply by them."""
    from structmat.kernels.cpu.torch_runs import RunProduct

    return RunProduct(
        *(
            (side.masked(contents).to(dtype), *side.reach, side.size)
            for side, contents in ((rows, u), (cols, v))
        )
    )
