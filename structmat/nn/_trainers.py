"""What the callbacks of all trainers do: make the rules of a training, log and resume them."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn, optim

from structmat.errors import InputError
from structmat.nn.budget import BudgetProjection
from structmat.nn.schedule import SigmaSchedule

__all__ = ["Rules"]


class Rules:
    """A budget and a schedule of σ, for one training at a time.

    Parameters
    ----------
    budget : float
    projection, sigma : mapping
        Further options of `BudgetProjection` and of `SigmaSchedule`.
    """

    def __init__(
        self,
        budget: float,
        projection: Mapping[str, Any] | None,
        sigma: Mapping[str, Any] | None,
    ) -> None:
        self.budget = budget
        self.projection, self.sigma = dict(projection or {}), dict(sigma or {})
        self._running: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._loaded: Mapping[str, Any] = {}

    def begin(self, model: nn.Module, optimizer: optim.Optimizer, total_steps: float) -> None:
        """Follow an optimizer from now on, or on from a state that was loaded before."""
        if not 1 <= total_steps < math.inf:
            raise InputError(
                f"the trainer runs for {total_steps} steps; expected a finite number of at least 1 "
                "(set its max_steps)"
            )
        self.end()
        steps = int(total_steps)
        self._running = {
            "projection": BudgetProjection(model, optimizer, self.budget, steps, **self.projection),
            "schedule": SigmaSchedule(model, optimizer, steps, **self.sigma),
        }
        if self._loaded:
            self.load_state_dict(self._loaded)
            self._loaded = {}

    def end(self) -> None:
        """Leave the optimizer alone."""
        self._last = self.state_dict()
        for rule in self._running.values():
            rule.remove()
        self._running = {}

    def metrics(self) -> dict[str, float]:
        """Cost of the Gaudi layers as a fraction of dense, and σ; nothing outside training."""
        if not self._running:
            return {}
        return {
            "structure_cost": self._running["projection"].relative_cost,
            "structure_sigma": self._running["schedule"].sigma,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: of the training now, or of the last one."""
        if not self._running:
            return self._last
        return {name: rule.state_dict() for name, rule in self._running.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, now or when training begins."""
        if not self._running:
            self._loaded = state
        for name, rule in self._running.items():
            rule.load_state_dict(state[name])
