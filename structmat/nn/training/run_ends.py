"""Ends of runs, one grain each: the energy that it holds, and the gradient beyond it.

A sample i at the end of a block's rows adds u_i v^T to the matrix, of energy u_i² ‖v‖².
To give up a sample of little energy changes the network little. A sample beyond the end
joins with contents of zero, which changes nothing yet. With G the gradient of the weight,
the gradient of the new contents is (G v)_i, and (G v)_i² / ‖v‖² is the energy of G that the
new entries can follow. Columns are the same with G^T. Blocks of higher rank sum both over
their terms.

Optimizers that divide by the size of gradients have seen none of a new sample yet, and would
take steps of several times the learning rate until they have. So the second moments of a
new sample begin as the mean over its run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from structmat.nn.gaudi.side import Side
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import is_sharded, whole, write_where_

#: Side (rows, columns) and whether the far end, in the order of all arrays here.
ENDS = ((0, False), (0, True), (1, False), (1, True))
#: Names under which torch's optimizers keep second moments of gradients.
_SECOND_MOMENTS = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "exp_inf")
#: First moment of centered RMSprop, which subtracts its square from the second one.
_FIRST_MOMENTS = ("grad_avg",)
#: Least energy that may divide another.
_LEAST_ENERGY = 1e-30


class Ends(NamedTuple):
    """The four ends of all K blocks, each array (4, K)."""

    #: Energy of the last grain, over the mean energy of a grain of the layer; infinite
    #: where the grain has to stay.
    loss: Tensor
    #: Energy of the gradient that one more grain can follow; negative where there is no
    #: room for one.
    gain: Tensor


def narrowest(side: Side) -> Tensor:
    """Least widths that runs can come to by losing ends."""
    return torch.where(_is_whole(side), side.width.clamp(max=side.least), side.width)


def _may_lose(side: Side, samples: int) -> Tensor:
    """Runs that may lose this number of samples in all."""
    return _is_whole(side) & (side.width - samples >= side.least)


def _may_gain(side: Side, samples: int) -> Tensor:
    """Runs that may gain this number of samples in all."""
    return _is_whole(side) & (side.width + samples <= side.window)


def _may_shrink(side: Side, far: bool) -> Tensor:
    """Runs that may lose the grain at this end."""
    kept = _may_lose(side, side.grain)
    if not far and side.size % side.grain:
        kept &= side.start % side.size + side.grain < side.size
    return kept


def _may_grow(side: Side, far: bool) -> Tensor:
    """Runs with room for a grain at this end."""
    room = _may_gain(side, side.grain)
    if not far and side.size % side.grain:
        room &= side.start % side.size >= side.grain  # grains do not close the circle
    return room


def _is_whole(side: Side) -> Tensor:
    """Runs of whole grains; a run that takes in a broken last grain stays as it is."""
    return side.width % side.grain == 0


def _at_end(side: Side, far: bool, beyond: bool) -> Tensor:
    """Samples of the last grain of runs, or of the one beyond, (K, grain)."""
    first = side.start + side.width if far else side.start
    back = side.grain * (far != beyond)
    return (first - back)[:, None] + torch.arange(side.grain, device=first.device)


def _beyond(side: Side, chosen: Tensor) -> Tensor:
    """Mask (K, 1, window) of one more grain at the chosen ends (2, K)."""
    mask = torch.zeros(len(side.width), side.window, dtype=torch.bool, device=chosen.device)
    for far, own in zip((False, True), chosen, strict=True):
        slots = _at_end(side, far, beyond=True) % side.window
        mask |= torch.zeros_like(mask).scatter(-1, slots, own[:, None].expand_as(slots))
    return mask[:, None]


def _inside(side: Side) -> tuple[Tensor, Tensor]:
    """Samples of runs, (K, greatest width), and a mask of those that are in the run."""
    longest = max([1, *side.width.tolist()])  # there may be no blocks at all
    order = torch.arange(longest, device=side.width.device)
    return side.start[:, None] + order, order < side.width[:, None]


def _read(kept: Tensor, side: Side, samples: Tensor) -> Tensor:
    """Read an array (K, r, window) at samples (K, s) of the circle, (K, r, s)."""
    slots = (samples % side.window)[:, None]
    return kept.gather(-1, slots.expand(-1, kept.shape[1], -1))


@torch.no_grad()
def ends_of(
    weights: Sequence[GaudiWeight],
    gradients: Sequence[Tensor | None],
    free: Sequence[bool] = (True,) * 4,
) -> Ends:
    """Losses and gains at the ends of runs, of weights that share one structure.

    Ends that are not free do not move. Where a run has samples to lose for one end only, or
    room to grow for one only, the better end may move. Without a gradient all gains are zero.
    """
    sides = weights[0].sides()
    alive = (sides[0].width > 0) & (sides[1].width > 0)
    facing = [_inside(side)[0] % side.size for side in sides]
    loss, gain = torch.zeros(2, 4, len(alive), device=alive.device)
    for weight, gradient in zip(weights, gradients, strict=True):
        contents = list(map(whole, (weight.u, weight.v)))
        in_runs = _in_runs(contents, sides)
        *energies, mean = _energies(in_runs, sides)
        for i, (at, far) in enumerate(ENDS):
            side, other = sides[at], energies[1 - at]
            last = _read(contents[at], side, _at_end(side, far, beyond=False)).float()
            loss[i] += (last.square().sum(-1) * other).sum(-1) / (mean * side.grain)
            if gradient is not None:
                G = gradient if at == 0 else gradient.T
                new = _at_end(side, far, beyond=True) % side.size
                slope = in_runs[1 - at] @ G[new[:, :, None], facing[1 - at][:, None]].float().mT
                gain[i] += (slope.square().sum(-1) / other.clamp(min=_LEAST_ENERGY)).sum(-1)
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


def _in_runs(contents: Sequence[Tensor], sides: Sequence[Side]) -> list[Tensor]:
    """Contents of both sides in their runs, zero beyond, each (K, r, greatest width)."""
    found = []
    for kept, side in zip(contents, sides, strict=True):
        samples, inside = _inside(side)
        found.append(_read(kept, side, samples).float() * inside[:, None])
    return found


def _energies(in_runs: Sequence[Tensor], sides: Sequence[Side]) -> tuple[Tensor, Tensor, float]:
    """Squared norms of contents in the runs, (K, r) a side; the mean energy of a sample."""
    rows, cols = (part.square().sum(-1) for part in in_runs)
    alive = (sides[0].width > 0) & (sides[1].width > 0)
    samples = ((sides[0].width + sides[1].width) * alive).sum()
    # Over all samples of both sides, each block's energy counts once a side.
    mean = 2 * float((rows * cols).sum()) / max(int(samples), 1)
    return rows, cols, max(mean, _LEAST_ENERGY)


def _better(score: Tensor, both: Tensor, never: float) -> Tensor:
    """Scores of two ends (2, K), lowest first; only the lower where both cannot be had."""
    worse = torch.stack([score[1] < score[0], score[0] <= score[1]])
    return score.masked_fill(worse & ~both, never)


@torch.no_grad()
def block_energies(weights: Sequence[GaudiWeight]) -> Tensor:
    """Energy of blocks over the mean energy of a sample of their layer, (K,).

    Summed over weights that share one structure, and the terms of higher ranks.
    """
    sides = weights[0].sides()
    contents = [list(map(whole, (weight.u, weight.v))) for weight in weights]
    found = [_energies(_in_runs(kept, sides), sides) for kept in contents]
    return sum(((rows * cols).sum(-1) / mean for rows, cols, mean in found), torch.zeros(()))


@torch.no_grad()
def move_(
    weights: Sequence[GaudiWeight],
    lost: Tensor,
    gained: Tensor,
    state: Mapping[Tensor, Mapping[str, Any]],
) -> None:
    """Take a grain off the lost ends and add one at the gained ones, masks of shape (4, K).

    Contents of new samples are zero. The weights share one structure; `state` is that of the
    optimizer, by parameter.
    """
    structure, contents = weights[0].structure, [(weight.u, weight.v) for weight in weights]
    runs = (
        (structure.row_width, structure.row_location),
        (structure.col_width, structure.col_location),
    )
    for at, side in enumerate(weights[0].sides()):
        ends = slice(2 * at, 2 * at + 2)
        near, far = (gained[ends].long() - lost[ends].long()) * side.grain
        if bool(gained[ends].any()):
            new = _beyond(side, gained[ends])
            for pair in contents:
                _begin_(pair[at], side, new, state.get(pair[at], {}))
        width, start = side.width + near + far, side.start - near
        write_where_(runs[at][0], (near != 0) | (far != 0), width / side.size)
        write_where_(runs[at][1], near != 0, start / side.size)


def _begin_(parameter: Tensor, side: Side, new: Tensor, state: Mapping[str, Any]) -> None:
    """Set contents of new samples to zero, and moments of their gradients to a beginning."""
    write_where_(parameter, new, 0.0)
    for key, kept in state.items():
        if key in _FIRST_MOMENTS and _is_alike(kept, parameter):
            write_where_(kept, new, 0.0)
        elif key in _SECOND_MOMENTS and _is_alike(kept, parameter):
            samples, inside = _inside(side)
            total = torch.where(inside[:, None], _read(whole(kept), side, samples), 0.0)
            mean = total.sum(-1, keepdim=True) / side.width.clamp(min=1)[:, None, None]
            write_where_(kept, new, mean)


def _is_alike(kept: Any, parameter: Tensor) -> bool:
    """Tell whether an optimizer keeps one plain number for each of a parameter's."""
    plain = isinstance(kept, Tensor) and (type(kept) is Tensor or is_sharded(kept))
    return plain and kept.shape == parameter.shape
