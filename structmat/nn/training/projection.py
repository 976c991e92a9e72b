"""Projection of a network's widths onto one budget.

Soft thresholding by τ, w ← max(w - τ, 0), lowers every width alike: it is the proximal
step of an ℓ1 penalty. The projection finds the one τ, over all layers together, under
which the cost meets the budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from structmat.nn.training.widths import Widths

METRICS = ("width", "euclidean")
#: Halvings of the bracket of τ: to the last bit of a width in single precision.
_TAU_HALVINGS = 26
#: Fraction of a circle whose multiples spread evenly, in whatever number.
GOLDEN_FRACTION = 0.6180339887498949


@dataclass(frozen=True)
class Limits:
    """Least and greatest cost of a layer, in the unit of the budget."""

    floor: int
    cap: int


def projected(
    widths: Widths,
    values: Tensor,
    budget: int,
    metric: str = "width",
    limits: Sequence[Limits] | None = None,
) -> Tensor:
    """Lower values of widths by the least common threshold that meets the budget.

    The metric "width" takes the same τ off every width; "euclidean" takes τ c off, which gives
    the nearest point in the Euclidean metric. There is one of `limits` for each layer.
    """
    values = widths.clipped(values)
    scale = metric_scale(widths, values, metric)
    cap = torch.zeros(len(widths.layers), dtype=values.dtype, device="cpu")
    kept = torch.zeros_like(values)
    if limits is not None:
        cap, kept = _bounds(widths, values, scale, limits, budget)

    def shrunk(tau: float) -> Tensor:
        each = cap.clamp(min=tau)[widths.layer]
        return (values - each * scale).clamp(min=0).maximum(kept)

    if widths.cost(shrunk(0.0)) <= budget:
        return shrunk(0.0)
    low, high = 0.0, _highest(values, scale)
    for _ in range(_TAU_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if widths.cost(shrunk(middle)) > budget else (low, middle)
    more, less = shrunk(low), shrunk(high)
    return _filled(widths, more, less, lambda trial: widths.cost(trial) <= budget)


def metric_scale(widths: Widths, values: Tensor, metric: str) -> Tensor:
    """Multiples of τ that a metric takes off each width; none off a fixed one."""
    scale = widths.free.to(values.dtype)
    if metric == "euclidean":
        scale = scale * widths.unit * widths.size
        scale = scale / scale.max().clamp(min=1)
    return scale


def _highest(values: Tensor, scale: Tensor) -> float:
    """Least τ at which every width that may shrink is zero."""
    highest = torch.where(scale > 0, values / scale.clamp(min=1e-30), 0)
    return float(highest.max()) if len(highest) else 0.0


def _filled(
    widths: Widths, more: Tensor, less: Tensor, fits: Callable[[Tensor], bool], beyond: int = 0
) -> Tensor:
    """Among widths that tie at a threshold, leave as many wide as fit, and `beyond` more."""
    tied = torch.nonzero(widths.samples(more) > widths.samples(less)).flatten()
    # Spread over all layers, so that none becomes empty.
    tied = tied[torch.argsort(tied.double() * GOLDEN_FRACTION % 1.0, stable=True)]
    if len(tied) > 1:
        # At the edge of a sample, half of them would lose it in the next step.
        size = widths.size.to(more.dtype)
        more = torch.where(widths.free, widths.samples(more).to(more.dtype) / size, more)
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
    widths: Widths, values: Tensor, scale: Tensor, limits: Sequence[Limits], budget: int
) -> tuple[Tensor, Tensor]:
    """Find the τ by which each layer meets its cap, and the widths that its floor keeps."""

    def costs(tau: Tensor) -> Tensor:
        shrunk = (values - tau[widths.layer] * scale).clamp(min=0)
        return torch.tensor(widths.layer_costs(shrunk), device="cpu")

    def crossing(bounds: list[int]) -> tuple[Tensor, Tensor]:
        """Neighbouring τ: at the first the cost is at least the bound, at the other below."""
        least = torch.tensor(bounds, device="cpu")
        low = torch.zeros(len(limits), dtype=values.dtype, device="cpu")
        high = torch.full_like(low, _highest(values, scale) + 1.0)
        for _ in range(_TAU_HALVINGS):
            middle = 0.5 * (low + high)
            above = costs(middle) >= least
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return low, high

    _, cap = crossing([limit.cap + 1 for limit in limits])
    over = costs(0 * cap) > torch.tensor([limit.cap for limit in limits], device="cpu")
    cap = torch.where(over, cap, 0)
    met, missed = (
        (values - tau[widths.layer] * scale).clamp(min=0)
        for tau in crossing([limit.floor for limit in limits])
    )
    kept = _kept(widths, met, missed, limits, beyond=1)
    if widths.cost(kept) > budget:  # each may keep up to a block more than its floor
        kept = _kept(widths, met, missed, limits, beyond=0)
    return cap, kept


def _kept(
    widths: Widths, more: Tensor, less: Tensor, limits: Sequence[Limits], *, beyond: int
) -> Tensor:
    """Least widths that each layer keeps for its floor; of ties, just enough or one too few."""
    kept = torch.where(widths.free, 0, more)
    for i, limit in enumerate(limits):
        if limit.floor == 0:
            continue
        own = widths.layer == i

        def below(trial: Tensor, i: int = i, floor: int = limit.floor) -> bool:
            cost = widths.layer_costs(trial)[i]
            return cost < floor if beyond else cost <= floor

        filled = _filled(widths, torch.where(own, more, less), less, below, beyond)
        kept = torch.where(own, filled, kept)
    return kept
