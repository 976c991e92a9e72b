"""Log-determinants by random vectors: exact for the preconditioner, estimated for the rest."""

import math
from typing import Any

import numpy as np

from structmat import _array
from structmat._array import Array
from structmat._progress import reporting
from structmat.contract.operand import multiplied
from structmat.errors import SolveError
from structmat.solvers.iterative.krylov.lanczos import Quadrature, log_quadrature
from structmat.solvers.iterative.preconditioners.preconditioner import Halves, Unpreconditioned
from structmat.solvers.results import LogDeterminant
from structmat.solvers.verify import double

#: Standard error that is aimed at, as a share of the value and for each row.
RELATIVE, PER_ROW = 1e-3, 1e-5
#: Norms whose squares are numbers.
SMALLEST, LARGEST = 1e-140, 1e140
#: Random vectors at once, at least and at most.
AT_ONCE, LEAST, MOST = 8, 16, 128
#: Most Lanczos steps, and their error as a share of the standard error.
STEPS, SHARE = 300, 0.1


def log_determinant(F: Any, rng: Any) -> LogDeterminant:
    """Log-determinant of a hermitian positive definite S, with its standard error.

    For a preconditioner G^H G it is that of G S G^H, less twice that of G. The first is the trace
    of a logarithm, which random vectors of signs estimate; the nearer G S G^H is to the identity,
    the smaller is their variance.

    Parameters
    ----------
    F : Factorization
    rng : int or numpy.random.Generator, optional
        The same vectors each time by default.

    Raises
    ------
    SolveError
        If S is not hermitian and positive definite.
    """
    S, xp = F.matrix, F.xp
    if not S.hermitian:
        raise SolveError(
            f"{F!r} gives no log-determinant: its method takes products alone, and S is not known "
            "to be hermitian; expected a matrix with a direct method (compress it to "
            "'hierarchical' first)"
        )
    if S.shape[0] and not SMALLEST < F._norm < LARGEST:
        raise SolveError(
            f"{F!r} gives no log-determinant: the norm of S is about {F._norm:.3g}; expected "
            f"{SMALLEST:.0e} to {LARGEST:.0e}, whose squares do not overflow or vanish (divide "
            "the matrix by a number, and add n times its logarithm)"
        )
    G: Halves = F.halves() if hasattr(F, "halves") else Unpreconditioned()
    generator = np.random.default_rng(0 if rng is None else rng)

    def multiply(x: Array) -> Array:
        return G.half(multiplied(S, G.half_adjoint(x), adjoint=False))

    n = S.shape[0]
    values: list[float] = []
    wide = double(S.dtype, xp)
    with reporting(None, "log-determinant") as report:
        while True:
            signs = generator.integers(0, 2, (n, AT_ONCE)) * 2.0 - 1.0
            z = xp.astype(_array.from_numpy(signs, xp, S.device), wide)
            accuracy = SHARE * _goal(values, n, G.log_half)
            found = log_quadrature(multiply, z, accuracy=accuracy, limit=STEPS, xp=xp)
            _check(found)
            values += found.values.tolist()
            error, goal = _standard_error(values), _goal(values, n, G.log_half)
            report(max(len(values) / MOST, min(1.0, (goal / error) ** 2 if error else 1.0)))
            if len(values) >= MOST or (len(values) >= LEAST and error <= goal):
                return LogDeterminant(1.0, float(np.mean(values)) - 2 * G.log_half, error)


def _check(found: Quadrature) -> None:
    if not found.least > 0:
        raise SolveError(
            f"S is not positive definite: an eigenvalue of G S G^H is at most {found.least:.3g}, "
            "for a preconditioner G^H G; expected a positive definite matrix (give factorize a "
            "larger shift, or a smaller tol)"
        )


def _standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def _goal(values: list[float], n: int, log_half: float) -> float:
    """Standard error that is small enough."""
    value = (float(np.mean(values)) if values else 0.0) - 2 * log_half
    return max(RELATIVE * abs(value), PER_ROW * n)
