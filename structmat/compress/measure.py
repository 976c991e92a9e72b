"""Errors of compressed matrices: measured, or estimated by products with random vectors."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.compress.estimate import CONFIDENCE, Estimate, lower_norm, upper_norm
from structmat.compress.inner import factors_of, factors_square
from structmat.compress.operators import Products
from structmat.compress.range import formed
from structmat.compress.source import Source, norm, residual
from structmat.errors import InputError
from structmat.matrix import StructuredMatrix
from structmat.project.svd import gaussian

#: Fewest and most random vectors of an estimate, and their share of the products of a fit.
LEAST_PROBES, MOST_PROBES, PROBES_SHARE = 16, 128, 0.25


class Measure:
    """Relative errors of approximations of one input, each found once.

    An estimate multiplies random vectors that no fit has seen. Its bound holds for all the
    matrices that were estimated, with the stated probability for the whole.
    """

    def __init__(self, source: Source, size: float, *, exact: bool = True) -> None:
        self._source, self._size = source, size
        #: True if errors are measured by request.
        self.requested = exact
        self._probes: tuple[NDArray, NDArray] | None = None
        self._trials = 0
        # With the matrix itself, so that no other one gets its id.
        self._found: dict[int, tuple[StructuredMatrix, Estimate]] = {}

    @property
    def exact(self) -> bool:
        """True if errors are measured: by request, or because a fit formed the matrix."""
        return self.requested or self._formed is not None

    @property
    def size(self) -> float:
        """Frobenius norm of the input, as well as it is known."""
        formed = self._formed
        return self._size if formed is None else norm(formed)

    @property
    def _formed(self) -> NDArray | None:
        op = self._source.data
        return formed(op) if isinstance(op, Products) else None

    def __call__(self, matrix: StructuredMatrix) -> Estimate:
        """Relative Frobenius error of an approximation; infinite beside an input of zeros."""
        if id(matrix) not in self._found:
            self._found[id(matrix)] = matrix, self._find(matrix)
        return self._found[id(matrix)][1]

    def _find(self, matrix: StructuredMatrix) -> Estimate:
        op: Any = self._source.data if self._formed is None else self._formed
        known = isinstance(op, Products) and op.sparse is not None
        if self.exact or (known and factors_of(matrix) is not None):
            error = relative(residual(op, matrix), self.size)
            return Estimate(error, error, 1.0)
        return self._estimate(op, matrix)

    def _estimate(self, op: Products, matrix: StructuredMatrix) -> Estimate:
        X, Y = self._draw(op)
        count, complex_ = X.shape[1], op.dtype.kind == "c"
        Z = matrix.matmat(X)
        missed, square, of_matrix = _energy(Y - Z), _energy(Y), _energy(Z)
        # Shares of the trials whose sum is below 1, however many there are.
        self._trials += 1
        chance = (1 - CONFIDENCE) * 6 / (math.pi * self._trials) ** 2
        most = upper_norm(missed, count, chance=0.9 * chance, complex_=complex_)
        least = lower_norm(square, count, chance=0.1 * chance, complex_=complex_)
        size = _norm(matrix)
        if size is not None:
            least = max(least, size - most)
            # The norm of the matrix is known, so only the difference has to be estimated.
            square = max(square - of_matrix + count * size**2, missed, 0.0)
        error = relative(math.sqrt(missed), math.sqrt(square))
        return Estimate(error, max(error, relative(most, least)), CONFIDENCE, products=count)

    def _draw(self, op: Products) -> tuple[NDArray, NDArray]:
        """Random vectors, and their products: more of them the more products a fit took."""
        if self._probes is None:
            count = int(min(max(PROBES_SHARE * op.products, LEAST_PROBES), MOST_PROBES))
            X = gaussian(op.probing, (op.shape[1], count), op.dtype)
            self._probes = X, op.matmat(X)
        return self._probes


def measures_exactly(source: Source, measure: str | None) -> bool:
    """True for an input whose errors are measured: by request, by default, or for few columns."""
    few = not source.implicit or source.data.shape[1] <= LEAST_PROBES
    return few or asks_for_exact(measure)


def asks_for_exact(measure: str | None) -> bool:
    """True for "exact"; "estimate", or None, asks for an estimate of what is never formed."""
    if measure not in (None, "exact", "estimate"):
        raise InputError(
            f"measure = {measure!r}; expected 'estimate' (a bound on the error, with its "
            "probability) or 'exact' (n products for an operator)"
        )
    return measure == "exact"


def relative(error: float, size: float) -> float:
    """Error as a fraction of a norm; zero or infinite beside a norm of zero."""
    if size == 0.0:
        return 0.0 if error == 0.0 else math.inf
    return error / size


def _energy(Y: NDArray) -> float:
    """Sum of the squares, in double precision."""
    return float(np.linalg.norm(Y.astype(np.result_type(Y.dtype, np.float64))) ** 2)


def _norm(matrix: Any) -> float | None:
    """Frobenius norm of a matrix if its structure gives it; None otherwise."""
    special = getattr(matrix, "_norm", None)
    found = NotImplemented if special is None else special("fro")
    if found is not NotImplemented:
        return float(found)
    factors = factors_of(matrix)
    return None if factors is None else math.sqrt(max(factors_square(*factors), 0.0))
