"""The widths of all blocks of a network, and the exact projection onto one budget.

Widths w are fractions of their axis. With c the multiplications (or scalars) behind a
full width, the network costs Σ c w, in whole samples and over blocks that have both
sides. Soft thresholding by τ, w ← max(w - τ, 0), lowers every width alike: it is the
proximal step of an ℓ1 penalty. The projection finds the one τ, over all layers
together, under which the cost meets the budget.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from structmat.errors import InputError
from structmat.nn._tensors import whole, write_
from structmat.nn.gaudi import GaudiWeight
from structmat.nn.samples import whole_widths

__all__ = ["Limits", "Widths"]

METRICS = ("width", "euclidean")
MEASURES = ("multiplications", "parameters")
# Halvings of the bracket of τ: to the last bit of a width in single precision.
_HALVINGS = 26


@dataclass(frozen=True)
class Limits:
    """Least and greatest cost of a layer, in the unit of the budget."""

    floor: int
    cap: int


class Widths:
    """The widths of several Gaudi weights as one vector, rows and columns of each in turn.

    Weights that share one structure, as the taps of a convolution may, count as one whose
    widths cost as much as all of theirs.

    Parameters
    ----------
    weights : sequence of GaudiWeight
    measure : str
        "multiplications" for one example (cost times positions), or "parameters".

    Examples
    --------
    >>> weight = GaudiWeight((8, 16), budget=0.75)
    >>> widths = Widths([weight], "multiplications")
    >>> widths.cost(widths.values())
    96
    """

    def __init__(self, weights: Sequence[GaudiWeight], measure: str) -> None:
        if measure not in MEASURES:
            raise InputError(f"measure = {measure!r}; expected one of {MEASURES}")
        uses: Counter[int] = Counter()
        dense: Counter[int] = Counter()
        for weight in weights:
            shared = id(weight.structure)
            times = weight.positions if measure == "multiplications" else 1
            uses[shared] += weight.rank * times
            dense[shared] += weight.shape[0] * weight.shape[1] * times
        self.weights = list({id(weight.structure): weight for weight in weights}.values())
        self.dense = [dense[id(weight.structure)] for weight in self.weights]
        rows = []
        for i, weight in enumerate(self.weights):
            unit, grain = uses[id(weight.structure)], weight.granularity
            for n, limit, p in zip(weight.shape, weight.max_width, _pair(weight), strict=True):
                least = min(weight.min_width, limit)
                own = torch.tensor([n, unit, grain, least, limit, i, int(p.requires_grad)])
                rows.append(own.expand(weight.num_blocks, -1))
        table = torch.cat([torch.zeros(0, 7, dtype=torch.long), *rows]).T
        self._size, self._unit, self._grain, self._least, self._most, self.layer, free = table
        self._free = free.bool()
        self._partner = _partners([w.num_blocks for w in self.weights])

    def parameters(self) -> list[Tensor]:
        """The parameters behind the vector, in its order."""
        return [p for weight in self.weights for p in _pair(weight)]

    def values(self) -> Tensor:
        """The vector now, on the host."""
        parts = [whole(p).cpu() for p in self.parameters()]
        return torch.cat(parts) if parts else torch.zeros(0)

    def write_(self, values: Tensor) -> None:
        """Replace the widths, on every process alike."""
        for p, part in zip(
            self.parameters(), values.split([len(p) for p in self.parameters()]), strict=True
        ):
            write_(p, part.to(p.device, p.dtype))

    def samples(self, values: Tensor) -> Tensor:
        """Whole widths, as the layers round them."""
        return whole_widths(values, self._size, self._grain, self._least, self._most)

    def costs(self, values: Tensor) -> Tensor:
        """What each width costs; nothing where its block lacks a side."""
        width = self.samples(values)
        return self._unit * width * (width[self._partner] > 0)

    def cost(self, values: Tensor) -> int:
        """What all of them cost."""
        return int(self.costs(values).sum())

    def layer_costs(self, values: Tensor) -> list[int]:
        """What each layer costs."""
        total = torch.zeros(len(self.weights), dtype=torch.long)
        return total.index_add_(0, self.layer, self.costs(values)).tolist()

    def projected(
        self, values: Tensor, budget: int, metric: str, limits: Sequence[Limits] | None = None
    ) -> Tensor:
        """The widths after the least common shrinkage that meets the budget.

        `metric` "width" takes the same τ off every width; "euclidean" takes τ c off, which
        is the nearest point in the Euclidean metric.
        """
        values = self.clipped(values)
        scale = self._free.to(values.dtype)
        if metric == "euclidean":
            scale = scale * self._unit * self._size
            scale = scale / scale.max().clamp(min=1)
        bounds = None if limits is None else self._thresholds(values, scale, limits)

        def shrunk(tau: float, *, past_floors: bool = False) -> Tensor:
            each: Any = tau
            if bounds is not None:
                cap, floor, past = bounds
                each = torch.full_like(cap, tau).clamp(cap, past if past_floors else floor)
                each = each[self.layer]
            return (values - each * scale).clamp(min=0)

        if self.cost(shrunk(0.0)) <= budget:
            return shrunk(0.0)
        low, high = 0.0, _highest(values, scale)
        if self.cost(shrunk(high)) > budget:  # of widths that tie at a floor, not all can stay
            return self._filled(shrunk(high), shrunk(high, past_floors=True), budget)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.cost(shrunk(middle)) > budget else (low, middle)
        return self._filled(shrunk(low), shrunk(high), budget)

    def clipped(self, values: Tensor) -> Tensor:
        """Widths between nothing and all that their layers allow; fixed ones as they are."""
        most = self._most.to(values.dtype) / self._size.to(values.dtype)
        return torch.where(self._free, values.clamp(min=0).minimum(most), values)

    def least(self, values: Tensor) -> list[int]:
        """What each layer costs once all widths that may shrink are gone."""
        return self.layer_costs(torch.where(self._free, 0, values))

    def _filled(self, more: Tensor, less: Tensor, budget: int) -> Tensor:
        """Of widths that tie at the threshold, leave as many wide as the budget allows."""
        tied = torch.nonzero(self.samples(more) > self.samples(less)).flatten()
        # Spread over all layers, by the golden ratio, so that no layer goes empty.
        tied = tied[torch.argsort(tied * 0.6180339887498949 % 1.0)]
        result = less.clone()
        low, high = 0, len(tied)
        while low < high:  # the cost grows with the number of widths left wide
            middle = (low + high + 1) // 2
            trial = less.clone()
            trial[tied[:middle]] = more[tied[:middle]]
            low, high = (middle, high) if self.cost(trial) <= budget else (low, middle - 1)
        result[tied[:low]] = more[tied[:low]]
        return result

    def _thresholds(
        self, values: Tensor, scale: Tensor, limits: Sequence[Limits]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """For every layer: τ that meets its cap, the largest τ above its floor, the next one."""

        def costs(tau: Tensor) -> Tensor:
            return torch.tensor(self.layer_costs((values - tau[self.layer] * scale).clamp(min=0)))

        def crossing(bound: list[int]) -> tuple[Tensor, Tensor]:
            """Neighbouring τ between which the cost falls below the bound."""
            least = torch.tensor(bound)
            low = torch.zeros(len(limits), dtype=values.dtype)
            high = torch.full_like(low, _highest(values, scale) + 1.0)
            for _ in range(_HALVINGS):
                middle = 0.5 * (low + high)
                above = costs(middle) >= least
                low, high = torch.where(above, middle, low), torch.where(above, high, middle)
            return torch.where(costs(0 * low) >= least, low, 0), high

        _, cap = crossing([limit.cap + 1 for limit in limits])
        cap = torch.where(costs(0 * cap) <= torch.tensor([x.cap for x in limits]), 0, cap)
        floor, past = crossing([limit.floor for limit in limits])
        return cap, torch.maximum(cap, floor), torch.maximum(cap, past)


def _pair(weight: GaudiWeight) -> tuple[Tensor, Tensor]:
    return weight.structure.row_width, weight.structure.col_width


def _highest(values: Tensor, scale: Tensor) -> float:
    """The τ at which nothing is left of any width that may shrink."""
    highest = torch.where(scale > 0, values / scale.clamp(min=1e-30), 0)
    return float(highest.max()) if len(highest) else 0.0


def _partners(counts: Sequence[int]) -> Tensor:
    """Index of the other side of every width's block."""
    parts, begin = [torch.zeros(0, dtype=torch.long)], 0
    for k in counts:
        own = torch.arange(begin, begin + k)
        parts += [own + k, own]
        begin += 2 * k
    return torch.cat(parts)
