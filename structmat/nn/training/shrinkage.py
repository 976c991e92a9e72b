"""The published rules by which widths shrink (Lee & Kim, arXiv 2310.18882, Algorithm 1).

Their strength has to be searched for a wanted cost; `BudgetProjection` needs no search.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim

from structmat.errors import InputError
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import whole, write_
from structmat.nn.training.proximal import ProximalStep


class SoftThreshold(ProximalStep):
    """w ← max(w - η λ, 0), with η the learning rate of the widths: the published step.

    λ sets how fast widths shrink, not where they stop; `BudgetProjection` needs none.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer
    strength : float
        λ.
    target : float, optional
        Mean width of live blocks, averaged over layers, below which widths are left alone.
    power : float, optional
        With a target t and a mean width w, scale λ by ((w - t) / (1 - t)) ** power.
    freeze : bool
        Stop the learning of widths and locations for good once the target is reached.
    initial_strength : float, optional
        λ before `warmup` begins; it moves linearly to `strength` until that ends.
    warmup : tuple of int
        Steps at which that begins and ends.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear, parameter_groups
    >>> layer = GaudiLinear(32, 32, budget=0.5)
    >>> groups = parameter_groups(layer, lr=1e-3, structure_lr=5e-3)
    >>> rule = SoftThreshold(layer, torch.optim.SGD(groups), strength=2.0)
    >>> rule.threshold()
    0.01
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        strength: float,
        *,
        target: float | None = None,
        power: float | None = None,
        freeze: bool = False,
        initial_strength: float | None = None,
        warmup: tuple[int, int] = (0, 0),
    ) -> None:
        if not strength >= 0:
            raise InputError(f"strength = {strength!r}; expected at least 0")
        if target is None and (power is not None or freeze):
            raise InputError("power or freeze without a target; expected a target mean width")
        if target is not None and not 0 <= target < 1:
            raise InputError(f"target = {target!r}; expected a mean width in [0, 1)")
        if not 0 <= warmup[0] <= warmup[1]:
            raise InputError(f"warmup = {warmup!r}; expected two steps, in order")
        super().__init__(model, optimizer, "multiplications")
        self.strength, self.target, self.power, self.freeze = strength, target, power, freeze
        self.initial_strength = strength if initial_strength is None else initial_strength
        self.warmup = warmup
        #: Widths and locations to stay, once frozen.
        self._held: list[Tensor] | None = None

    def threshold(self) -> float:
        """What is taken off every width after the present step."""
        begin, end = self.warmup
        share = 1.0 if self.step >= end else max(self.step - begin, 0) / max(end - begin, 1)
        strength = self.initial_strength + share * (self.strength - self.initial_strength)
        if self.target is not None:
            excess = mean_width(self.weights) - self.target
            if excess <= 0:
                return 0.0
            if self.power is not None:
                strength *= (excess / (1 - self.target)) ** self.power
        return strength * self._learning_rate()

    def _learning_rate(self) -> float:
        widths = {id(p) for p in self.widths.parameters()}
        for group in self._optimizer.param_groups:
            if any(id(p) in widths for p in group["params"]):
                return float(group["lr"])
        return 0.0  # fixed widths do not shrink

    @torch.no_grad()
    def update(self) -> None:
        """Take the threshold off every width, or undo what a step did to frozen ones."""
        if self._held is not None:
            # Without gradients of their own, DistributedDataParallel would wait for them.
            for p, value in zip(self._structure(), self._held, strict=True):
                p.copy_(value)
            return
        _subtract_(self.widths.parameters(), self.threshold())
        self._tidy()
        if self.freeze and self.target is not None and mean_width(self.weights) <= self.target:
            self._hold()

    def _structure(self) -> list[Tensor]:
        return [p for weight in self.weights for p in weight.structure.parameters()]

    def _hold(self) -> None:
        self._held = [p.detach().clone() for p in self._structure()]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {**super().state_dict(), "frozen": self._held is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; the model's own is to be loaded before."""
        super().load_state_dict(state)
        self._held = None
        if state["frozen"]:
            self._hold()


class MeanShrink(ProximalStep):
    """Take off every width by how much their mean exceeds a target: a published rule.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer
    target : float
        Mean width of live blocks, averaged over layers.
    rate : float
        Share of the excess to take off; 1 goes all the way.
    every : int
        Steps from one shrinkage to the next.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear
    >>> layer = GaudiLinear(32, 32, width_init=0.5)
    >>> optimizer = torch.optim.SGD(layer.parameters())
    >>> rule = MeanShrink(layer, optimizer, target=0.25)
    >>> optimizer.step()
    >>> layer.matrix.structure.row_width[0].item()
    0.25
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        target: float,
        *,
        rate: float = 1.0,
        every: int = 1,
    ) -> None:
        if every < 1:
            raise InputError(f"every = {every!r}; expected at least 1 step")
        super().__init__(model, optimizer, "multiplications")
        self.target, self.rate, self.every = target, rate, every

    def update(self) -> None:
        """Shrink if it is time and the mean is above the target."""
        excess = mean_width(self.weights) - self.target
        if self.step % self.every == 0 and excess > 0:
            _subtract_(self.widths.parameters(), self.rate * excess)
        self._tidy()


def mean_width(weights: Iterable[GaudiWeight]) -> float:
    """Mean width of live blocks as a fraction of their axis, averaged over layers."""
    means = []
    for weight in weights:
        row, col = whole(weight.structure.row_width), whole(weight.structure.col_width)
        alive = (row > 0) & (col > 0)
        means.append(float((row + col)[alive].mean()) / 2 if bool(alive.any()) else 0.0)
    return sum(means) / len(means)


@torch.no_grad()
def _subtract_(parameters: Iterable[Tensor], threshold: float) -> None:
    for p in (p for p in parameters if p.requires_grad):
        write_(p, (whole(p) - threshold).clamp(0, 1))
