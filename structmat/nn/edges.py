"""Ends of runs, a grain each: what it would cost to lose them, and what to gain beyond.

A sample i at the end of a block's rows adds u_i v^T to the matrix, of energy u_i² ‖v‖²:
giving it up changes the network little where that is small. A sample beyond the end is
taken in with contents of zero, which changes nothing yet. With G the gradient of the
weight, the gradient of its contents is (G v)_i, and (G v)_i² / ‖v‖² the energy of G
that the new entries can follow. Columns are the same with G^T.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from structmat.nn._tensors import whole, write_
from structmat.nn.gaudi import GaudiWeight

__all__ = ["ENDS", "Ends", "block_energies", "ends_of", "move_", "sides_of"]

#: Side (rows, columns) and whether the far end, in the order of all arrays here.
ENDS = ((0, False), (0, True), (1, False), (1, True))
_SIDES = ("row", "col")


class Ends(NamedTuple):
    """The four ends of all K blocks, each array (4, K).

    Attributes
    ----------
    loss : Tensor
        Energy that goes with the last grain, over the mean energy of a grain of the
        layer; infinite where it has to stay.
    gain : Tensor
        Energy of the gradient that one more grain can follow; negative where there is
        no room for one.
    """

    loss: Tensor
    gain: Tensor


class _Side(NamedTuple):
    """One side of all blocks in whole samples."""

    size: int
    grain: int
    least: int
    most: int
    window: int
    width: Tensor
    start: Tensor

    def at_end(self, far: bool, beyond: bool) -> Tensor:
        """Samples of the last grain of runs, or of the one beyond, (K, grain)."""
        first = self.start + self.width if far else self.start
        back = self.grain * (far != beyond)
        return (first - back)[:, None] + torch.arange(self.grain, device=first.device)

    def inside(self) -> tuple[Tensor, Tensor]:
        """Samples of runs, (K, greatest width), and which of them are in the run."""
        order = torch.arange(int(self.width.max().clamp(min=1)), device=self.width.device)
        return self.start[:, None] + order, order < self.width[:, None]

    def may_shrink(self, far: bool) -> Tensor:
        """Whether a run may lose the grain at this end; the far one keeps off the near."""
        return self._whole() & (self.width - self.grain * (1 + far) >= self.least)

    def may_grow(self, far: bool) -> Tensor:
        """Whether there is room for a grain; the far end leaves room for the near."""
        room = self.width + self.grain * (1 + far) <= min(self.most, self.size)
        if not far and self.size % self.grain:
            room &= self.start % self.size >= self.grain  # grains do not close the circle
        return self._whole() & room

    def _whole(self) -> Tensor:
        """Runs of whole grains; one that takes in a broken last grain stays as it is."""
        return self.width % self.grain == 0


def sides_of(weight: GaudiWeight) -> tuple[_Side, _Side]:
    """Both sides of a weight's blocks."""
    g, pairs = weight.granularity, weight._samples(weight._whole_runs())
    rows, cols = (
        _Side(n, g, max(weight.min_width, g), most, most, width, start)
        for n, most, (width, start) in zip(weight.shape, weight.max_width, pairs, strict=True)
    )
    return rows, cols


@torch.no_grad()
def ends_of(weights: Sequence[GaudiWeight], gradients: Sequence[Tensor | None]) -> Ends:
    """Losses and gains at the ends of runs, of weights that share one structure.

    Without a gradient all gains are nought.

    Examples
    --------
    >>> weight = GaudiWeight((4, 8), budget=0.5, width_init="strips")
    >>> found = ends_of([weight], [torch.ones(4, 8)])
    >>> found.loss.shape, bool(found.loss[0].isinf().all()), bool(found.loss[2].isfinite().all())
    (torch.Size([4, 4]), True, True)
    """
    sides = sides_of(weights[0])
    alive = (sides[0].width > 0) & (sides[1].width > 0)
    loss, gain = torch.zeros(2, 4, len(alive), device=alive.device)
    for weight, gradient in zip(weights, gradients, strict=True):
        energies = [_energy(weight, side, at) for at, side in enumerate(sides)]
        # Over all grains of both sides, each block's energy counts once a side.
        total = 2 * float((energies[0] * energies[1]).sum())
        mean = total * sides[0].grain / max(float(sum(s.width.sum() for s in sides)), 1.0)
        for i, (at, far) in enumerate(ENDS):
            other = energies[1 - at]
            last = _contents(weight, at, sides[at], sides[at].at_end(far, beyond=False))
            loss[i] += (last.square().sum(-1) * other).sum(-1) / max(mean, 1e-30)
            if gradient is not None:
                slope = _slope(weight, gradient, sides, at, far)
                gain[i] += (slope.square().sum(-1) / other.clamp(min=1e-30)).sum(-1)
    for i, (at, far) in enumerate(ENDS):
        loss[i].masked_fill_(~(alive & sides[at].may_shrink(far)), torch.inf)
        gain[i].masked_fill_(~(alive & sides[at].may_grow(far)), -1.0)
    return Ends(loss, gain)


@torch.no_grad()
def move_(weights: Sequence[GaudiWeight], lost: Tensor, gained: Tensor) -> None:
    """Take a grain off some ends and add one at others, both (4, K); new contents are zero."""
    sides, structure = sides_of(weights[0]), weights[0].structure
    for at, name in enumerate(_SIDES):
        side = sides[at]
        change = gained.long() - lost.long()
        near, far = change[2 * at] * side.grain, change[2 * at + 1] * side.grain
        for weight in weights:
            for i, is_far in ((2 * at, False), (2 * at + 1, True)):
                _clear_(weight, at, side, side.at_end(is_far, beyond=True), gained[i])
        moved = (near != 0) | (far != 0)
        for what, value in (("width", side.width + near + far), ("location", side.start - near)):
            parameter = getattr(structure, f"{name}_{what}")
            old = whole(parameter)
            write_(parameter, torch.where(moved, value.to(old) / side.size, old))


def block_energies(weight: GaudiWeight) -> Tensor:
    """Squared norm of each block, (K,); of rank above one, those of its terms together."""
    rows, cols = sides_of(weight)
    return (_energy(weight, rows, 0) * _energy(weight, cols, 1)).sum(-1)


def _energy(weight: GaudiWeight, side: _Side, at: int) -> Tensor:
    """Squared norms of one side's contents inside the runs, (K, r)."""
    samples, inside = side.inside()
    return (_contents(weight, at, side, samples) * inside[:, None]).square().sum(-1)


def _contents(weight: GaudiWeight, at: int, side: _Side, samples: Tensor) -> Tensor:
    """Contents at samples (K, s) of the circle, (K, r, s)."""
    kept = whole((weight.u, weight.v)[at])
    slots = (samples % side.window)[:, None].expand(-1, kept.shape[1], -1)
    return kept.gather(-1, slots).float()


def _slope(
    weight: GaudiWeight, gradient: Tensor, sides: tuple[_Side, _Side], at: int, far: bool
) -> Tensor:
    """Gradient of contents of the grain beyond an end, (K, r, grain)."""
    beyond = sides[at].at_end(far, beyond=True) % sides[at].size
    samples, inside = sides[1 - at].inside()
    across = samples % sides[1 - at].size
    G = gradient if at == 0 else gradient.T
    facing = G[beyond[:, :, None], across[:, None, :]]
    other = _contents(weight, 1 - at, sides[1 - at], samples) * inside[:, None]
    return other @ facing.float().mT


def _clear_(weight: GaudiWeight, at: int, side: _Side, samples: Tensor, chosen: Tensor) -> None:
    """Set contents at the samples of some blocks to zero."""
    parameter = (weight.u, weight.v)[at]
    kept = whole(parameter).clone()
    slots = (samples % side.window)[:, None].expand(-1, kept.shape[1], -1)
    kept.scatter_(-1, slots, kept.gather(-1, slots) * ~chosen[:, None, None])
    write_(parameter, kept)
