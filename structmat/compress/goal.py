"""Goals that a fit has to respect, and reports of its progress."""

from collections.abc import Callable
from dataclasses import dataclass

#: Called with the share of the work done, from 0 to 1.
Progress = Callable[[float], object]

#: Reports nothing: the default for `Progress`. A builtin, because inner loops call it.
no_progress: Progress = bool


@dataclass(frozen=True)
class Goal:
    """A cap on the cost or a bound on the error; exactly one of the two is set."""

    #: Most multiplications of one matvec.
    max_cost: int | None = None
    #: Largest absolute Frobenius error.
    max_error: float | None = None
