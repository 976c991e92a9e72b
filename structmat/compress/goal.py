"""What a fit has to respect, told once to every compressor."""

from collections.abc import Callable
from dataclasses import dataclass

#: Called with the share of the work done, from 0 to 1.
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Goal:
    """A cap on the cost or a bound on the error; exactly one of the two is set.

    Parameters
    ----------
    max_cost : int, optional
        Multiplications per matvec that must not be exceeded.
    max_error : float, optional
        Absolute Frobenius error that must not be exceeded.
    """

    max_cost: int | None = None
    max_error: float | None = None


def no_progress(_share: float) -> None:
    """Report nothing: the default for `Progress`."""
