"""Choice of the ends of runs that lose and gain samples, over all layers of a network."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import write_where_
from structmat.nn.training.run_ends import Ends, block_energies, ends_of, move_, narrowest


class Layer:
    """Weights that share one structure, and the ends of its runs that may move.

    `unit_cost` is the cost of a sample of a run in all of them, and `dense_cost` that of
    their dense weights.
    """

    def __init__(self, weights: Sequence[GaudiWeight], unit_cost: int, dense_cost: int) -> None:
        self.weights, self.unit_cost, self.dense_cost = weights, unit_cost, dense_cost
        self.grain_cost = unit_cost * weights[0].granularity
        s = weights[0].structure
        #: True for rows and for columns where their widths are learned.
        self.wide = [width.requires_grad for width in (s.row_width, s.col_width)]
        #: True where blocks can be emptied.
        self.mortal = any(self.wide) and weights[0].min_width == 0

    def ends(self, gradients: Sequence[Tensor | None]) -> Ends:
        """Ends of all blocks; fixed ones neither shrink nor grow."""
        s, free = self.weights[0].structure, []
        for wide, location in zip(self.wide, (s.row_location, s.col_location), strict=True):
            free += [wide and location.requires_grad, wide]  # the near end moves it
        return ends_of(self.weights, gradients, free)

    def least_cost(self) -> int:
        """Cost that no shrinking goes below."""
        if self.mortal:
            return 0
        rows, cols = (
            narrowest(side) if wide else side.width
            for side, wide in zip(self.weights[0].sides(), self.wide, strict=True)
        )
        return self.unit_cost * int(((rows + cols) * (rows > 0) * (cols > 0)).sum())


def exchange_(
    found: Sequence[tuple[Layer, Ends]],
    share: float,
    excess: int,
    room: int,
    state: Mapping[Tensor, Mapping[str, Any]],
) -> None:
    """Drop a share of the ends and the excess; grow by the room and the cost that was freed.

    `state` is that of the optimizer, by parameter.
    """
    sizes = [ends.loss.numel() for _, ends in found]
    loss = torch.cat([ends.loss.flatten().cpu() / layer.grain_cost for layer, ends in found])
    gain = torch.cat([ends.gain.flatten().cpu() / layer.grain_cost for layer, ends in found])
    grains = torch.tensor([layer.grain_cost for layer, _ in found], device="cpu")
    cost = grains.repeat_interleave(torch.tensor(sizes, device="cpu"))
    free = loss.isfinite()
    wanted = excess + int(share * float(cost[free].sum()))
    lost = _first(loss, cost, wanted, beyond=True) & free
    room += max(0, int(cost[lost].sum()) - excess)
    gained = torch.zeros_like(lost)
    if share > 0:
        order = torch.where(lost | (gain < 0), torch.inf, -gain)
        gained = _first(order, cost, room, beyond=False) & order.isfinite()
    for (layer, ends), l, g in zip(found, lost.split(sizes), gained.split(sizes), strict=True):
        if bool((l | g).any()):
            shape, device = ends.loss.shape, ends.loss.device
            move_(layer.weights, l.view(shape).to(device), g.view(shape).to(device), state)


def _first(score: Tensor, cost: Tensor, amount: int, *, beyond: bool) -> Tensor:
    """Lowest scores whose costs add up to an amount; `beyond`, one more where they fall short."""
    order = torch.argsort(score, stable=True)
    total = cost[order].cumsum(0)
    within = total - cost[order] < amount if beyond else total <= amount
    chosen = torch.zeros_like(score, dtype=torch.bool)
    chosen[order] = within
    return chosen


@torch.no_grad()
def empty_weakest_(layers: Sequence[Layer], excess: int) -> None:
    """Take away whole blocks of least energy for their cost until the excess is gone."""
    layers = [layer for layer in layers if layer.mortal]
    scores, costs = [], []
    for layer in layers:
        rows, cols = layer.weights[0].sides()
        cost = layer.unit_cost * (rows.width + cols.width) * (rows.width > 0) * (cols.width > 0)
        score = block_energies(layer.weights) / cost
        scores.append(score.where(cost > 0, torch.inf).cpu())
        costs.append(cost.cpu())
    gone = _first(torch.cat(scores), torch.cat(costs), excess, beyond=True)
    for layer, own in zip(layers, gone.split([len(s) for s in scores]), strict=True):
        structure = layer.weights[0].structure
        for wide, width in zip(layer.wide, (structure.row_width, structure.col_width), strict=True):
            if wide:
                write_where_(width, own.to(width.device), 0.0)
