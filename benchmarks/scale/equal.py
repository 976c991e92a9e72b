"""Structmat and george at equal accuracy: each at the loosest tolerance that is good enough.

Good enough are a log-determinant to `ERROR` a point, and a solution whose residual is at most
`RTOL` on rows of the exact kernel. A tolerance means something else to each library, so both go
down the same ladder of tolerances, and the first one that is good enough counts.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from benchmarks.reporting.tables import Table, listing, number
from benchmarks.results import Row, short
from benchmarks.scale.peers import george_process
from structmat import KernelMatrix, factorize
from structmat.solvers.hierarchical.points import compressed
from structmat.solvers.hierarchical.recursion import Recursion
from structmat.solvers.hierarchical.weak import weak_form

#: What is good enough: error of a log-determinant over n, and residual of a solution.
ERROR, RTOL = 1e-5, 1e-6
#: Tolerances from the loosest on.
LADDER = tuple(10.0**-k for k in range(3, 13))
#: A library that needed more seconds for one tolerance is not asked for a smaller one.
MOST_SECONDS = 120.0
#: Calls of fewer seconds are made some times, and the shortest counts.
BRIEF, TIMES = 10.0, 3
#: Rows of the exact kernel on which residuals are measured.
ROWS = 256
#: Largest number of points whose matrix is factorised densely, for the exact log-determinant.
DENSE_POINTS = 4096
#: Error of the weak form for the log-determinant of more points, as a share of the shift: a tenth
#: of the least one that `factorize` takes, or less.
PRECISE = 0.02


class Run(NamedTuple):
    """One call: the log-determinant, a solution, and the seconds for both."""

    logdet: float
    x: NDArray
    seconds: float


def exact_logdet(K: KernelMatrix, shift: float) -> float:
    """Log-determinant, dense up to `DENSE_POINTS`, else by factors of far smaller error."""
    n = len(K.points)
    if n <= DENSE_POINTS:
        factor = scipy.linalg.cholesky(K.to_dense() + shift * np.eye(n))
        return float(2 * np.log(np.diag(factor)).sum())
    close, _ = compressed(K, PRECISE * shift, PRECISE * 1e-6)
    weak = weak_form(close, PRECISE * shift)
    assert weak is not None
    return float(Recursion(weak, shift, definite=True).logdet().logabsdet)


def sampled_residual(K: KernelMatrix, shift: float, x: NDArray, b: NDArray) -> float:
    """Residual on some rows of the exact kernel over the right-hand side on them."""
    rows = np.unique(np.linspace(0, len(b) - 1, ROWS).astype(int))
    left = K.block(rows, np.arange(len(b))) @ x + shift * x[rows]
    return float(np.linalg.norm(left - b[rows]) / np.linalg.norm(b[rows]))


def george_run(K: KernelMatrix, case: Row, b: NDArray, tol: float) -> Run:
    """The same by george's HODLR solver, in k-d order."""
    process, order = george_process(K.points, case | {"tol": tol})
    ordered = K.points[order]
    started = time.perf_counter()
    process.compute(ordered, math.sqrt(case["shift"]))
    found = np.asarray(process.apply_inverse(b[order])).ravel()
    seconds = time.perf_counter() - started
    x = np.empty(len(b))
    x[order] = found
    return Run(float(process.solver.log_determinant), x, seconds)


def own_run(K: KernelMatrix, shift: float, b: NDArray, tol: float) -> Run:
    """Compression, factors, log-determinant and solve by structmat, at points not seen before."""
    fresh = KernelMatrix(K.points, K.kernel, length=K.length)
    started = time.perf_counter()
    F = factorize(fresh, shift=shift, tol=tol)
    found, x = float(F.logdet()), F.solve(b)
    return Run(found, x, time.perf_counter() - started)


def compared(K: KernelMatrix, case: Row, b: NDArray) -> Row:
    """Tolerance, seconds, error and residual of both libraries, for each accuracy."""
    shift = case["shift"]
    exact = exact_logdet(K, shift)

    def ladder(run: Callable[[float], Run]) -> Iterator[Row]:
        for tol in LADDER:
            found = run(tol)
            again = TIMES - 1 if found.seconds < BRIEF else 0
            seconds = min([found.seconds, *(run(tol).seconds for _ in range(again))])
            yield {
                "tol": tol,
                "seconds": short(seconds),
                "difference": short(abs(found.logdet - exact) / len(b)),
                "residual": short(sampled_residual(K, shift, found.x, b)),
            }
            if seconds > MOST_SECONDS:
                return

    own = _goals(ladder(lambda tol: own_run(K, shift, b, tol)))
    other = _goals(ladder(lambda tol: george_run(K, case, b, tol)))
    return {goal: {"structmat": own[goal], "george": other[goal]} for goal in own}


def _goals(ladder: Iterator[Row]) -> Row:
    """The first call with a good log-determinant, and the first that solves as well.

    Where none does, the last call stands for it, with `reached` False: its seconds are too few.
    """
    found: Row = {}
    last: Row = {}
    for last in ladder:
        if last["difference"] <= ERROR:
            found.setdefault("logdet", last | {"reached": True})
            if last["residual"] <= RTOL:
                found["solve"] = last | {"reached": True}
                break
    for goal in ("logdet", "solve"):
        found.setdefault(goal, last | {"reached": False})
    return found


def times(row: Row, goal: str) -> float:
    """George's seconds over those of structmat; a lower bound where george falls short."""
    pair = row[goal]
    if not pair["structmat"]["reached"]:
        return 0.0
    return float(pair["george"]["seconds"] / pair["structmat"]["seconds"])


def equal_table(rows: list[Row]) -> Table:
    """Both libraries at equal accuracy."""
    some = [{"of": row, "goal": goal, **row[goal]} for row in rows for goal in ("logdet", "solve")]
    return listing(
        "Structmat and george at equal accuracy",
        f"Each library at the first tolerance of 1e-3, 1e-4, … that gives the log-determinant to "
        f"{ERROR} a point, and, where it says solve, a residual of at most {RTOL} on {ROWS} rows "
        f"of the exact kernel, too; calls of less than {BRIEF:.0f} s are the shortest of {TIMES}. "
        "All seconds include compression, factors, log-determinant and a "
        "solve. George does not go on where a call has taken more than "
        f"{MOST_SECONDS:.0f} s; its seconds are then those of a call that is not good enough.",
        {
            **{name: _of(name) for name in ("points", "n", "kernel")},
            "accuracy": "goal",
            **_columns("structmat"),
            **_columns("george"),
            "times": lambda row: number(times(row["of"], row["goal"])),
        },
        some,
    )


def _of(name: str) -> Callable[[Row], str]:
    return lambda row: str(row["of"][name])


def _columns(library: str) -> dict[str, Any]:
    def figure(name: str) -> Callable[[Row], str]:
        return lambda row: number(row[library][name])

    return {
        f"{library}: tol": figure("tol"),
        "seconds" if library == "structmat" else "george's seconds": figure("seconds"),
        f"error, {library}": figure("difference"),
        f"residual, {library}": lambda row: (
            number(row[library]["residual"]) + ("" if row[library]["reached"] else " (too large)")
        ),
    }
