"""The widths of all blocks of a network, and the exact projection onto one budget.

Widths w are fractions of their axis. With c the multiplications (or scalars) behind a
full width, the network costs Σ c w, in whole samples and over blocks that have both
sides. Soft thresholding by τ, w ← max(w - τ, 0), lowers every width alike: it is the
proximal step of an ℓ1 penalty. The projection finds the one τ, over all layers
together, under which the cost meets the budget.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from structmat.errors import InputError
from structmat.nn.gaudi.structure import widths_to_samples
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import whole, write_

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
                facts = [n, unit, grain, least, limit, i, int(p.requires_grad)]
                own = torch.tensor(facts, device="cpu")
                rows.append(own.expand(weight.num_blocks, -1))
        table = torch.cat([torch.zeros(0, 7, dtype=torch.long, device="cpu"), *rows]).T
        self._size, self._unit, self._grain, self._least, self._most, self.layer, free = table
        self._free = free.bool()
        self._partner = _partners([w.num_blocks for w in self.weights])

    def parameters(self) -> list[Tensor]:
        """The parameters behind the vector, in its order."""
        return [p for weight in self.weights for p in _pair(weight)]

    def values(self) -> Tensor:
        """The vector now, on the host."""
        parts = [whole(p).cpu() for p in self.parameters()]
        return torch.cat(parts) if parts else torch.zeros(0, device="cpu")

    def write_(self, values: Tensor) -> None:
        """Replace the widths, on every process alike."""
        for p, part in zip(
            self.parameters(), values.split([len(p) for p in self.parameters()]), strict=True
        ):
            write_(p, part.to(p.device, p.dtype))

    def samples(self, values: Tensor) -> Tensor:
        """Whole widths, as the layers round them."""
        return widths_to_samples(values, self._size, self._grain, self._least, self._most)

    def costs(self, values: Tensor) -> Tensor:
        """What each width costs; nothing where its block lacks a side."""
        width = self.samples(values)
        return self._unit * width * (width[self._partner] > 0)

    def cost(self, values: Tensor) -> int:
        """What all of them cost."""
        return int(self.costs(values).sum())

    def layer_costs(self, values: Tensor) -> list[int]:
        """What each layer costs."""
        total = torch.zeros(len(self.weights), dtype=torch.long, device="cpu")
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
        cap = torch.zeros(len(self.weights), dtype=values.dtype, device="cpu")
        kept = torch.zeros_like(values)
        if limits is not None:
            cap, kept = self._bounds(values, scale, limits, budget)

        def shrunk(tau: float) -> Tensor:
            each = cap.clamp(min=tau)[self.layer]
            return (values - each * scale).clamp(min=0).maximum(kept)

        if self.cost(shrunk(0.0)) <= budget:
            return shrunk(0.0)
        low, high = 0.0, _highest(values, scale)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.cost(shrunk(middle)) > budget else (low, middle)
        more, less = shrunk(low), shrunk(high)
        return self._filled(more, less, lambda trial: self.cost(trial) <= budget)

    def clipped(self, values: Tensor) -> Tensor:
        """Widths between nothing and all that their layers allow; fixed ones as they are."""
        most = self._most.to(values.dtype) / self._size.to(values.dtype)
        return torch.where(self._free, values.clamp(min=0).minimum(most), values)

    def least(self, values: Tensor) -> list[int]:
        """What each layer costs once all widths that may shrink are gone."""
        return self.layer_costs(torch.where(self._free, 0, values))

    def _filled(
        self, more: Tensor, less: Tensor, fits: Callable[[Tensor], bool], beyond: int = 0
    ) -> Tensor:
        """Of widths that tie at a threshold, leave as many wide as fit, and so many beyond."""
        tied = torch.nonzero(self.samples(more) > self.samples(less)).flatten()
        # Spread over all layers, by the golden ratio, so that no layer goes empty.
        tied = tied[torch.argsort(tied.double() * 0.6180339887498949 % 1.0, stable=True)]
        if len(tied) > 1:
            # They stand at the edge of a sample, and half would fall off in the next step.
            size = self._size.to(more.dtype)
            more = torch.where(self._free, self.samples(more).to(more.dtype) / size, more)
        low, high = 0, len(tied)
        while low < high:  # the cost grows with the number of widths left wide
            middle = (low + high + 1) // 2
            trial = less.clone()
            trial[tied[:middle]] = more[tied[:middle]]
            low, high = (middle, high) if fits(trial) else (low, middle - 1)
        result, chosen = less.clone(), tied[: low + beyond]
        result[chosen] = more[chosen]
        return result

    def _bounds(
        self, values: Tensor, scale: Tensor, limits: Sequence[Limits], budget: int
    ) -> tuple[Tensor, Tensor]:
        """For every layer the τ that its cap asks for; widths that floors keep, others zero."""

        def costs(tau: Tensor) -> Tensor:
            shrunk = (values - tau[self.layer] * scale).clamp(min=0)
            return torch.tensor(self.layer_costs(shrunk), device="cpu")

        def crossing(bounds: list[int]) -> tuple[Tensor, Tensor]:
            """Neighbouring τ: at the first the cost is at least the bound, at the other not."""
            least = torch.tensor(bounds, device="cpu")
            low = torch.zeros(len(limits), dtype=values.dtype, device="cpu")
            high = torch.full_like(low, _highest(values, scale) + 1.0)
            for _ in range(_HALVINGS):
                middle = 0.5 * (low + high)
                above = costs(middle) >= least
                low, high = torch.where(above, middle, low), torch.where(above, high, middle)
            return low, high

        _, cap = crossing([limit.cap + 1 for limit in limits])
        over = costs(0 * cap) > torch.tensor([limit.cap for limit in limits], device="cpu")
        cap = torch.where(over, cap, 0)
        met, missed = crossing([limit.floor for limit in limits])
        kept = self._kept(values, scale, limits, (met, missed), beyond=1)
        if self.cost(kept) > budget:  # each may keep up to a block more than its floor
            kept = self._kept(values, scale, limits, (met, missed), beyond=0)
        return cap, kept

    def _kept(
        self,
        values: Tensor,
        scale: Tensor,
        limits: Sequence[Limits],
        taus: tuple[Tensor, Tensor],
        *,
        beyond: int,
    ) -> Tensor:
        """The least that each layer keeps for its floor; of ties, just enough or one too few."""
        more, less = ((values - tau[self.layer] * scale).clamp(min=0) for tau in taus)
        kept = torch.where(self._free, 0, values)
        for i, limit in enumerate(limits):
            if limit.floor == 0:
                continue
            own = self.layer == i

            def below(trial: Tensor, i: int = i, floor: int = limit.floor) -> bool:
                cost = self.layer_costs(trial)[i]
                return cost < floor if beyond else cost <= floor

            filled = self._filled(torch.where(own, more, less), less, below, beyond)
            kept = torch.where(own, filled, kept)
        return kept


def _pair(weight: GaudiWeight) -> tuple[Tensor, Tensor]:
    return weight.structure.row_width, weight.structure.col_width


def _highest(values: Tensor, scale: Tensor) -> float:
    """The τ at which nothing is left of any width that may shrink."""
    highest = torch.where(scale > 0, values / scale.clamp(min=1e-30), 0)
    return float(highest.max()) if len(highest) else 0.0


def _partners(counts: Sequence[int]) -> Tensor:
    """Index of the other side of every width's block."""
    parts, begin = [torch.zeros(0, dtype=torch.long, device="cpu")], 0
    for k in counts:
        own = torch.arange(begin, begin + k, device="cpu")
        parts += [own + k, own]
        begin += 2 * k
    return torch.cat(parts)
