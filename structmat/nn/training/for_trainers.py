"""Rules behind the callbacks of all trainers: made, logged and resumed."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn, optim

from structmat.errors import InputError
from structmat.nn.training.anneal import Anneal
from structmat.nn.training.budget_projection import BudgetProjection
from structmat.nn.training.sigma import SigmaSchedule

_TrainerRule = Anneal | BudgetProjection | SigmaSchedule


class Rules:
    """Rules that learn structure under a budget, for one training at a time.

    Further options are mappings: `anneal` for "anneal"; `projection` and `sigma` for "gaudi".
    """

    def __init__(
        self,
        budget: float,
        structure: str,
        anneal: Mapping[str, Any] | None,
        projection: Mapping[str, Any] | None,
        sigma: Mapping[str, Any] | None,
    ) -> None:
        self.budget, self.structure = budget, structure
        self.anneal = dict(anneal or {})
        self.projection, self.sigma = dict(projection or {}), dict(sigma or {})
        own = {"anneal": ("anneal",), "gaudi": ("projection", "sigma")}
        if structure not in own:
            raise InputError(f"structure = {structure!r}; expected 'anneal' or 'gaudi'")
        for name in ("anneal", "projection", "sigma"):
            if getattr(self, name) and name not in own[structure]:
                other = "gaudi" if structure == "anneal" else "anneal"
                raise InputError(
                    f"{name} = {getattr(self, name)!r} with structure = {structure!r}; expected "
                    f"none (or structure={other!r})"
                )
        self._running: dict[str, _TrainerRule] = {}
        self._last: dict[str, Any] = {}
        self._loaded: Mapping[str, Any] = {}

    def begin(self, model: nn.Module, optimizer: optim.Optimizer, total_steps: float) -> None:
        """Follow an optimizer from now on; resume from a state that was loaded before."""
        if not 1 <= total_steps < math.inf:
            raise InputError(
                f"the trainer runs for {total_steps} steps; expected a finite number of at least 1 "
                "(set its max_steps)"
            )
        self.end()
        self._running = self._rules(model, optimizer, int(total_steps))
        if self._loaded:
            loaded, self._loaded = self._loaded, {}
            self.load_state_dict(loaded)

    def _rules(
        self, model: nn.Module, optimizer: optim.Optimizer, steps: int
    ) -> dict[str, _TrainerRule]:
        if self.structure == "anneal":
            return {"anneal": Anneal(model, optimizer, self.budget, steps, **self.anneal)}
        return {
            "projection": BudgetProjection(model, optimizer, self.budget, steps, **self.projection),
            "schedule": SigmaSchedule(model, optimizer, steps, **self.sigma),
        }

    def end(self) -> None:
        """Leave the optimizer alone."""
        self._last = self.state_dict()
        for rule in self._running.values():
            rule.remove()
        self._running = {}

    def metrics(self) -> dict[str, float]:
        """Cost of the learned layers as a fraction of dense, and σ if it moves; else empty."""
        found = {}
        for rule in self._running.values():
            if isinstance(rule, SigmaSchedule):
                found["structure_sigma"] = rule.sigma
            else:
                found["structure_cost"] = rule.relative_cost
        return found

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, of the present training or the last one."""
        if not self._running:
            return self._last
        return {name: rule.state_dict() for name, rule in self._running.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint of the same `structure`, now or when training begins."""
        if ("anneal" in state) != (self.structure == "anneal") and state:
            raise InputError(
                f"a checkpoint with the state of {', '.join(state)} for structure = "
                f"{self.structure!r}; expected a state of the same structure (resume as it began)"
            )
        if not self._running:
            self._loaded = state
        for name, rule in self._running.items():
            rule.load_state_dict(state[name])
