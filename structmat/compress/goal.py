"""Goals that a fit has to respect; reports of its progress come from `structmat._progress`."""

from dataclasses import dataclass

from structmat._progress import Progress as Progress
from structmat._progress import no_progress as no_progress


@dataclass(frozen=True)
class Goal:
    """A cap on the cost or a bound on the error; exactly one of the two is set."""

    #: Most multiplications of one matvec.
    max_cost: int | None = None
    #: Largest absolute Frobenius error.
    max_error: float | None = None
