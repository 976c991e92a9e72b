"""Cap on a network's cost, and its fall to the budget."""

import math

from structmat.errors import BudgetError, InputError
from structmat.nn.training.widths import Widths

#: Relative rounding error of a share times a cost.
_ROUNDING_ERROR = 1e-12


class Cap:
    """Greatest cost of a network after each step: falls to the budget, and stays there.

    Parameters
    ----------
    widths : Widths
    budget : float
        Fraction of the dense cost, in (0, 1].
    ramp : float
        Share of the training over which the cap falls.
    total_steps : int
        Optimizer steps of the whole training.

    Attributes
    ----------
    budget : float
    dense_cost, initial_cost, target_cost : int
        Cost of dense layers, and the cap at both ends of the ramp.
    ramp_steps : float

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear
    >>> widths = Widths(GaudiLinear(10, 10, width_init=0.9), "multiplications")
    >>> cap = Cap(widths, 0.5, ramp=0.5, total_steps=20)
    >>> [cap(step) for step in (0, 5, 10, 11)]
    [180, 66, 50, 50]
    """

    def __init__(self, widths: Widths, budget: float, ramp: float, total_steps: int) -> None:
        if not 0 < budget <= 1:
            raise BudgetError(
                f"budget = {budget!r}; expected a fraction of the dense cost, above 0 and at most 1"
            )
        if not 0 <= ramp <= 1 or total_steps < 1:
            raise InputError(
                f"ramp = {ramp!r} of {total_steps!r} steps; expected a share in [0, 1] of at "
                "least 1 step"
            )
        self.budget = budget
        self.dense_cost = sum(widths.dense_costs)
        self.target_cost = most_cost(budget, self.dense_cost)
        self.initial_cost = max(widths.present_cost(), self.target_cost)
        self.ramp_steps = ramp * total_steps

    def __call__(self, step: int) -> int:
        """Greatest cost allowed after a number of steps."""
        return falling_cap(step, self.initial_cost, self.target_cost, self.ramp_steps)

    def check_reachable(self, least: int, what: str) -> None:
        """Refuse a budget below the least cost that a network can come to.

        Raises
        ------
        BudgetError
        """
        if least > self.target_cost:
            raise BudgetError(
                f"budget = {self.budget!r}, {self.target_cost} of {self.dense_cost}, but {what} "
                f"cost {least}; allow at least {least / self.dense_cost:.4g}, or lower them or "
                "have them learned"
            )


def most_cost(share: float, dense: int) -> int:
    """Greatest whole cost within a share, up to rounding: 0.07 of 100 is 7.

    Examples
    --------
    >>> most_cost(0.07, 100), int(0.07 * 100 * 0.999)
    (7, 6)
    """
    return math.floor(share * dense * (1 + _ROUNDING_ERROR))


def least_cost(share: float, dense: int) -> int:
    """Least whole cost of at least a share, up to rounding: 0.07 of 100 is 7.

    Examples
    --------
    >>> least_cost(0.07, 100), math.ceil(0.07 * 100)
    (7, 8)
    """
    return math.ceil(share * dense * (1 - _ROUNDING_ERROR))


def falling_cap(step: int, initial: int, target: int, steps: float) -> int:
    """Cap after a number of steps of a cubic ramp, which falls fastest at the beginning.

    Examples
    --------
    >>> [falling_cap(step, 180, 100, 10) for step in (0, 5, 10, 11)]
    [180, 110, 100, 100]
    """
    if step >= steps:
        return target
    return target + math.floor((initial - target) * (1 - step / steps) ** 3)
