"""The correlation matrix of a Gaussian process: a kernel at all pairs of points, with noise.

With amplitude a and noise s, the covariance is a^2 (K + ratio^2 I) for ratio = s / a. Everything
here belongs to R = K + ratio^2 I, so that it depends on two parameters alone.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.solvers.results import LogDeterminant

Real = NDArray[np.float64]

#: Kernels whose matrices are positive semidefinite, with derivatives by their length.
KERNELS = ("exponential", "matern32", "matern52", "gaussian")


class Trace(NamedTuple):
    """A trace with its standard error; 0.0 where it is not estimated."""

    value: float
    error: float = 0.0


class Correlation(ABC):
    """R = K + ratio^2 I for the kernel of some points, ready for solves.

    Attributes
    ----------
    method : str
        How its systems are solved.
    """

    method: str

    @abstractmethod
    def solve(self, b: Real) -> Real:
        """The solution x of R x = b for b (n,) or (n, k)."""

    @abstractmethod
    def logdet(self) -> LogDeterminant:
        """Log-determinant of R."""

    @abstractmethod
    def inverse_trace(self) -> Trace:
        """The trace of R^-1."""

    @abstractmethod
    def slope(self, b: Real) -> tuple[float, Trace]:
        """The numbers b^T D b and tr(R^-1 D), for the derivative D of K by log length."""

    @abstractmethod
    def missed(self, b: Real, scale: float) -> float:
        """The change of ``scale b^T R b - log det R`` by the compression, from a sample of rows.

        It is the root of the mean square of an estimate; 0.0 for a matrix that is exact.
        """
