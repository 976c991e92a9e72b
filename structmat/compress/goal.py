"""Goals that a fit has to respect."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A cap on the cost or a bound on the error; exactly one of the two is set."""

    #: Most multiplications of one matvec.
    max_cost: int | None = None
    #: Largest absolute Frobenius error.
    max_error: float | None = None
    #: Frobenius norm of the input, estimated for a source; None where a fit knows it.
    size: float | None = None
