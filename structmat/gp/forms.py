"""Forms of a correlation matrix: dense, compressed and factored, and by products alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from scipy.linalg.lapack import dpotri

from structmat.compress import compress
from structmat.compress.entries.sampled import drawn, source_norm
from structmat.errors import SolveError
from structmat.gp.correlation import Correlation, Real, Trace
from structmat.solvers.hierarchical.direct import HierarchicalFactorization, factorize_with
from structmat.solvers.hierarchical.points import compressed, compressed_beside, tolerance_for
from structmat.solvers.hierarchical.traces import inverse_trace, trace_with
from structmat.solvers.iterative.known import Known
from structmat.solvers.iterative.solver import factorize_known
from structmat.solvers.results import LogDeterminant
from structmat.solvers.shifted import shifted
from structmat.sources.kernel_matrix import KernelMatrix
from structmat.sources.named_kernels import SLOPES

#: Bound of the backward error of solves.
SOLVED = 1e-8
#: Error of the compressed derivative over ratio^2, in the Frobenius norm, and as a share of the
#: derivative.
SLOPE, MOST_SLOPE = 0.4, 1e-3
#: Rows on which the exact kernel is compared to the compressed one.
ROWS = 32
#: Random vectors of traces that are estimated.
PROBES = 64


class DenseForm(Correlation):
    """The matrix itself, by its Cholesky factor: O(n^3) time."""

    method = "cholesky"

    def __init__(self, points: Real, kernel: str, length: float, ratio: float) -> None:
        self._slopes = KernelMatrix(points, SLOPES[kernel], length=length)
        R = KernelMatrix(points, kernel, length=length).to_dense()
        R[np.diag_indices(len(R))] += ratio**2
        try:
            self._factor = scipy.linalg.cho_factor(R, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            raise SolveError(
                f"the correlations of {len(R)} points with a noise of {ratio:.3g} of the amplitude "
                "are not positive definite to rounding; expected more noise, or points that are "
                "further apart beside the length"
            ) from None

    def solve(self, b: Real) -> Real:
        """By two triangular solves."""
        x: Real = scipy.linalg.cho_solve(self._factor, b, check_finite=False)
        return x

    def logdet(self) -> LogDeterminant:
        """By the diagonal of the factor."""
        return LogDeterminant(1.0, 2 * float(np.log(np.diag(self._factor[0])).sum()))

    @cached_property
    def _inverse(self) -> Real:
        """The lower triangle of the inverse, with zeros above."""
        inverse, _ = dpotri(self._factor[0], lower=True)
        return np.tril(inverse)

    def inverse_trace(self) -> Trace:
        """By the dense inverse."""
        return Trace(float(np.trace(self._inverse)))

    def slope(self, b: Real) -> tuple[float, Trace]:
        """By dense matrices."""
        # The diagonal of D is zero.
        D = self._slopes.to_dense()
        return float(b @ D @ b), Trace(2 * float((self._inverse * D).sum()))

    def missed(self, b: Real, scale: float) -> float:
        """Nothing."""
        return 0.0


class CompressedForm(Correlation):
    """A compressed matrix near R with its solver.

    Traces follow from the factors of a hierarchical factorization. Of another solver they are
    estimated by its solves with the same random vectors each time.
    """

    def __init__(self, parts: "Parts", ratio: float) -> None:
        self._parts, self.method = parts, parts.solver.method
        self._tol = min(SLOPE * ratio**2 / parts.norm, MOST_SLOPE)

    def solve(self, b: Real) -> Real:
        """By the solver, with a measured residual."""
        x: Real = self._parts.solver.solve(b)
        return x

    @cached_property
    def _logdet(self) -> LogDeterminant:
        found: LogDeterminant = self._parts.solver.logdet(rng=0)
        return found

    def logdet(self) -> LogDeterminant:
        """By the solver."""
        return self._logdet

    @cached_property
    def _probes(self) -> tuple[Real, Real]:
        """Random signs Z and R^-1 Z, (n, k)."""
        n = self._parts.kernel.shape[0]
        signs: Any = np.random.default_rng(0).integers(0, 2, (n, PROBES)) * 2.0 - 1.0
        return signs, self.solve(signs)

    def derivative(self) -> Any:
        """The compressed derivative of K by log length; it is made at each call."""
        parts = self._parts
        return parts.compress(parts.slope, parts.near, self._tol)

    def inverse_trace(self) -> Trace:
        """By the factors, or by estimates."""
        solver = self._parts.solver
        if isinstance(solver, HierarchicalFactorization):
            return Trace(inverse_trace(solver.recursion))
        return _estimated(*self._probes)

    def slope(self, b: Real) -> tuple[float, Trace]:
        """By a compressed derivative."""
        solver, D = self._parts.solver, self.derivative()
        quadratic = float(b @ (D @ b))
        if isinstance(solver, HierarchicalFactorization):
            return quadratic, Trace(trace_with(solver.recursion, D))
        Z, V = self._probes
        return quadratic, _estimated(D @ Z, V)

    def missed(self, b: Real, scale: float) -> float:
        """To first order, E = K less the compression changes it by scale b^T E b - tr(R^-1 E)."""
        n, K = len(b), self._parts.kernel
        rows = drawn(n, ROWS, np.random.default_rng(0))
        unit = np.zeros((n, rows.size))
        unit[rows, np.arange(rows.size)] = 1.0
        E = K.block(rows, np.arange(n)) - (self._parts.near @ unit).T
        each = scale * b[rows] * (E @ b) - (E * self.solve(unit).T).sum(axis=1)
        return n * math.hypot(each.mean(), each.std(ddof=1) / math.sqrt(rows.size))


def _estimated(A: Real, B: Real) -> Trace:
    values = (A * B).sum(axis=0)
    return Trace(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.size))


@dataclass(frozen=True)
class Parts:
    """The parts of a compressed correlation matrix."""

    kernel: KernelMatrix
    #: The derivative of the kernel by the logarithm of its length.
    slope: KernelMatrix
    #: The compressed kernel, and the Frobenius norm.
    near: Any
    norm: float
    #: Solves R x = b, and gives the log-determinant.
    solver: Any
    #: Compresses a source beside a compressed one, to a tolerance.
    compress: Callable[[KernelMatrix, Any, float], Any]


def compressed_form(
    points: Real, kernel: str, length: float, ratio: float, tol: float | None
) -> CompressedForm:
    """The form for one machine.

    The error of the compression is a share of ratio^2, as for `structmat.factorize`, and at most
    `tol`. Where the factors would be too large, solves are by iteration.
    """
    K = KernelMatrix(points, kernel, length=length)
    shift = ratio**2
    near, norm = compressed(K, shift, MOST_SLOPE if tol is None else tol)
    S = shifted(near, shift)
    solver = factorize_with(near, shift, S, SOLVED, definite=True, norm=norm)
    if solver is NotImplemented:
        solver = factorize_known(Known(K, near, shift), SOLVED)
    D = KernelMatrix(points, SLOPES[kernel], length=length)
    return CompressedForm(Parts(K, D, near, norm, solver, compressed_beside), ratio)


def distributed_form(
    points: Real, kernel: str, length: float, ratio: float, tol: float | None, client: Any
) -> CompressedForm:
    """The form on the workers of a cluster, with solves by iteration and estimated traces."""
    K, D = (KernelMatrix(points, name, length=length) for name in (kernel, SLOPES[kernel]))
    norm, shift = source_norm(K, np.random.default_rng(0)), ratio**2

    def on_workers(source: KernelMatrix, _: Any, tol: float) -> Any:
        made = compress(source, "hierarchical", tol=tol, rng=0, progress=False, client=client)
        return made.matrix

    goal = tolerance_for(len(points), norm, shift, MOST_SLOPE if tol is None else tol)
    near = on_workers(K, None, goal)
    solver = near.factorize(shift=shift, tol=SOLVED)
    return CompressedForm(Parts(K, D, near, norm, solver, on_workers), ratio)
