"""Estimates of an error from samples, each with the probability of its bound.

For a Gaussian vector g, the expectation of ‖R g‖² is ‖R‖_F². Of all matrices of one norm, those
of rank one are the likeliest to be far off (Székely & Bakirov 2003, "Extremal probabilities for
Gaussian quadratic forms"), and for those the sum over k vectors has a chi-square distribution. So
its quantiles bound the norm of any matrix.
"""

import math
from dataclasses import dataclass

from scipy.special import gammaincinv

#: Probability that the bound of an estimate holds, at least.
CONFIDENCE = 0.999


@dataclass(frozen=True)
class Estimate:
    """A relative error that was estimated from samples, and what was sampled.

    Attributes
    ----------
    error : float
        Estimated relative error.
    bound : float
        Upper bound of the relative error.
    confidence : float
        Probability, at least, with which the bound holds; 1 for an error that was measured.
    products : int
        Products with random vectors that were compared.
    rows, cols : int
        Rows and columns of the matrix that were compared entry by entry.
    entries : int
        Single entries that were compared besides.

    Examples
    --------
    >>> found = Estimate(1e-4, 2e-4, 0.999, products=16)
    >>> found.bound, found.confidence
    (0.0002, 0.999)
    >>> str(found)
    'estimated from 16 products: at most 0.0002 with probability 0.999'
    """

    error: float
    bound: float
    confidence: float
    products: int = 0
    rows: int = 0
    cols: int = 0
    entries: int = 0

    def __str__(self) -> str:
        if self.confidence == 1:
            return "measured"
        counts = [
            f"{count} {noun}"
            for count, noun in (
                (self.products, "products"),
                (self.rows, "rows"),
                (self.cols, "columns"),
                (self.entries, "entries"),
            )
            if count
        ]
        return (
            f"estimated from {', '.join(counts) or 'samples'}: at most {self.bound:.3g} with "
            f"probability {self.confidence:g}"
        )


def upper_norm(square: float, count: int, *, chance: float, complex_: bool = False) -> float:
    """Upper bound of a Frobenius norm, wrong with a probability of at most `chance`.

    `square` is the sum of ‖R g‖² over `count` Gaussian vectors with entries of variance 1.

    Examples
    --------
    >>> round(upper_norm(16.0, 16, chance=0.001), 3)
    2.015
    """
    return _norm(square, count, chance, complex_)


def lower_norm(square: float, count: int, *, chance: float, complex_: bool = False) -> float:
    """Lower bound of a Frobenius norm, wrong with a probability of at most `chance`.

    Examples
    --------
    >>> round(lower_norm(16.0, 16, chance=0.001), 3)
    0.638
    """
    return _norm(square, count, 1 - chance, complex_)


def _norm(square: float, count: int, quantile: float, complex_: bool) -> float:
    degrees = count * (2 if complex_ else 1)
    # A complex Gaussian of variance 1 has two parts of variance 1/2.
    least = 2 * float(gammaincinv(degrees / 2, quantile)) * (count / degrees)
    return math.sqrt(square / least) if least > 0 else math.inf
