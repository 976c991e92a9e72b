"""Widths and locations of all blocks as fractions, as parameters, and in whole samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from structmat.nn.structured.parameters import register


class Runs(NamedTuple):
    """Runs of all blocks as fractions of their axis, each of shape (K,)."""

    row_width: Tensor
    row_location: Tensor
    col_width: Tensor
    col_location: Tensor


class GaudiStructure(nn.Module):
    """Widths and locations of blocks as parameters: fractions of their axis, each (K,).

    They stay in single precision at least, whatever dtype the contents have: a
    half-precision width could not tell neighbouring samples apart.

    Parameters
    ----------
    runs : Runs
        Initial values.
    learn_widths, learn_locations : bool
        Whether they are trained.

    Attributes
    ----------
    is_pinned : bool
        Whether a rule moves the runs and makes all their gradients zero, so that products
        need not compute them.

    Examples
    --------
    >>> from structmat.nn.gaudi.initial_runs import grid_runs
    >>> GaudiStructure(grid_runs((4, 4), 16)).bfloat16().row_width
    Parameter containing:
    tensor([0.5000, 0.5000, 0.5000, 0.5000], requires_grad=True)
    """

    # Of the class, so that objects pickled without it have it as well.
    is_pinned: bool = False

    def __init__(
        self, runs: Runs, *, learn_widths: bool = True, learn_locations: bool = True
    ) -> None:
        super().__init__()
        for name, value in runs._asdict().items():
            learn = learn_widths if name.endswith("width") else learn_locations
            value = value.detach().clone()
            value = value if value.dtype == torch.float64 else value.float()
            register(self, name, value, trained=learn)

    def forward(self) -> Runs:
        """Copies of the parameters, which outlive the storage that sharding frees."""
        return Runs(*torch.stack([getattr(self, name) for name in Runs._fields]).unbind())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.is_pinned = False  # a copy is in the hands of no rule

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def keeping_precision(t: Tensor) -> Tensor:
            moved = fn(t)
            return t.to(moved.device) if moved.dtype in (torch.float16, torch.bfloat16) else moved

        return super()._apply(keeping_precision, recurse)


def widths_to_samples(
    width: Tensor,
    size: int | Tensor,
    grain: int | Tensor,
    least: int | Tensor,
    most: int | Tensor,
) -> Tensor:
    """Nearest multiples of the grain, or the whole axis, between two bounds.

    Layers and budgets round widths by this one function. All but `width` are whole
    numbers, or tensors of its shape.

    Examples
    --------
    >>> widths_to_samples(torch.tensor([0.0, 0.35, 0.8, 1.0]), 10, 4, 0, 10).tolist()
    [0, 4, 8, 10]
    """
    size, grain, least, most = (
        torch.as_tensor(value, device=width.device) for value in (size, grain, least, most)
    )
    samples = width.detach() * size.to(width)
    units = size // grain
    nearest = torch.round(samples / grain.to(width)).long().minimum(units) * grain
    # An axis that is no multiple: from half way between its last multiple and its end.
    rest = size - units * grain
    full = samples - units * grain >= 0.5 * rest
    nearest = torch.where(full & (rest > 0), size, nearest)
    return nearest.maximum(least).minimum(most)


def locations_to_samples(location: Tensor, size: int, grain: int) -> Tensor:
    """Nearest multiples of the grain on each turn of the circle; they may lie off it.

    Examples
    --------
    >>> locations_to_samples(torch.tensor([0.0, 0.35, 0.95, 1.0]), 10, 4).tolist()
    [0, 4, 8, 10]
    """
    units = -(-size // grain)
    turn = torch.floor(location.detach())
    unit = torch.round((location.detach() - turn) * (size / grain)).long()
    # A location that rounds up beyond the last multiple begins the next turn.
    late = unit >= units
    return (turn.long() + late) * size + torch.where(late, 0, unit) * grain
