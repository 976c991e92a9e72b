"""Schedule of the sharpness σ of all Gaudi masks."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn, optim

from structmat.errors import InputError
from structmat.nn.gaudi.masks import check_sigma
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.training.optimizers import Followed
from structmat.nn.training.step_hook import StepHook


class SigmaSchedule:
    """Sharpen the masks of all Gaudi weights while training goes on.

    σ is `start` during warm-up, then grows linearly to `stop`, and stays there during
    cool-down (Lee & Kim, arXiv 2310.18882, section 5, with 1 and 100).

    Parameters
    ----------
    model : torch.nn.Module
        Its present Gaudi weights follow; their σ is set at once.
    optimizer : torch.optim.Optimizer, or a list of them
        All that train parameters of Gaudi layers.
    total_steps : int
        Steps of the whole training.
    start, stop : float
        σ at the two ends; both ∞ for boxcars throughout.
    warmup, cooldown : float
        Shares of `total_steps`.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear
    >>> layer = GaudiLinear(8, 8)
    >>> optimizer = torch.optim.AdamW(layer.parameters())
    >>> schedule = SigmaSchedule(layer, optimizer, total_steps=10)
    >>> [schedule.at(step) for step in (0, 1, 5, 9)]
    [1.0, 1.0, 50.5, 100.0]
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer | Iterable[optim.Optimizer],
        total_steps: int,
        *,
        start: float = 1.0,
        stop: float = 100.0,
        warmup: float = 0.1,
        cooldown: float = 0.1,
    ) -> None:
        check_sigma(start)
        check_sigma(stop)
        if math.isinf(start) != math.isinf(stop):
            raise InputError(
                f"sigma from {start!r} to {stop!r}; expected two finite numbers, or twice math.inf"
            )
        if not 0 <= warmup <= 1 - cooldown <= 1:
            raise InputError(
                f"warmup = {warmup!r} and cooldown = {cooldown!r}; expected shares of the training "
                "that leave room between them"
            )
        if total_steps < 1:
            raise InputError(f"total_steps = {total_steps!r}; expected at least 1")
        self.start, self.stop = float(start), float(stop)
        self._rise_steps = warmup * total_steps, (1 - cooldown) * total_steps
        self._weights = [w for w in model.modules() if isinstance(w, GaudiWeight)]
        self._hook = StepHook(Followed(model, optimizer), self.update)
        self.update()

    def at(self, step: int) -> float:
        """σ after a number of steps."""
        begin, end = self._rise_steps
        if self.start == self.stop or step >= end:
            return self.stop
        share = max(step - begin, 0.0) / max(end - begin, 1e-9)
        return self.start + share * (self.stop - self.start)

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._hook.step

    @property
    def sigma(self) -> float:
        """Present σ."""
        return self.at(self.step)

    def update(self) -> None:
        """Give every Gaudi weight the present σ."""
        for weight in self._weights:
            weight.sigma = self.sigma

    def remove(self) -> None:
        """Leave the optimizer alone from now on."""
        self._hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self._hook.step = state["step"]
        self.update()
