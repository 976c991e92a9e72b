"""Products with Gaudi blocks, forward and backward, without masks kept in between.

A block's contents live on a window of S samples around its run, S = n unless widths
are limited. Both products recompute masked contents from whole numbers in the backward
pass, so what they keep is their operand and one array of the smaller size.

*Assembled* forms the weight (m, n) once and multiplies it like a dense layer: best for
small layers. *Factors* multiplies by one side's blocks and then the other's, axis tile
by axis tile, so that work follows the widths. What a mask or its derivatives leave beside
the tiles that a block touches is taken as zero: 1e-5 of the height where the blur is
Gaussian, and up to 2e-3 from σ ≈ n / 8 on, where its spectrum is cut off and rings.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from structmat.kernels import ways
from structmat.kernels.layout import run_tiles
from structmat.nn.masks import MaskTable

__all__ = ["Axis", "Work", "assemble", "factor_product", "weight_of"]

#: A blurred mask falls below 1e-5 of its height within this many standard deviations.
_DEVIATIONS = 4.5
#: Samples beside an edge where the derivative of a sharp boxcar is still large.
_RINGING = 8
#: Coefficients kept for the backward pass, at most, for each number that contents hold.
_KEPT = 1.5
#: Samples of the shorter axis from which on compiled kernels multiply.
_LEAST_COMPILED = 256


class _Cost(NamedTuple):
    """What factors cost, in multiplications of one large product.

    One multiplication, starting a layer's product, and samples of padding for a run:
    measured with 768 -> 3072 and 4096 vectors.
    """

    factor: float
    start: float
    padding: int


_PANELS, _COMPILED = _Cost(2.0, 3e7, 48), _Cost(1.5, 1e7, 6)


class Axis(NamedTuple):
    """One side of all blocks in whole samples, as a forward pass sees it.

    Attributes
    ----------
    size : int
        Samples n on the circle.
    location, width : Tensor of int64, shape (K,)
        Runs; locations may lie off the circle and are taken modulo n.
    window : int
        Samples S of contents that a block holds; n, or fewer where widths are limited.
    table : MaskTable
    """

    size: int
    location: Tensor
    width: Tensor
    window: int
    table: MaskTable

    @property
    def before(self) -> Tensor:
        """Samples of the window before the run begins, (K,)."""
        if self.window == self.size:
            return self.location % self.size  # the window is the whole circle, from 0
        return (self.window - self.width) // 2

    def slots(self) -> Tensor | None:
        """Where each window sample's content is stored, (K, S); None for in order."""
        if self.window == self.size:
            return None
        begin = self.location - self.before
        return (begin[:, None] + torch.arange(self.window, device=begin.device)) % self.window

    def mask(self) -> Tensor:
        """Masks on the windows, (K, S)."""
        return self.table.mask(-self.before, self.width, self.window)

    def masked(self, contents: Tensor) -> Tensor:
        """Contents (K, r, S) under their masks, in the order of the windows."""
        return self._in_order(contents) * self.mask()[:, None, :]

    def _in_order(self, contents: Tensor) -> Tensor:
        slots = self.slots()
        if slots is None:
            return contents
        return contents.gather(-1, slots[:, None, :].expand_as(contents))

    def gradients(self, contents: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of contents, width and location, from that of the masked contents."""
        mask_grad = (grad * self._in_order(contents)).sum(1)
        by_run = self.table.gradients(-self.before, self.width, mask_grad)
        grad = grad * self.mask()[:, None, :]
        if (slots := self.slots()) is not None:
            grad = torch.empty_like(grad).scatter_(-1, slots[:, None, :].expand_as(grad), grad)
        return grad, *by_run

    @property
    def margin(self) -> int:
        """Samples beside a run where its mask or its derivatives still count."""
        return _RINGING + math.ceil(_DEVIATIONS * self.table.blur)

    def tiles(self, rank: int) -> "list[_Tile]":
        """Tiles of the circle, each with the blocks that touch it."""
        start, reach, _ = (array.cpu().numpy() for array in self.reach)
        device = self.location.device
        return [
            _Tile(a, b, torch.from_numpy(blocks).to(device))
            for a, b, blocks in run_tiles(start, reach, self.size, rank=rank)
        ]

    @property
    def reach(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where what a mask leaves begins, how long it is, and where the window has it."""
        ahead = behind = torch.full_like(self.width, self.margin)
        if self.window < self.size:  # nothing is stored beside a window
            ahead = torch.minimum(ahead, self.before)
            behind = torch.minimum(behind, self.window - self.width - self.before)
        reach = (self.width + ahead + behind).clamp(max=self.size)
        start = (self.location - ahead) % self.size
        return start, reach, start if self.window == self.size else self.before - ahead

    def place(self, tile: "_Tile") -> Tensor | None:
        """Window sample of each of a tile's samples, (blocks, b - a); S for none."""
        if self.window == self.size:
            return None
        begin = (self.location - self.before)[tile.blocks]
        samples = torch.arange(tile.begin, tile.end, device=begin.device)
        return ((samples - begin[:, None]) % self.size).clamp(max=self.window)


class _Tile(NamedTuple):
    """Samples `begin` to `end` of an axis, and the blocks that touch them."""

    begin: int
    end: int
    blocks: Tensor


def assemble(u: Tensor, v: Tensor, runs: tuple[Tensor, ...], rows: Axis, cols: Axis) -> Tensor:
    """The weight Σ_k u_k v_k^T under masks, (m, n); both windows are whole circles.

    `runs` are the four parameters behind `rows` and `cols`: row width and location,
    column width and location, for their gradients.
    """
    with _as_given(u):
        return _Assemble.apply(u, v, *runs, rows, cols)


def _as_given(tensor: Tensor) -> Any:
    """Operands have the dtype to compute in: autocast is not to change it again."""
    return torch.autocast(tensor.device.type, enabled=False)


class _Assemble(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, *rest: Any) -> Tensor:
        *_runs, rows, cols = rest
        ctx.save_for_backward(u, v)
        ctx.axes = rows, cols
        # Masks are in single precision at least, and so is this product.
        return (rows.masked(u).flatten(0, 1).T @ cols.masked(v).flatten(0, 1)).to(u.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (u, v), (rows, cols) = ctx.saved_tensors, ctx.axes
        grad = grad.to(rows.table.integral.dtype)
        with _as_given(grad):
            grad_u = (cols.masked(v).flatten(0, 1) @ grad.T).view_as(u)
            grad_v = (rows.masked(u).flatten(0, 1) @ grad).view_as(v)
        grad_u, *by_row = rows.gradients(u, grad_u)
        grad_v, *by_col = cols.gradients(v, grad_v)
        return grad_u, grad_v, *by_row, *by_col, None, None


def factor_product(
    x: Tensor, u: Tensor, v: Tensor, runs: tuple[Tensor, ...], rows: Axis, cols: Axis
) -> Tensor:
    """Vectors (T, n) to (T, m) through the column contents, then the row contents."""
    with _as_given(x):
        return _FactorProduct.apply(x, u, v, *runs, rows, cols)


def _is_compiled(contents: Tensor, dtype: torch.dtype, rows: Axis, cols: Axis) -> bool:
    """Whether compiled kernels multiply: on a CPU, in single or double, with Numba.

    Short axes are left to panels, which are as long as they are and so leave nothing out.
    """
    fits = contents.device.type == "cpu" and dtype in (torch.float32, torch.float64)
    return ways.has("numba") and fits and min(rows.size, cols.size) >= _LEAST_COMPILED


class _FactorProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, v: Tensor, *rest: Any) -> Tensor:
        *_runs, rows, cols = rest
        ctx.axes, ctx.compiled = (rows, cols), _is_compiled(u, x.dtype, rows, cols)
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
        with _as_given(grad):
            middle = kept[0] if kept else right.collect(x.T)
            grad_middle = left.collect(grad)
            grad_u, *by_row = rows.gradients(u, left.outer(middle, grad))
            grad_v, *by_col = cols.gradients(v, right.outer(grad_middle, x.T))
            grad_x = right.spread(grad_middle).T if ctx.needs_input_grad[0] else None
        return grad_x, grad_u, grad_v, *by_row, *by_col, None, None


class _Panels:
    """One side's masked contents, cut into dense panels: (blocks of a tile, r, samples)."""

    def __init__(
        self, axis: Axis, contents: Tensor, dtype: torch.dtype, tiles: list[_Tile] | None = None
    ) -> None:
        self.axis, self.shape, self.dtype = axis, contents.shape, contents.dtype
        self.tiles = axis.tiles(contents.shape[1]) if tiles is None else tiles
        masked = axis.masked(contents).to(dtype)
        # One more sample, zero, for what lies beside a window.
        self._masked = (
            masked if axis.window == axis.size else torch.nn.functional.pad(masked, (0, 1))
        )

    def __iter__(self) -> Iterator[tuple[_Tile, Tensor]]:
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
    from structmat.kernels.torch_runs import RunProduct

    axes = [
        (axis.masked(contents).to(dtype), *axis.reach, axis.size)
        for axis, contents in ((rows, u), (cols, v))
    ]
    return RunProduct(*axes)


def weight_of(
    u: Tensor, v: Tensor, runs: tuple[Tensor, ...], rows: Axis, cols: Axis, *, assembled: bool
) -> Tensor:
    """The weight (m, n): in one product where `assembled`, else factors times an identity."""
    if assembled:
        return assemble(u, v, runs, rows, cols)
    m, n = rows.size, cols.size
    unit = torch.eye(min(m, n), dtype=u.dtype, device=u.device)
    if n <= m:
        return factor_product(unit, u, v, runs, rows, cols).T
    return factor_product(unit, v, u, (*runs[2:], *runs[:2]), cols, rows)


class Work(NamedTuple):
    """Multiplications of a training step by each way, estimated; nothing is measured.

    Attributes
    ----------
    factors : float
        By factors, for all vectors.
    assembled : float
        By a weight assembled in one product; infinite where contents live on windows.
    by_identity : float
        By a weight assembled as the factors' product with an identity.
    """

    factors: float
    assembled: float
    by_identity: float

    @classmethod
    def of(cls, count: int, rows: Axis, cols: Axis, contents: Tensor) -> "Work":
        """For `count` vectors, and contents such as these of either side."""
        m, n, (blocks, rank, _) = rows.size, cols.size, contents.shape
        compiled = _is_compiled(contents, contents.dtype, rows, cols)
        factor, start, padding = _COMPILED if compiled else _PANELS
        touched = sum(float(a.reach[1].sum()) + blocks * padding for a in (rows, cols))
        by_factors = 3.0 * factor * rank * touched
        dense = 3.0 * m * n * count
        whole = rows.window == m and cols.window == n
        return cls(
            by_factors * count + start,
            dense + 3.0 * m * n * blocks * rank if whole else math.inf,
            dense + by_factors * min(m, n) + start,
        )
