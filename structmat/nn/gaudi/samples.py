"""From fractions of an axis to whole samples, the same in layers and in budgets."""

from typing import Any

import torch
from torch import Tensor


def whole_widths(width: Tensor, size: Any, grain: Any, least: Any, most: Any) -> Tensor:
    """The nearest multiples of the grain, or the whole axis, between two bounds.

    All but `width` may be whole numbers, or tensors of its shape.

    Examples
    --------
    >>> whole_widths(torch.tensor([0.0, 0.35, 0.8, 1.0]), 10, 4, 0, 10).tolist()
    [0, 4, 8, 10]
    """
    size, grain, least, most = (
        torch.as_tensor(value, device=width.device) for value in (size, grain, least, most)
    )
    samples = width.detach() * size.to(width)
    units = size // grain
    nearest = torch.round(samples / grain.to(width)).long().minimum(units) * grain
    # Half way from the last multiple to the end, where the axis is none.
    rest = size - units * grain
    full = samples - units * grain >= 0.5 * rest
    nearest = torch.where(full & (rest > 0), size, nearest)
    return nearest.maximum(least).minimum(most)


def whole_locations(location: Tensor, size: int, grain: int) -> Tensor:
    """The nearest multiples of the grain on each turn of the circle; they may lie off it.

    Examples
    --------
    >>> whole_locations(torch.tensor([0.0, 0.35, 0.95, 1.0]), 10, 4).tolist()
    [0, 4, 8, 10]
    """
    units = -(-size // grain)
    turn = torch.floor(location.detach())
    unit = torch.round((location.detach() - turn) * (size / grain)).long()
    # What rounds up beyond the last multiple begins the next turn.
    late = unit >= units
    return (turn.long() + late) * size + torch.where(late, 0, unit) * grain
