"""Ends of runs, a grain each: what it would cost to lose them, and what to gain beyond.

A sample i at the end of a block's rows adds u_i v^T to the matrix, of energy u_i² ‖v‖²:
giving it up changes the network little where that is small. A sample beyond the end is
taken in with contents of zero, which changes nothing yet. With G the gradient of the
weight, the gradient of its contents is (G v)_i, and (G v)_i² / ‖v‖² the energy of G
that the new entries can follow. Columns are the same with G^T. Blocks of higher rank sum
both over their terms.

Optimizers that divide by the size of gradients have seen none of a new sample yet, and would
take steps of several times the learning rate until they have. It begins with the mean size
over its run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from structmat.nn.gaudi.side import Side
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import is_sharded, whole, write_

#: Side (rows, columns) and whether the far end, in the order of all arrays here.
ENDS = ((0, False), (0, True), (1, False), (1, True))
_SIDES = ("row", "col")
#: Under these names the optimizers of torch keep sizes of gradients that divide a step,
_SIZES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "exp_inf")
#: and what is taken off them before: it must not be more than they are.
_CENTRES = ("grad_avg",)


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


def _at_end(side: Side, far: bool, beyond: bool) -> Tensor:
    """Samples of the last grain of runs, or of the one beyond, (K, grain)."""
    first = side.start + side.width if far else side.start
    back = side.grain * (far != beyond)
    return (first - back)[:, None] + torch.arange(side.grain, device=first.device)


def _inside(side: Side) -> tuple[Tensor, Tensor]:
    """Samples of runs, (K, greatest width), and a mask of those within the run."""
    longest = max([1, *side.width.tolist()])  # there may be no blocks at all
    order = torch.arange(longest, device=side.width.device)
    return side.start[:, None] + order, order < side.width[:, None]


def _may_shrink(side: Side, far: bool) -> Tensor:
    """Runs that may lose the grain at this end."""
    kept = _may_lose(side, side.grain)
    if not far and side.size % side.grain:
        kept &= side.start % side.size + side.grain < side.size
    return kept


def _may_grow(side: Side, far: bool) -> Tensor:
    """Runs that have room for a grain at this end."""
    room = _may_gain(side, side.grain)
    if not far and side.size % side.grain:
        room &= side.start % side.size >= side.grain  # grains do not close the circle
    return room


def narrowest(side: Side) -> Tensor:
    """Least widths that runs can come to by losing ends."""
    return torch.where(_is_whole(side), side.width.clamp(max=side.least), side.width)


def _may_lose(side: Side, samples: int) -> Tensor:
    """Runs that may lose this number of samples in all."""
    return _is_whole(side) & (side.width - samples >= side.least)


def _may_gain(side: Side, samples: int) -> Tensor:
    """Runs that may gain this number of samples in all."""
    return _is_whole(side) & (side.width + samples <= side.window)


def _is_whole(side: Side) -> Tensor:
    """Runs of whole grains; one that takes in a broken last grain stays as it is."""
    return side.width % side.grain == 0


@torch.no_grad()
def ends_of(
    weights: Sequence[GaudiWeight],
    gradients: Sequence[Tensor | None],
    free: Sequence[bool] = (True,) * 4,
) -> Ends:
    """Losses and gains at the ends of runs, of weights that share one structure.

    Ends that are not free do not move. Of two ends of a run that has no samples to lose, or
    no room to grow, for both, only the better one may. Without a gradient all gains are
    nought.

    Examples
    --------
    >>> weight = GaudiWeight((4, 8), budget=0.5, width_init="strips")
    >>> found = ends_of([weight], [torch.ones(4, 8)])
    >>> found.loss.shape, bool(found.loss[0].isinf().all()), bool(found.loss[2].isfinite().all())
    (torch.Size([4, 4]), True, True)
    """
    sides = weights[0].sides()
    alive = (sides[0].width > 0) & (sides[1].width > 0)
    loss, gain = torch.zeros(2, 4, len(alive), device=alive.device)
    for weight, gradient in zip(weights, gradients, strict=True):
        *energies, mean = _energies(weight, sides)
        for i, (at, far) in enumerate(ENDS):
            other = energies[1 - at]
            last = _contents(weight, at, sides[at], _at_end(sides[at], far, beyond=False))
            loss[i] += (last.square().sum(-1) * other).sum(-1) / (mean * sides[at].grain)
            if gradient is not None:
                slope = _slope(weight, gradient, sides, at, far)
                gain[i] += (slope.square().sum(-1) / other.clamp(min=1e-30)).sum(-1)
    # Whatever contents have become, a budget can be met.
    loss.nan_to_num_(nan=0.0)
    for i, (at, far) in enumerate(ENDS):
        loss[i].masked_fill_(~(alive & _may_shrink(sides[at], far)) | (not free[i]), torch.inf)
        gain[i].masked_fill_(~(alive & _may_grow(sides[at], far)) | (not free[i]), -1.0)
    for at, side in enumerate(sides):
        pair, grains = slice(2 * at, 2 * at + 2), 2 * side.grain
        loss[pair] = _better(loss[pair], _may_lose(side, grains), torch.inf)
        gain[pair] = -_better(-gain[pair], _may_gain(side, grains), 1.0)
    return Ends(loss, gain)


def _better(score: Tensor, both: Tensor, never: float) -> Tensor:
    """Scores of two ends (2, K), lowest first; only the lower where both cannot be had."""
    worse = torch.stack([score[1] < score[0], score[0] <= score[1]])
    return score.masked_fill(worse & ~both, never)


@torch.no_grad()
def move_(
    weights: Sequence[GaudiWeight],
    lost: Tensor,
    gained: Tensor,
    state: Mapping[Tensor, Mapping[str, Any]],
) -> None:
    """Take a grain off some ends and add one at others, both (4, K); new contents are zero.

    `state` is that of the optimizer, by parameter.
    """
    sides, structure = weights[0].sides(), weights[0].structure
    for at, name in enumerate(_SIDES):
        side = sides[at]
        change = (gained.long() - lost.long()) * side.grain
        near, far = change[2 * at], change[2 * at + 1]
        for i, is_far in ((2 * at, False), (2 * at + 1, True)):
            for weight in weights if bool(gained[i].any()) else ():
                parameter = (weight.u, weight.v)[at]
                _begin_(parameter, side, _at_end(side, is_far, beyond=True), gained[i], state)
        width, start = side.width + near + far, side.start - near
        _replace_(getattr(structure, f"{name}_width"), width / side.size, (near != 0) | (far != 0))
        _replace_(getattr(structure, f"{name}_location"), start / side.size, near != 0)


@torch.no_grad()
def block_energies(weights: Sequence[GaudiWeight]) -> Tensor:
    """Energy of blocks over the mean energy of a sample of their layer, (K,).

    Summed over weights that share one structure, and the terms of higher ranks.

    Examples
    --------
    >>> block_energies([GaudiWeight((4, 8), num_blocks=1, width_init=1.0)])
    tensor([6.])
    """
    sides = weights[0].sides()
    found = [_energies(weight, sides) for weight in weights]
    return sum(((rows * cols).sum(-1) / mean for rows, cols, mean in found), torch.zeros(()))


def _energies(weight: GaudiWeight, sides: tuple[Side, Side]) -> tuple[Tensor, Tensor, float]:
    """Squared norms of contents in the runs, (K, r) a side; the mean energy of a sample."""
    parts = []
    for at, side in enumerate(sides):
        samples, inside = _inside(side)
        kept = _contents(weight, at, side, samples) * inside[:, None]
        parts.append(kept.square().sum(-1))
    rows, cols = parts
    alive = (sides[0].width > 0) & (sides[1].width > 0)
    samples = ((sides[0].width + sides[1].width) * alive).sum()
    # Over all samples of both sides, each block's energy counts once a side.
    mean = 2 * float((rows * cols).sum()) / max(int(samples), 1)
    return rows, cols, max(mean, 1e-30)


def _contents(weight: GaudiWeight, at: int, side: Side, samples: Tensor) -> Tensor:
    """Contents at samples (K, s) of the circle, (K, r, s)."""
    return _read(whole((weight.u, weight.v)[at]), side, samples).float()


def _read(kept: Tensor, side: Side, samples: Tensor) -> Tensor:
    """What is kept (K, r, window) for samples (K, s) of the circle, (K, r, s)."""
    return kept.gather(-1, _slots(kept, side, samples))


def _slots(kept: Tensor, side: Side, samples: Tensor) -> Tensor:
    return (samples % side.window)[:, None].expand(-1, kept.shape[1], -1)


def _mean(kept: Tensor, side: Side) -> Tensor:
    """Means of what is kept over runs, (K, r, 1)."""
    samples, inside = _inside(side)
    found = torch.where(inside[:, None], _read(kept, side, samples), 0.0)
    return found.sum(-1, keepdim=True) / side.width.clamp(min=1)[:, None, None]


def _slope(
    weight: GaudiWeight, gradient: Tensor, sides: tuple[Side, Side], at: int, far: bool
) -> Tensor:
    """Gradient of contents of the grain beyond an end, (K, r, grain)."""
    beyond = _at_end(sides[at], far, beyond=True) % sides[at].size
    samples, inside = _inside(sides[1 - at])
    across = samples % sides[1 - at].size
    G = gradient if at == 0 else gradient.T
    facing = G[beyond[:, :, None], across[:, None, :]]
    other = _contents(weight, 1 - at, sides[1 - at], samples) * inside[:, None]
    return other @ facing.float().mT


def _begin_(
    parameter: Tensor,
    side: Side,
    samples: Tensor,
    chosen: Tensor,
    state: Mapping[Tensor, Mapping[str, Any]],
) -> None:
    """Set contents of new samples to zero, and what the optimizer knows of their gradients."""
    _fill_(parameter, side, samples, chosen, 0.0)
    for key, kept in state.get(parameter, {}).items():
        if key in _SIZES + _CENTRES and _is_alike(kept, parameter):
            values = _mean(whole(kept), side) if key in _SIZES else 0.0
            _fill_(kept, side, samples, chosen, values)


def _is_alike(kept: Any, parameter: Tensor) -> bool:
    """Whether an optimizer keeps one plain number for each of a parameter's."""
    plain = isinstance(kept, Tensor) and (type(kept) is Tensor or is_sharded(kept))
    return plain and kept.shape == parameter.shape


def _fill_(
    kept: Tensor, side: Side, samples: Tensor, chosen: Tensor, values: Tensor | float
) -> None:
    """Set what is kept for the samples of some blocks to values."""
    old = whole(kept)
    slots = _slots(old, side, samples)
    grains = torch.where(chosen[:, None, None], values, old.gather(-1, slots))
    write_(kept, old.scatter(-1, slots, grains.to(old)))


def _replace_(parameter: Tensor, values: Tensor, chosen: Tensor) -> None:
    """Set some entries of a parameter to values."""
    old = whole(parameter)
    write_(parameter, torch.where(chosen, values.to(old), old))
