"""Which ends of runs give up samples and which take them in, over all layers of a network."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import whole, write_
from structmat.nn.training.run_ends import Ends, block_energies, ends_of, move_, narrowest


class Group:
    """Weights that share one structure, and what a grain of it costs.

    Parameters
    ----------
    weights : sequence of GaudiWeight
    unit : int
        Cost of a sample of a run, in all of them.
    dense : int
        Their dense cost.

    Examples
    --------
    >>> Group([GaudiWeight((4, 8), granularity=2)], unit=1, dense=32).grain
    2
    """

    def __init__(self, weights: Sequence[GaudiWeight], unit: int, dense: int) -> None:
        self.weights, self.unit, self.dense = weights, unit, dense
        self.grain = unit * weights[0].granularity
        s = weights[0].structure
        #: Whether widths of rows and of columns are learned.
        self.wide = [width.requires_grad for width in (s.row_width, s.col_width)]
        #: Whether blocks can be emptied.
        self.mortal = any(self.wide) and weights[0].min_width == 0
        self._free: list[bool] = []
        for wide, location in zip(self.wide, (s.row_location, s.col_location), strict=True):
            self._free += [wide and location.requires_grad, wide]  # the near end moves it

    def ends(self, gradients: Sequence[Tensor | None]) -> Ends:
        """Ends of all blocks; those that are fixed neither shrink nor grow."""
        return ends_of(self.weights, gradients, self._free)

    def least(self) -> int:
        """Cost that no shrinking goes below."""
        if self.mortal:
            return 0
        rows, cols = (
            narrowest(side) if wide else side.width
            for side, wide in zip(self.weights[0].sides(), self.wide, strict=True)
        )
        return self.unit * int(((rows + cols) * (rows > 0) * (cols > 0)).sum())


def exchange_(
    found: Sequence[tuple[Group, Ends]],
    share: float,
    excess: int,
    *,
    room: int,
    state: Mapping[Tensor, Mapping[str, Any]],
) -> None:
    """Drop a share of the ends and what is in excess; grow by what was freed and the room.

    `state` is that of the optimizer, by parameter.

    Examples
    --------
    >>> weight = GaudiWeight((4, 8), budget=0.5, width_init="strips")
    >>> group = Group([weight], unit=1, dense=32)
    >>> before = weight.cost
    >>> exchange_([(group, group.ends([None]))], 0.0, excess=2, room=0, state={})
    >>> before - weight.cost
    2
    """
    sizes = [ends.loss.numel() for _, ends in found]
    loss = torch.cat([ends.loss.flatten().cpu() / group.grain for group, ends in found])
    gain = torch.cat([ends.gain.flatten().cpu() / group.grain for group, ends in found])
    grains = torch.tensor([group.grain for group, _ in found], device="cpu")
    cost = grains.repeat_interleave(torch.tensor(sizes, device="cpu"))
    free = loss.isfinite()
    wanted = excess + int(share * float(cost[free].sum()))
    lost = _first(loss, cost, wanted, beyond=True) & free
    room += max(0, int(cost[lost].sum()) - excess)
    gained = torch.zeros_like(lost)
    if share > 0:
        order = torch.where(lost | (gain < 0), torch.inf, -gain)
        gained = _first(order, cost, room, beyond=False) & order.isfinite()
    for (group, ends), l, g in zip(found, lost.split(sizes), gained.split(sizes), strict=True):
        if bool((l | g).any()):
            shape, device = ends.loss.shape, ends.loss.device
            move_(group.weights, l.view(shape).to(device), g.view(shape).to(device), state)


def _first(score: Tensor, cost: Tensor, amount: int, *, beyond: bool) -> Tensor:
    """The lowest scores whose costs add up to an amount; one more where they fall short."""
    order = torch.argsort(score, stable=True)
    total = cost[order].cumsum(0)
    within = total - cost[order] < amount if beyond else total <= amount
    chosen = torch.zeros_like(score, dtype=torch.bool)
    chosen[order] = within
    return chosen


@torch.no_grad()
def empty_weakest_(groups: Sequence[Group], excess: int) -> None:
    """Take away whole blocks of least energy for their cost until the excess is gone.

    Examples
    --------
    >>> weight = GaudiWeight((4, 8), budget=0.5, width_init="strips")
    >>> empty_weakest_([Group([weight], unit=1, dense=32)], excess=weight.cost)
    >>> weight.cost
    0
    """
    groups = [group for group in groups if group.mortal]
    scores, costs = [], []
    for group in groups:
        rows, cols = group.weights[0].sides()
        cost = group.unit * (rows.width + cols.width) * (rows.width > 0) * (cols.width > 0)
        score = block_energies(group.weights) / cost
        scores.append(score.where(cost > 0, torch.inf).cpu())
        costs.append(cost.cpu())
    gone = _first(torch.cat(scores), torch.cat(costs), excess, beyond=True)
    for group, own in zip(groups, gone.split([len(s) for s in scores]), strict=True):
        structure = group.weights[0].structure
        for wide, parameter in zip(
            group.wide, (structure.row_width, structure.col_width), strict=True
        ):
            if wide:
                old = whole(parameter)
                write_(parameter, old.masked_fill(own.to(old.device), 0.0))
