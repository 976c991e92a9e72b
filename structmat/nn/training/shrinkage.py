"""Published rules that shrink widths (Lee & Kim, arXiv 2310.18882, Algorithm 1).

Their strength has to be searched for a wanted cost; `BudgetProjection` needs no search.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim

from structmat.errors import InputError
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import whole, write_
from structmat.nn.training.optimizers import Followed
from structmat.nn.training.step_hook import StepHook
from structmat.nn.training.widths import Widths, wrap_locations_


class SoftThreshold:
    """Published step w ← max(w - η λ, 0), with η the learning rate of the widths.

    λ sets how fast widths shrink, not where they stop; `BudgetProjection` needs none.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer, or a list of them
    strength : float
        λ.
    target : float, optional
        Mean width of live blocks, averaged over layers, below which widths stay.
    power : float, optional
        With a target t and a mean width w, scale λ by ((w - t) / (1 - t)) ** power.
    freeze : bool
        Stop the learning of widths and locations for good once the target is reached.
    initial_strength : float, optional
        λ before `warmup` begins; during warm-up λ moves linearly to `strength`.
    warmup : tuple of int
        Steps at which warm-up begins and ends.

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
        optimizer: optim.Optimizer | Iterable[optim.Optimizer],
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
        self.widths = Widths(model, "multiplications")
        self.weights, self.names = self.widths.weights, self.widths.names
        self.strength, self.target, self.power, self.freeze = strength, target, power, freeze
        self.initial_strength = strength if initial_strength is None else initial_strength
        self.warmup = warmup
        #: Values that widths and locations keep, once frozen.
        self._frozen: list[Tensor] | None = None
        self._hook = StepHook(Followed(model, optimizer), self.update)

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._hook.step

    def threshold(self) -> float:
        """Amount to take off every width after the present step."""
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
        for group in (g for o in self._hook.followed.optimizers for g in o.param_groups):
            if any(id(p) in widths for p in group["params"]):
                return float(group["lr"])
        return 0.0  # fixed widths do not shrink

    @torch.no_grad()
    def update(self) -> None:
        """Take the threshold off every width, or undo a step's change of frozen ones."""
        if self._frozen is not None:
            # They keep their gradients, as DistributedDataParallel waits for those.
            for p, value in zip(self._structure(), self._frozen, strict=True):
                p.copy_(value)
            return
        _subtract_(self.widths.parameters(), self.threshold())
        wrap_locations_(self.weights)
        if self.freeze and self.target is not None and mean_width(self.weights) <= self.target:
            self._freeze()

    def _structure(self) -> list[Tensor]:
        return [p for weight in self.weights for p in weight.structure.parameters()]

    def _freeze(self) -> None:
        self._frozen = [p.detach().clone() for p in self._structure()]

    def remove(self) -> None:
        """Leave the optimizer alone from now on."""
        self._hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"step": self.step, "frozen": self._frozen is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint; load the model's own before."""
        self._hook.step = state["step"]
        self._frozen = None
        if state["frozen"]:
            self._freeze()


class MeanShrink:
    """Take the excess of the mean width over a target off every width: a published rule.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer, or a list of them
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
        optimizer: optim.Optimizer | Iterable[optim.Optimizer],
        target: float,
        *,
        rate: float = 1.0,
        every: int = 1,
    ) -> None:
        if every < 1:
            raise InputError(f"every = {every!r}; expected at least 1 step")
        self.widths = Widths(model, "multiplications")
        self.weights, self.names = self.widths.weights, self.widths.names
        self.target, self.rate, self.every = target, rate, every
        self._hook = StepHook(Followed(model, optimizer), self.update)

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._hook.step

    def update(self) -> None:
        """Shrink if it is time and the mean is above the target."""
        excess = mean_width(self.weights) - self.target
        if self.step % self.every == 0 and excess > 0:
            _subtract_(self.widths.parameters(), self.rate * excess)
        wrap_locations_(self.weights)

    def remove(self) -> None:
        """Leave the optimizer alone from now on."""
        self._hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self._hook.step = state["step"]


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
