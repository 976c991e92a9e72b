"""Goals that a fit has to respect, and reports of its progress."""

from collections.abc import Callable
from dataclasses import dataclass

#: Called with the share of the work done, from 0 to 1.
Progress = Callable[[float], object]

#: Reports nothing: the default for `Progress`. A builtin, because inner loops call it.
no_progress: Progress = bool


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
