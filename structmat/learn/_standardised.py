"""Images of a data set on the device that trains: standardised, and moved at random."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from structmat.learn.data import Images
from structmat.learn.devices import Examples, moved


class Moves(NamedTuple):
    """Random moves of images: pixels down and across, and flips, (N, 1) each."""

    down: Tensor
    across: Tensor
    flip: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Shift and flip each image."""
        count, _, height, width = x.shape
        pad = _most(x.shape[2:])
        padded = F.pad(x, (pad, pad, pad, pad))
        across = torch.arange(width, device=x.device).expand(count, width)
        rows = self.down + torch.arange(height, device=x.device)
        cols = self.across + torch.where(self.flip, width - 1 - across, across)
        image = torch.arange(count, device=x.device)[:, None, None]
        return padded[image, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)


class Standardised:
    """Images of a part of a data set less their mean, with labels, on a device.

    Parameters
    ----------
    data : Images
    part : str
        "train" or "test".
    device : str
    """

    def __init__(self, data: Images, part: str, device: str) -> None:
        pixels, labels = (getattr(data, f"{part}_{name}") for name in "xy")
        self._sides, self._count, self._device = pixels.shape[2:], len(labels), device
        self._arrays = pixels, labels
        mean, std = (torch.tensor(x, dtype=torch.float32) for x in (data.mean, data.std))
        self._mean, self._std = (x[:, None, None].to(device) for x in (mean, std))

    @cached_property
    def _examples(self) -> Examples:
        """On the device from the first use on: some tasks use one part alone."""
        return Examples(self._device, *self._arrays)

    def __len__(self) -> int:
        return self._count

    def near(self, index: Tensor) -> Tensor:
        """Indices of the host on the device that holds the images."""
        return self._examples.near(index)

    def __getitem__(self, chosen: Tensor | slice) -> tuple[Tensor, Tensor]:
        pixels, labels = self._examples[chosen]
        return (pixels.float() - self._mean) / self._std, labels

    def moves(self, sizes: Sequence[int], generator: torch.Generator) -> list[Moves]:
        """Moves by up to an eighth of a side, drawn for batches of these sizes."""
        shifts, flips = [], []
        for count in sizes:
            most = 2 * _most(self._sides) + 1
            shifts.append(torch.randint(most, (2, count, 1), generator=generator))
            flips.append(torch.rand(count, 1, generator=generator) < 0.5)
        device = torch.device(self._device)
        shift, flip = (moved(torch.cat(x, -2), device) for x in (shifts, flips))
        parts = zip(shift.split(list(sizes), 1), flip.split(list(sizes)), strict=True)
        return [Moves(both[0], both[1], own) for both, own in parts]


def _most(sides: Sequence[int]) -> int:
    """Pixels by which an image may move."""
    return max(sides) // 8
