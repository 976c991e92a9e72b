"""The projection of widths onto one budget on a device: no value is read by the host.

The same threshold as in `projection`, found by cuts of a bracket into many parts at once, and the
same widths among those that tie.
"""

import torch
from torch import Tensor

from structmat.nn.training.projection import GOLDEN_FRACTION, metric_scale
from structmat.nn.training.widths import Widths

#: Parts into which each round cuts the bracket of τ: together 26 halvings.
_PARTS = (16, 16, 16, 16, 16, 16, 4)


def projected_apart(widths: Widths, values: Tensor, budget: int, metric: str) -> Tensor:
    """Lower widths by the least common threshold that meets the budget, on their device.

    Launches some 450 operations, for any number of widths.
    """
    if not len(values):
        return values
    values = widths.clipped(values)
    scale = metric_scale(widths, values, metric)

    def shrunk(tau: Tensor) -> Tensor:
        return (values - tau.to(values.dtype)[..., None] * scale).clamp(min=0)

    highest = torch.where(scale > 0, values / scale.clamp(min=1e-30), 0).amax()
    low, high = torch.zeros_like(highest, dtype=torch.float64), highest.double()
    for parts in _PARTS:
        steps = torch.arange(parts + 1, dtype=torch.float64, device=values.device)
        bounds = low + (high - low) * (steps / parts)
        over = widths.costs(shrunk(bounds[1:-1])).sum(-1) > budget
        at = over.sum()
        low, high = bounds.gather(0, torch.stack([at, at + 1])).unbind()
    found = _filled(widths, shrunk(low), shrunk(high), budget)
    fits = widths.costs(shrunk(torch.zeros_like(low))).sum() <= budget
    return torch.where(fits, shrunk(torch.zeros_like(low)), found)


def _filled(widths: Widths, more: Tensor, less: Tensor, budget: int) -> Tensor:
    """Among widths that tie at a threshold, leave as many wide as fit."""
    count = len(more)
    wide, narrow = widths.samples(more), widths.samples(less)
    tied = wide > narrow
    place = torch.arange(count, device=more.device)
    # Spread over all layers, so that none becomes empty.
    order = torch.argsort(place.double() * GOLDEN_FRACTION % 1.0, stable=True)
    rank = torch.empty_like(place).scatter_(0, order, tied[order].cumsum(0))
    rank = torch.where(tied, rank, count + 1)
    # At the edge of a sample, half of them would lose it in the next step.
    inside = torch.where(widths.free & (tied.sum() > 1), wide.to(more.dtype) / widths.size, more)
    wide = widths.samples(inside)
    chosen = rank <= _most_that_fit(widths, wide, narrow, rank, budget)
    return torch.where(chosen, inside, less)


def _most_that_fit(
    widths: Widths, wide: Tensor, narrow: Tensor, rank: Tensor, budget: int
) -> Tensor:
    """Largest number of widths, in the order of their ranks, that may be wide under a budget.

    A width costs something else from its own rank on, and from that of the other side on.
    """
    count, partner = len(rank), widths.partner
    other = rank[partner]
    first, last = torch.minimum(rank, other), torch.maximum(rank, other)
    middle = torch.where(rank < other, wide, narrow)
    before, between, after = (
        widths.unit * own * (beside[partner] > 0)
        for own, beside in ((narrow, narrow), (middle, middle), (wide, wide))
    )
    # Untied widths have ranks beyond all others, where no change is counted.
    changes = torch.zeros(count + 2, dtype=before.dtype, device=rank.device)
    changes = changes.scatter_add(0, first, between - before)
    changes = changes.scatter_add(0, last, after - between)
    costs = before.sum() + changes[1 : count + 1].cumsum(0)
    present = torch.where(rank <= count, rank, 0).amax()
    steps = torch.arange(1, count + 1, device=rank.device)
    return ((costs <= budget) & (steps <= present)).sum()
