"""Results of solves and of log-determinants, with what is known of their errors."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from structmat._array import Array
from structmat._markup import card
from structmat.errors import SolveError


@dataclass(frozen=True)
class Solution:
    """A solution x of S x = b with its measured errors, as `Factorization.solution` gives it.

    Attributes
    ----------
    x : array
        Of the shape of b.
    residual : float
        Norm of b - S x as a fraction of that of b; of several columns the largest.
    backward_error : float
        Norm of b - S x as a fraction of ``|S| |x| + |b|``, with a lower bound of the spectral
        norm of S; of several columns the largest. The solution is that of a system whose
        matrix and right-hand side differ by this fraction.
    iterations : int
        Steps of refinement of a direct method, mostly 0, or steps of an iterative one.
    method : str
        Name of the method.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> found = structmat.factorize(structmat.Diagonal([2.0, 4.0])).solution(np.ones(2))
    >>> found.x, found.residual
    (array([0.5 , 0.25]), 0.0)
    """

    x: Array
    residual: float
    backward_error: float
    iterations: int
    method: str

    def _repr_html_(self) -> str:
        facts = {
            "x": f"{' x '.join(map(str, self.x.shape))}, {self.x.dtype}",
            "method": self.method,
            "steps": str(self.iterations),
            "residual": f"{self.residual:.3g}",
            "backward error": f"{self.backward_error:.3g}",
        }
        return card("Solution", facts)


class LogDeterminant(NamedTuple):
    """Sign and logarithm of a determinant, which itself may overflow.

    Attributes
    ----------
    sign : float or complex
        1 or -1, or a number of modulus 1 for a complex matrix.
    logabsdet : float
        Logarithm of the absolute value of the determinant.
    error : float
        0.0 for a value that is exact up to rounding, or the standard error of an estimate.

    Examples
    --------
    >>> LogDeterminant(1.0, 2.5)
    LogDeterminant(sign=1.0, logabsdet=2.5, error=0.0)
    >>> float(LogDeterminant(1.0, 2.5))
    2.5
    """

    sign: float | complex
    logabsdet: float
    error: float = 0.0

    def __float__(self) -> float:
        if abs(self.sign - 1) > 1e-6:
            raise SolveError(
                f"the determinant has the sign {self.sign}; expected 1 for a logarithm that is one "
                "number (take .sign and .logabsdet)"
            )
        value = self.logabsdet
        # A tensor that takes part in gradients warns where it becomes a number.
        return float(value.detach() if hasattr(value, "detach") else value)

    def _repr_html_(self) -> str:
        exact = "none beside rounding" if self.error == 0 else f"{self.error:.3g} (standard error)"
        facts = {
            "sign": f"{self.sign:g}",
            "log |det|": f"{self.logabsdet:.10g}",
            "error": exact,
        }
        return card("LogDeterminant", facts)

    def times(self, other: "LogDeterminant") -> "LogDeterminant":
        """Log-determinant of a product of two matrices.

        Examples
        --------
        >>> LogDeterminant(-1.0, 2.0).times(LogDeterminant(-1.0, 0.5))
        LogDeterminant(sign=1.0, logabsdet=2.5, error=0.0)
        """
        error = math.hypot(self.error, other.error)
        return LogDeterminant(self.sign * other.sign, self.logabsdet + other.logabsdet, error)


def of_product(found: Iterable[Any]) -> Any:
    """Log-determinant of a product, from those of its factors; NotImplemented where one has none.

    Examples
    --------
    >>> of_product([LogDeterminant(-1.0, 2.0), LogDeterminant(-1.0, 0.5)])
    LogDeterminant(sign=1.0, logabsdet=2.5, error=0.0)
    >>> of_product([LogDeterminant(-1.0, 2.0), NotImplemented])
    NotImplemented
    """
    total = LogDeterminant(1.0, 0.0)
    for factor in found:
        if factor is NotImplemented:
            return factor
        total = total.times(factor)
    return total
