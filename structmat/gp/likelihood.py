"""The log marginal likelihood of values under a process, its gradient and its error.

For R x = y with R = K + ratio^2 I, and the covariance a^2 R of n values,

    L = -(y^T x / a^2 + n log a^2 + log det R + n log 2 pi) / 2.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from structmat.gp.correlation import Correlation, Real, Trace


@dataclass(frozen=True)
class LogLikelihood:
    """A log marginal likelihood with its error, and its gradient on request.

    Attributes
    ----------
    value : float
        The logarithm; ``float()`` of the whole gives it, too.
    error : float
        Standard error of the value: that of an estimated log-determinant, and what the compression
        changes, by the exact kernel on a sample of rows. 0.0 up to 2048 points, where nothing is
        approximated but by rounding.
    gradient : ndarray of float64, shape (3,), or None
        By the logarithms of length, amplitude and noise.

    Examples
    --------
    >>> float(LogLikelihood(-12.5, 0.0))
    -12.5
    """

    value: float
    error: float
    gradient: NDArray[np.float64] | None = None

    def __float__(self) -> float:
        return self.value


@dataclass
class Terms:
    """The terms of likelihoods of some values y under one correlation matrix."""

    correlation: Correlation
    ratio: float
    y: Real
    #: The solution of R x = y.
    x: Real = field(init=False)

    def __post_init__(self) -> None:
        self.x = self.correlation.solve(self.y)

    @cached_property
    def fit(self) -> float:
        """y^T R^-1 y."""
        return float(self.y @ self.x)

    @cached_property
    def _slope(self) -> tuple[float, Trace]:
        return self.correlation.slope(self.x)

    @property
    def best_amplitude(self) -> float:
        """The amplitude at which the likelihood is largest for the same length and ratio."""
        return math.sqrt(self.fit / len(self.y))

    def value(self, amplitude: float) -> float:
        """The log marginal likelihood."""
        n, logdet = len(self.y), float(self.correlation.logdet())
        constant = n * math.log(2 * math.pi * amplitude**2)
        return -0.5 * (self.fit / amplitude**2 + constant + logdet)

    def error(self, amplitude: float) -> float:
        """Standard error of the value."""
        logdet = self.correlation.logdet().error
        missed = self.correlation.missed(self.x, amplitude**-2)
        return 0.5 * math.hypot(logdet, missed)

    def gradient(self, amplitude: float) -> Real:
        """The gradient by the logarithms of length, amplitude and noise."""
        scale, n = amplitude**-2, len(self.y)
        quadratic, trace = self._slope
        inverse = self.correlation.inverse_trace().value
        length = 0.5 * (scale * quadratic - trace.value)
        noise = self.ratio**2 * (scale * float(self.x @ self.x) - inverse)
        return np.array([length, scale * self.fit - n - noise, noise])
