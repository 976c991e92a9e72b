"""The cap on a network's cost, and how it falls to the budget."""

import math
from typing import Any

from torch import nn, optim

from structmat.errors import BudgetError, InputError
from structmat.nn.training.proximal import ProximalStep


class CappedStep(ProximalStep):
    """Base of the rules that hold a network to one budget after every optimizer step.

    The parameters are those of `BudgetProjection`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        budget: float,
        total_steps: int,
        ramp: float,
        measure: str,
    ) -> None:
        _check_ramp(budget, ramp, total_steps)
        super().__init__(model, optimizer, measure)
        self._budget = budget
        self.dense_cost = sum(self.widths.dense)
        self.target_cost = cap_of(budget, self.dense_cost)
        self.initial_cost = max(self._cost(), self.target_cost)
        self.ramp_steps = ramp * total_steps

    @property
    def budget(self) -> float:
        """The fraction asked for. For another one, `remove` this rule and make a new one."""
        return self._budget

    @property
    def relative_cost(self) -> float:
        """Present cost of the Gaudi layers, as a fraction of their dense cost.

        Sharded widths are gathered: ask for it on every process.
        """
        return self._cost() / max(self.dense_cost, 1)

    def cap(self, step: int) -> int:
        """Greatest cost allowed after so many steps."""
        return falling_cap(step, self.initial_cost, self.target_cost, self.ramp_steps)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {**super().state_dict(), "initial_cost": self.initial_cost}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state_dict(state)
        self.initial_cost = state["initial_cost"]
        self._watch()

    def _watch(self) -> None:
        """Have the weights keep the gradient that the next step needs."""

    def _unwatch(self) -> None:
        """Have them keep it no longer."""
        for weight in self.weights:
            weight.record_weight_grad, weight.weight_grad = False, None

    def _cost(self) -> int:
        return self.widths.cost(self.widths.values())

    def _check_reachable(self, least: int, what: str) -> None:
        if least > self.target_cost:
            raise BudgetError(
                f"budget = {self._budget!r}, {self.target_cost} of {self.dense_cost}, but {what} "
                f"cost {least}; allow at least {least / self.dense_cost:.4g}, or lower them or "
                "have them learned"
            )


def _check_ramp(budget: float, ramp: float, total_steps: int) -> None:
    """Refuse what is no budget, or no share of a training."""
    if not 0 < budget <= 1:
        raise BudgetError(
            f"budget = {budget!r}; expected a fraction of the dense cost, above 0 and at most 1"
        )
    if not 0 <= ramp <= 1 or total_steps < 1:
        raise InputError(
            f"ramp = {ramp!r} of {total_steps!r} steps; expected a share in [0, 1] of at "
            "least 1 step"
        )


def cap_of(share: float, dense: int) -> int:
    """A share of a cost in whole units, up to rounding: 0.07 of 100 is 7.

    Examples
    --------
    >>> cap_of(0.07, 100), int(0.07 * 100 * 0.999)
    (7, 6)
    """
    return math.floor(share * dense * (1 + 1e-12))


def falling_cap(step: int, initial: int, target: int, steps: float) -> int:
    """The cap after so many steps of a cubic ramp, which takes most off at the beginning.

    Examples
    --------
    >>> [falling_cap(step, 180, 100, 10) for step in (0, 5, 10, 11)]
    [180, 110, 100, 100]
    """
    if step >= steps:
        return target
    return target + math.floor((initial - target) * (1 - step / steps) ** 3)
