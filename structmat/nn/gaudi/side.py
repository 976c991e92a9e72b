"""One side of all Gaudi blocks in whole samples: runs, content windows, masks and tiles."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from structmat._derivatives import is_plain, lasting, settled
from structmat.kernels.choice.record import has
from structmat.kernels.layouts.panels import run_tiles
from structmat.nn.gaudi.mask_tables import MaskTable, mask_table
from structmat.nn.gaudi.structure import Runs, locations_to_samples, widths_to_samples

#: Standard deviations of the blur beyond which a mask is below 1e-5 of its height.
_BLUR_DEVIATIONS = 4.5
#: Samples beside an edge within which the derivative of a sharp boxcar is large.
_RINGING_SAMPLES = 8


class Tile(NamedTuple):
    """Samples `begin` to `end` of an axis, and the blocks that touch them."""

    begin: int
    end: int
    blocks: Tensor


class Side(NamedTuple):
    """Rows, or columns, of all K blocks in whole samples.

    Attributes
    ----------
    size : int
        Samples n of the axis, which is a circle.
    start, width : Tensor of int64, shape (K,)
        Runs. A start may lie off the circle and is taken modulo n.
    window : int
        Samples S of contents that a block holds, and so the greatest width: n, or fewer.
        Sample i of the circle has its content at i modulo S.
    grain : int
        Widths and starts are multiples of it; an axis that is no multiple keeps its end.
    least : int
        Least width to which a run may be cut.
    sigma : float
        Sharpness of the masks.
    is_pinned : bool
        Whether gradients of widths and locations are zero whatever the masks are.
    """

    size: int
    start: Tensor
    width: Tensor
    window: int
    grain: int = 1
    least: int = 0
    sigma: float = math.inf
    is_pinned: bool = False

    # Windows of contents.

    @property
    def before(self) -> Tensor:
        """Samples of the window before the run begins, (K,)."""
        if self.window == self.size:
            return self.start % self.size  # the window is the whole circle, from 0
        return (self.window - self.width) // 2

    def slots(self) -> Tensor | None:
        """Slot of each window sample's content, (K, S); None where both orders agree."""
        if self.window == self.size:
            return None
        begin = self.start - self.before
        return (begin[:, None] + torch.arange(self.window, device=begin.device)) % self.window

    def _in_order(self, contents: Tensor) -> Tensor:
        slots = self.slots()
        if slots is None:
            return contents
        return contents.gather(-1, slots[:, None, :].expand_as(contents))

    # Masks.

    def mask(self, dtype: torch.dtype) -> Tensor:
        """Masks on the windows, (K, S), for contents of a dtype."""
        table = self._table(dtype).integral
        begin = (2 * self.size + 1) - self.before
        if _is_compiled(table, begin):
            return _difference(table, begin, begin - self.width, self.window)
        # In place: a new array of this size costs more than the subtraction.
        mask = _windows(table, begin, self.window)
        return mask.sub_(_windows(table, begin - self.width, self.window))

    def mask_gradients(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of width and location, as fractions, from that of the masks (K, S)."""
        table = self._table(grad.dtype).edge
        begin = 2 * self.size - self.before
        if _is_compiled(table, begin, grad):
            by_width, by_end = _two_dots(grad, table, begin - self.width, begin)
            return by_width, by_width - by_end
        by_width = _dots(grad, _windows(table, begin - self.width, self.window))
        return by_width, by_width - _dots(grad, _windows(table, begin, self.window))

    def _table(self, dtype: torch.dtype) -> MaskTable:
        return mask_table(self.size, self.sigma, mask_dtype(dtype), self.start.device)

    def masked(self, contents: Tensor) -> Tensor:
        """Contents (K, r, S) under their masks, in the order of the windows."""
        return self._in_order(contents) * self.mask(contents.dtype)[:, None, :]

    def gradients(
        self, contents: Tensor, grad: Tensor, runs: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Gradients of contents, width and location from that of the masked contents.

        Without `runs` the two last are None; those of pinned runs are zero.
        """
        by_run: tuple[Tensor | None, Tensor | None] = None, None
        if runs and self.is_pinned:
            by_run = grad.new_zeros(len(grad)), grad.new_zeros(len(grad))
        elif runs:
            by_run = self.mask_gradients((grad * self._in_order(contents)).sum(1))
        grad = grad * self.mask(contents.dtype)[:, None, :]
        if (slots := self.slots()) is not None:
            grad = torch.empty_like(grad).scatter_(-1, slots[:, None, :].expand_as(grad), grad)
        return grad, *by_run

    # Support of masks.

    @property
    def reach(self) -> tuple[Tensor, Tensor, Tensor]:
        """Start and length of each mask's support, and its offset in the content window."""
        ahead = behind = torch.full_like(self.width, self.margin)
        if self.window < self.size:  # nothing is stored beside a window
            ahead = torch.minimum(ahead, self.before)
            behind = torch.minimum(behind, self.window - self.width - self.before)
        reach = (self.width + ahead + behind).clamp(max=self.size)
        start = (self.start - ahead) % self.size
        return start, reach, start if self.window == self.size else self.before - ahead

    @property
    def margin(self) -> int:
        """Samples beside a run within which its mask and its derivatives count."""
        return _RINGING_SAMPLES + math.ceil(_BLUR_DEVIATIONS * self.blur)

    @property
    def blur(self) -> float:
        """Standard deviation of the masks' blur, in samples."""
        return self.size / (2 * math.pi * self.sigma)

    def tiles(self, rank: int) -> list[Tile]:
        """Tiles of the circle, each with the blocks that touch it."""
        start, reach, _ = (array.cpu().numpy() for array in self.reach)
        device = self.start.device
        return [
            Tile(a, b, torch.from_numpy(blocks).to(device))
            for a, b, blocks in run_tiles(start, reach, self.size, rank=rank)
        ]

    def support(self) -> Tensor:
        """Samples of the circle within each mask's support, (K, n)."""
        start, reach, _ = self.reach
        samples = torch.arange(self.size, device=start.device)
        return (samples - start[:, None]) % self.size < reach[:, None]

    def tile_support(self, rank: int) -> Tensor | None:
        """Samples of all tiles that each block touches, (K, n).

        None, for all samples, where runs differ between the samples of a transform.
        """
        if torch._C._functorch.is_functorch_wrapped_tensor(self.start):
            return None
        with lasting():
            touched = torch.zeros(len(self.start), self.size, dtype=torch.bool)
            for tile in self.tiles(rank):
                touched[tile.blocks.cpu(), tile.begin : tile.end] = True
            return touched.to(self.start.device)

    def place(self, tile: Tile) -> Tensor | None:
        """Window sample of each of a tile's samples, (blocks, b - a); S beside the window."""
        if self.window == self.size:
            return None
        begin = (self.start - self.before)[tile.blocks]
        samples = torch.arange(tile.begin, tile.end, device=begin.device)
        return ((samples - begin[:, None]) % self.size).clamp(max=self.window)


def sides_of(runs: Runs, sizes: Sequence[int], sigma: float, *, pinned: bool) -> tuple[Side, Side]:
    """Rows and columns of all blocks in whole samples.

    Parameters
    ----------
    runs : Runs
        As fractions.
    sizes : sequence of int
        Samples of both axes, and of the windows of contents on them, the grain, and the least
        width.
    sigma : float
        Sharpness of the masks.
    pinned : bool

    Examples
    --------
    >>> half = torch.tensor([0.5])
    >>> rows, cols = sides_of(Runs(half, half, half, half), (4, 8, 4, 8, 1, 0), 9.0, pinned=False)
    >>> rows.width, cols.start
    (tensor([2]), tensor([4]))
    """
    *axes, grain, narrowest = sizes
    least, sides = max(narrowest, grain), []
    for n, window, (width, location) in zip(axes[:2], axes[2:], (runs[:2], runs[2:]), strict=True):
        widths = widths_to_samples(width, n, grain, min(narrowest, window), window)
        starts, widths = settled(locations_to_samples(location, n, grain)), settled(widths)
        sides.append(Side(n, starts, widths, window, grain, least, sigma, pinned))
    return sides[0], sides[1]


def mask_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of masks over contents of a dtype: single precision at least.

    Examples
    --------
    >>> mask_dtype(torch.bfloat16)
    torch.float32
    """
    return dtype if dtype == torch.float64 else torch.float32


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of rows, (K,)."""
    return torch.linalg.vecdot(a.to(b.dtype), b)


def _is_compiled(table: Tensor, begin: Tensor, *others: Tensor) -> bool:
    """Tell whether compiled loops read the windows: on a CPU, where nothing follows."""
    there = table.device.type == "cpu" and has("numba") and begin.numel() > 0
    return there and is_plain(table, begin, *others)


def _difference(table: Tensor, first: Tensor, second: Tensor, length: int) -> Tensor:
    """Windows from `first` on, less those from `second` on, one a row: (K, length)."""
    from structmat.kernels.cpu.window_loops import subtract_windows

    out = table.new_empty(len(first), length)
    subtract_windows(table.numpy(), first.numpy(), second.numpy(), out.numpy())
    return out


def _two_dots(rows: Tensor, table: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Inner products of rows with the windows from `first` and from `second` on, each (K,)."""
    from structmat.kernels.cpu.window_loops import dot_windows

    out = table.new_empty(len(first), 2)
    rows = rows.detach().to(table.dtype).contiguous().resolve_neg()
    dot_windows(table.numpy(), first.numpy(), second.numpy(), rows.numpy(), out.numpy())
    return out[:, 0], out[:, 1]


def _windows(table: Tensor, begin: Tensor, length: int) -> Tensor:
    """Windows of a vector, one a row: (K, length)."""
    # An embedding copies rows; plain indexing takes them apart, at four times the time.
    return torch.nn.functional.embedding(begin, table.unfold(0, length, 1))
