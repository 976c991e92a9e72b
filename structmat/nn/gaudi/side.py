"""One side of all Gaudi blocks in whole samples: masks, windows and tiles."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from structmat.kernels.layouts.panels import run_tiles
from structmat.nn.gaudi.masks import MaskTable

#: A blurred mask falls below 1e-5 of its height within this many standard deviations.
_DEVIATIONS = 4.5
#: Samples beside an edge where the derivative of a sharp boxcar is still large.
_RINGING = 8


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

    def tiles(self, rank: int) -> "list[Tile]":
        """Tiles of the circle, each with the blocks that touch it."""
        start, reach, _ = (array.cpu().numpy() for array in self.reach)
        device = self.location.device
        return [
            Tile(a, b, torch.from_numpy(blocks).to(device))
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

    def place(self, tile: "Tile") -> Tensor | None:
        """Window sample of each of a tile's samples, (blocks, b - a); S for none."""
        if self.window == self.size:
            return None
        begin = (self.location - self.before)[tile.blocks]
        samples = torch.arange(tile.begin, tile.end, device=begin.device)
        return ((samples - begin[:, None]) % self.size).clamp(max=self.window)


class Tile(NamedTuple):
    """Samples `begin` to `end` of an axis, and the blocks that touch them."""

    begin: int
    end: int
    blocks: Tensor


def as_given(tensor: Tensor) -> Any:
    """Operands have the dtype to compute in: autocast is not to change it again."""
    return torch.autocast(tensor.device.type, enabled=False)
