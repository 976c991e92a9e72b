"""The cap on a network's cost while it falls to the budget."""

import math

from structmat.errors import BudgetError, InputError

__all__ = ["cap_of", "check_ramp", "falling_cap"]


def check_ramp(budget: float, ramp: float, total_steps: int) -> None:
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
