"""Unstructured pruning while training: the ceiling of what a learned structure can reach.

Gradual magnitude pruning (Zhu and Gupta, arXiv 1710.01878): a dense layer loses its smallest
entries by a cubic schedule, each layer under its own cap. Every entry that is left counts as
one multiplication, without the price of its position: no kernel is as fast. Entries that are
left take larger steps, as in layers that learn their structure.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models._replacing import check_linear
from benchmarks.results import BenchmarkError
from structmat.nn.models.modules import replace_

__all__ = ["PrunedLinear", "Pruning", "convert_to_pruned_"]

#: Size of the first weights over those of `nn.Linear`: small ones are ranked by what they learn.
START_SCALE = 0.3
#: Shares of the steps at which entries begin and cease to be dropped, and between two drops.
RAMP, EVERY = (0.1, 0.6), 0.05
#: Largest gain: that of `structmat.nn.Anneal`.
MOST_GAIN = 8.0

Filter = Callable[[str, nn.Module], bool]


class PrunedLinear(nn.Module):
    """A linear layer whose weight is zero outside of its support.

    Parameters
    ----------
    dense : nn.Linear
        Layer that it replaces; the bias is shared with it.
    kept : Tensor of bool, shape (m, n), optional
        The support; everything, if it is left out.
    scale : float
        Factor of the dense layer's weights.

    Attributes
    ----------
    weight : torch.nn.Parameter, shape (m, n)
    kept : Tensor of bool, shape (m, n)

    Examples
    --------
    >>> layer = PrunedLinear(nn.Linear(6, 4), torch.eye(4, 6).bool())
    >>> layer(torch.zeros(2, 6)).shape, layer.cost
    (torch.Size([2, 4]), 4)
    """

    kept: Tensor
    gain: Tensor

    def __init__(self, dense: nn.Linear, kept: Tensor | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(scale * dense.weight.detach())
        self.bias = dense.bias
        self.register_buffer("kept", torch.ones_like(self.weight, dtype=torch.bool))
        self.register_buffer("gain", torch.ones(()))
        if kept is not None:
            self.keep_(kept)
            self.follow_()

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, n) to (…, m)."""
        return F.linear(x, self.weight * (self.gain * self.kept), self.bias)

    @property
    def cost(self) -> int:
        """Multiplications for one vector: the entries of the support."""
        return int(self.kept.sum())

    @torch.no_grad()
    def keep_(self, kept: Tensor) -> None:
        """Set the support, and all other entries to zero."""
        self.kept.copy_(kept)
        self.weight.mul_(self.kept)

    @torch.no_grad()
    def follow_(self) -> float:
        """Have the gain be the inverse share of entries; returns its ratio to the old one.

        The weight stays the same: only steps of an optimizer like Adam grow.
        """
        share = max(self.cost, 1) / max(self.weight.numel(), 1)
        ratio = 2.0 ** math.floor(math.log2(min(1 / share, MOST_GAIN))) / float(self.gain)
        self.gain.mul_(ratio)
        self.weight.div_(ratio)
        return ratio

    @torch.no_grad()
    def largest(self, count: int) -> Tensor:
        """Support of the `count` largest entries by magnitude."""
        flat = self.weight.abs().flatten()
        kept = torch.zeros_like(flat, dtype=torch.bool)
        kept[flat.topk(count).indices] = True
        return kept.view_as(self.weight)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"shape={tuple(self.weight.shape)}, cost={self.cost}"


class Pruning:
    """Rule of a training that brings all `PrunedLinear` layers down to a budget.

    Parameters
    ----------
    model : Module
    optimizer : torch.optim.Optimizer
    budget : float
        Entries that each layer keeps, as a fraction.
    total_steps : int

    Attributes
    ----------
    step : int
        Optimizer steps counted so far.

    Examples
    --------
    >>> model = nn.Sequential(PrunedLinear(nn.Linear(8, 8)))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> rule = Pruning(model, optimizer, 0.25, total_steps=10)
    >>> for _ in range(10):
    ...     model(torch.ones(1, 8)).sum().backward()
    ...     optimizer.step()
    >>> model[0].cost
    16
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, budget: float, total_steps: int
    ) -> None:
        self._layers = [m for m in model.modules() if isinstance(m, PrunedLinear)]
        if not self._layers:
            raise BenchmarkError("no PrunedLinear in the model; expected one (convert it first)")
        self._budget, self._total = budget, total_steps
        self._every = max(1, round(EVERY * total_steps))
        self.step = 0
        self._optimizer = optimizer
        self._handle = optimizer.register_step_post_hook(lambda *_: self.update())

    def cap(self, step: int) -> float:
        """Share of the entries that are kept after a step."""
        first, last = (share * self._total for share in RAMP)
        done = min(1.0, max(0.0, (step - first) / max(last - first, 1)))
        return self._budget + (1 - self._budget) * (1 - done) ** 3

    def update(self) -> None:
        """Count a step, drop entries when it is time, and hold the dropped ones at zero."""
        self.step += 1
        last = round(RAMP[1] * self._total)
        due = self.step == last or (self.step < last and self.step % self._every == 0)
        for layer in self._layers:
            kept = layer.kept
            if due:
                kept = layer.largest(int(self.cap(self.step) * kept.numel()))
            layer.keep_(kept)
            if due:
                self._rescale(layer.weight, layer.follow_())

    def _rescale(self, weight: Tensor, ratio: float) -> None:
        """Moments of gradients that are `ratio` as large."""
        moments = self._optimizer.state[weight]
        for name, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
            if name in moments:
                moments[name].mul_(ratio**power)

    def remove(self) -> None:
        """Leave the optimizer alone from now on."""
        self._handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """Steps counted; the supports are buffers of the layers."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.step = state["step"]


def convert_to_pruned_(
    model: nn.Module,
    filter_fn: Filter,
    *,
    frozen_at: float | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, PrunedLinear]:
    """Replace linear layers by `PrunedLinear` ones, in place; the new layers by name.

    Parameters
    ----------
    model : Module
    filter_fn : callable
        ``filter_fn(name, module)`` says which linear layers to replace.
    frozen_at : float, optional
        Fraction of the entries to keep at random from the beginning, drawn as large as the
        output needs; without it, everything, to be pruned while training.
    generator : torch.Generator, optional

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    >>> new = convert_to_pruned_(model, lambda name, _: name == "0", frozen_at=0.25)
    >>> new["0"].cost, model[0] is new["0"]
    (128, True)
    """
    chosen = {n: check_linear(n, m) for n, m in model.named_modules() if filter_fn(n, m)}
    new = {}
    for name, dense in chosen.items():
        if frozen_at is None:
            new[name] = PrunedLinear(dense, scale=START_SCALE)
            continue
        size = dense.weight.numel()
        kept = torch.zeros(size, dtype=torch.bool)
        kept[torch.randperm(size, generator=generator)[: int(frozen_at * size)]] = True
        new[name] = PrunedLinear(dense, kept.view_as(dense.weight), scale=frozen_at**-0.5)
    replace_(model, {chosen[name]: layer for name, layer in new.items()})
    return new
