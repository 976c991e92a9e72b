"""Widths and locations as parameters, in a module of their own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from structmat.nn.gaudi.initial_runs import Runs


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

    Examples
    --------
    >>> from structmat.nn.gaudi.initial_runs import grid_runs
    >>> GaudiStructure(grid_runs((4, 4), 16)).bfloat16().row_width
    Parameter containing:
    tensor([0.5000, 0.5000, 0.5000, 0.5000], requires_grad=True)
    """

    def __init__(
        self, runs: Runs, *, learn_widths: bool = True, learn_locations: bool = True
    ) -> None:
        super().__init__()
        for name, value in runs._asdict().items():
            learn = learn_widths if name.endswith("width") else learn_locations
            value = value.detach().clone()
            value = value if value.dtype == torch.float64 else value.float()
            setattr(self, name, nn.Parameter(value, requires_grad=learn))

    def forward(self) -> Runs:
        """The runs, apart from the parameters' own storage.

        Sharded training frees that storage when the call returns.
        """
        return Runs(*(getattr(self, name).clone() for name in Runs._fields))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def keeping_precision(t: Tensor) -> Tensor:
            moved = fn(t)
            return t.to(moved.device) if moved.dtype in (torch.float16, torch.bfloat16) else moved

        return super()._apply(keeping_precision, recurse)
