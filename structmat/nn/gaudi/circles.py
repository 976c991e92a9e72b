"""Masked contents on whole circles, in as many operations for a large weight as for a small one.

Devices start one operation at a time, and wait where the host reads a value. So runs are rounded,
masks looked up and contents placed for all blocks of both sides at once, by constants that stay
on the device.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from structmat._array import device_name
from structmat._derivatives import is_recorded, lasting, recorded_gradients
from structmat.nn.gaudi import plain
from structmat.nn.gaudi.mask_tables import mask_table
from structmat.nn.gaudi.side import Side, mask_dtype
from structmat.nn.gaudi.structure import Runs, locations_to_samples, widths_to_samples
from structmat.nn.structured.products import without_autocast

#: Bounds on locations, which have none.
_ANY = torch.iinfo(torch.int64)

Sides = tuple[Side, Side]


class Circles:
    """Constants of a Gaudi weight on its device: sizes, bounds on widths, and tables of masks.

    Parameters
    ----------
    shape, windows : tuple of int
        Samples of both axes, and of the windows of contents on them.
    grain, least : int
        Widths and starts are multiples of the grain, and widths at least `least`.
    contents : Tensor
        Whose device and dtype count.
    fractions : torch.dtype
        Dtype of widths and locations.

    Examples
    --------
    >>> circles = Circles((4, 8), (4, 8), 1, 0, torch.zeros(()), torch.float32)
    >>> half = torch.tensor([0.5])
    >>> circles.samples(Runs(half, half, half, half))
    (tensor([[2],
            [4]]), tensor([[2],
            [4]]))
    """

    def __init__(
        self,
        shape: tuple[int, int],
        windows: tuple[int, int],
        grain: int,
        least: int,
        contents: Tensor,
        fractions: torch.dtype,
    ) -> None:
        self.shape, self.windows, self.grain = shape, windows, grain
        self.device, self.dtype = contents.device, mask_dtype(contents.dtype)
        #: Name of the device, by which figures are found.
        self.device_name = device_name(torch, contents.device)
        self._are_whole = [window == n for window, n in zip(windows, shape, strict=True)]
        self._is_even = all(n % grain == 0 for n in shape)
        low = [min(least, window) for window in windows]

        def column(values: list[Any], dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.tensor(values, dtype=dtype).to(self.device)[:, None]

        with lasting(), torch.no_grad(), torch.device("cpu"):
            m, n = shape
            self._turns = column([0, -1, 0, -1], fractions)
            self._units = column([m, m / grain, n, n / grain], fractions)
            self._grains = column([grain, 1, grain, 1], fractions)
            self._low = column([low[0], _ANY.min, low[1], _ANY.min])
            self._high = column([windows[0], _ANY.max, windows[1], _ANY.max])
            self._sizes, self._windows = column([m, n]), column(list(windows))
            self._ahead, self._whole = 2 * self._sizes + 1, column(self._are_whole, torch.bool)
            self._steps = [torch.arange(window).to(self.device) for window in windows]
        self._tables: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def sharpen(self, name: str, sigma: float) -> None:
        """Make the tables of masks of a sharpness, under a name."""
        found = []
        for n in self.shape:
            table = mask_table(n, sigma, self.dtype, self.device)
            # By one, so that one index finds an edge in both.
            found.append((table.integral, table.edge.roll(1)))
        self._tables[name] = found

    def samples(self, runs: Runs) -> tuple[Tensor, Tensor]:
        """Widths and starts in whole samples, (2, K) each, as `Side` has them."""
        fractions = torch.stack(runs).detach()
        if not self._is_even:
            return self._uneven(fractions)
        turns = fractions.floor()
        samples = torch.addcmul(fractions, turns, self._turns) * self._units
        if self.grain > 1:
            samples = (samples / self._grains).round().long() * self.grain
        else:
            samples = samples.round().long()
        samples = samples.clamp(self._low, self._high)
        widths, starts = samples[0::2], samples[1::2]
        if not all(self._are_whole):  # on a window, storage follows the location beyond a turn
            starts = starts + turns[1::2].long() * self._sizes
        return widths, starts

    def _uneven(self, fractions: Tensor) -> tuple[Tensor, Tensor]:
        """Samples where an axis is no multiple of the grain."""
        low, high = self._low[0::2], self._high[0::2]
        grain = torch.full_like(low, self.grain)
        widths = widths_to_samples(fractions[0::2], self._sizes, grain, low, high)
        starts = [
            locations_to_samples(location, n, self.grain)
            for location, n in zip(fractions[1::2], self.shape, strict=True)
        ]
        return widths, torch.stack(starts)

    def edges(self, widths: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Begins of windows of the tables, (2, 2, K): for both ends of a run, on each side.

        The second array, (2, K), has the first sample of each window of contents, if some are.
        """
        if all(self._are_whole) and self._is_even:  # starts lie within one turn
            first = self._ahead - starts
            return torch.stack([first, first - widths], 1), starts
        before = starts.remainder(self._sizes)
        inside = (self._windows - widths).div(2, rounding_mode="floor")
        before = torch.where(self._whole, before, inside)
        first = self._ahead - before
        return torch.stack([first, first - widths], 1), starts - before

    def masks(self, name: str, edges: Tensor, side: int) -> Tensor:
        """Masks of one side on the windows, (K, S)."""
        found = self._looked_up(self._tables[name][side][0], edges, side)
        return found[0] - found[1]

    def slopes(self, name: str, edges: Tensor, side: int) -> Tensor:
        """Derivatives of the masks at both ends of the runs, (2, K, S)."""
        return self._looked_up(self._tables[name][side][1], edges, side)

    def _looked_up(self, table: Tensor, edges: Tensor, side: int) -> Tensor:
        return F.embedding(edges[side], table.unfold(0, self.windows[side], 1))

    def places(self, begin: Tensor, side: int) -> tuple[Tensor, Tensor] | None:
        """Slots of contents in the order of windows, and their samples, (K, 1, S) each.

        None where contents lie on whole circles.
        """
        if self._are_whole[side]:
            return None
        along = (begin[side, :, None] + self._steps[side])[:, None]
        return along % self.windows[side], along % self.shape[side]


def masked(
    circles: Circles,
    name: str,
    sides: Callable[[], Sides],
    u: Tensor,
    v: Tensor,
    runs: Runs,
    *,
    pinned: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Contents of rows and columns under the masks of a name: (K r, m) and (K r, n) of a dtype.

    `sides` makes both sides, which derivatives beyond the first need.
    """
    compiled = torch.compiler.is_compiling()
    if plain.is_plain(u, v, *runs) and not compiled:
        left, right = _plainly(sides(), u, v, runs, dtype)
        return left, right
    edges, begin = circles.edges(*circles.samples(runs))
    if compiled:
        left, right = _linearly(circles, name, u, v, runs, edges, begin, pinned, dtype)
    else:
        left, right = _Masked.apply(u, v, *runs, edges, begin, circles, name, sides, pinned, dtype)
    return left, right


def _plainly(sides: Sides, u: Tensor, v: Tensor, runs: Runs, dtype: torch.dtype) -> list[Tensor]:
    pairs = zip(sides, (u, v), (runs[:2], runs[2:]), strict=True)
    return [plain.masked(side, c, *run).flatten(0, 1).to(dtype) for side, c, run in pairs]


def _linearly(
    circles: Circles,
    name: str,
    u: Tensor,
    v: Tensor,
    runs: Runs,
    edges: Tensor,
    begin: Tensor,
    pinned: bool,
    dtype: torch.dtype,
) -> list[Tensor]:
    """By plain operations with first derivatives, for a compiler to put together."""
    found = []
    for side, (contents, run) in enumerate(((u, runs[:2]), (v, runs[2:]))):
        mask = circles.masks(name, edges, side)
        if any(fraction.requires_grad for fraction in run):
            width, location = ((f - f.detach()).to(mask.dtype)[:, None] for f in run)
            if pinned:  # gradients are zero, and are there
                mask = mask + 0.0 * (width + location)
            else:
                ahead, behind = circles.slopes(name, edges, side)
                mask = mask + behind * width + (behind - ahead) * location
        places = circles.places(begin, side)
        contents = contents if places is None else _taken(contents, places[0])
        blocks = (contents * mask[:, None]).to(dtype)
        found.append(_placed(blocks, places, circles.shape[side]).flatten(0, 1))
    return found


class _Masked(torch.autograd.Function):
    """Both sides at once; masks are looked up again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        *runs, edges, begin, circles, name, sides, pinned, dtype = rest
        ctx.save_for_backward(u, v, *runs, edges, begin)
        ctx.circles, ctx.name, ctx.sides, ctx.pinned, ctx.dtype = (
            circles,
            name,
            sides,
            pinned,
            dtype,
        )
        found = []
        for side, contents in enumerate((u, v)):
            places = circles.places(begin, side)
            contents = contents if places is None else _taken(contents, places[0])
            blocks = (contents * circles.masks(name, edges, side)[:, None]).to(dtype)
            found.append(_placed(blocks, places, circles.shape[side]).flatten(0, 1))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        u, v, *runs, edges, begin = ctx.saved_tensors
        needed = ctx.needs_input_grad[:6]
        with without_autocast(u.device.type):
            if any(map(is_recorded, grads)):
                sides = ctx.sides()

                def plainly(u: Tensor, v: Tensor, *runs: Tensor) -> list[Tensor]:
                    return _plainly(sides, u, v, Runs(*runs), ctx.dtype)

                tensors = [u, v, *runs]
                return *recorded_gradients(plainly, tensors, needed, grads), *[None] * 7
            contents_grads: list[Tensor | None] = []
            run_grads: list[Tensor | None] = []
            for side, (contents, grad) in enumerate(zip((u, v), grads, strict=True)):
                by_run = any(needed[2 + 2 * side : 4 + 2 * side])
                wanted = by_run and not ctx.pinned
                found = _gradients(ctx, side, contents, grad, edges, begin, wanted)
                contents_grads.append(found[0])
                run_grads += found[1:]
            if ctx.pinned and any(needed[2:]):
                run_grads = list(torch.zeros_like(torch.stack(runs)).unbind())
            return *contents_grads, *run_grads, *[None] * 7


def _gradients(
    ctx: Any,
    side: int,
    contents: Tensor,
    grad: Tensor,
    edges: Tensor,
    begin: Tensor,
    by_run: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of the contents, widths and locations of one side."""
    circles, places = ctx.circles, ctx.circles.places(begin, side)
    grad = grad.reshape(*contents.shape[:2], circles.shape[side])
    ordered = contents
    if places is not None:
        grad, ordered = _taken(grad, places[1]), _taken(contents, places[0])
    by_width = by_location = None
    if by_run:
        each = grad * ordered
        each = each[:, 0] if each.shape[1] == 1 else each.sum(1)
        slopes = circles.slopes(ctx.name, edges, side)
        # One product for both ends: (K, 2, S) times (K, S, 1).
        at = torch.bmm(slopes.transpose(0, 1), each.to(slopes.dtype)[:, :, None])
        by_width = at[:, 1, 0]
        by_location = by_width - at[:, 0, 0]
    grad = (grad * circles.masks(ctx.name, edges, side)[:, None]).to(contents.dtype)
    if places is not None:
        grad = torch.empty_like(grad).scatter_(-1, places[0].expand_as(grad), grad)
    return grad, by_width, by_location


def _taken(blocks: Tensor, places: Tensor) -> Tensor:
    return blocks.gather(-1, places.expand(*blocks.shape[:2], places.shape[-1]))


def _placed(blocks: Tensor, places: tuple[Tensor, Tensor] | None, size: int) -> Tensor:
    """Blocks (K, r, S) of windows at their samples of the circle, (K, r, size)."""
    if places is None:
        return blocks
    return blocks.new_zeros(*blocks.shape[:2], size).scatter(
        -1, places[1].expand_as(blocks), blocks
    )
