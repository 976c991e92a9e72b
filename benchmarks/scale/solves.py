"""Solves and determinants of kernels: the cases, and one measurement each.

A measurement runs in a process of its own, as those of `row` do, and all times in it include what
the caller waits for: compression, factorisation, the solve and its check.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

import structmat
from benchmarks.results import Row, short
from benchmarks.scale.equal import DENSE_POINTS, compared, exact_logdet, sampled_residual
from benchmarks.scale.peers import SOLVERS as PEERS
from benchmarks.scale.places import peak, points_of, sparse_matrix
from structmat import Dense, Identity, KernelMatrix, LowRank, compress, factorize

LENGTH, RTOL = 0.1, 1e-6
#: Most dimensions of the points.
DIMENSIONS = 3
#: Points of the trial that compiles and warms up; fewer than 2048 would be formed.
WARM_POINTS = 2500
#: Woodbury beside conjugate gradients: rank, rows, and times that each is measured.
RANK, WOODBURY_ROWS, TIMES = 69, 2000, 20
#: Spectra of that low rank: the least eigenvalue beside about 1. Even ones take few steps.
SPECTRA = {"low rank, even": 1.0, "low rank, decaying": 1e-5}
#: Tolerance of the hierarchical preconditioner, its shift as a share of the norm, and most steps.
LOOSE, SHARE, STEPS = 1e-2, 1e-2, 1000


def cases(
    sizes: Sequence[int], million: bool, files: Sequence[str], folder: str | None = None
) -> list[Row]:
    """All solves, determinants, peers and preconditioners, in order."""
    found = []
    for kernel in ("exponential", "matern32"):
        for n in (DENSE_POINTS, max(sizes)):
            found += [_case("solve", "square", n, kernel), _case("logdet", "square", n, kernel)]
        found += [_case("logdet", "square", DENSE_POINTS, kernel, peer=peer) for peer in PEERS]
        found.append(_case("equal", "square", DENSE_POINTS, kernel))
    if million:
        found.append(_case("solve", "square", 10**6, "exponential", shift=1.0))
    for path in files:
        some = [_case(task, path, 10**7, "matern32") for task in ("solve", "logdet")]
        found += [*some, _case("logdet", path, 10**7, "matern32", peer="george")]
        found.append(_case("equal", path, 10**7, "matern32"))
        found.append(_case("preconditioner", path, 10**7, "matern32", shift=None))
    found.append(_case("preconditioner", "earthquakes", 1706, "exponential", shift=None))
    found.append(_case("preconditioner", "sphere", DENSE_POINTS, "inverse", shift=None))
    if folder is not None:
        found.append(
            _case("preconditioner", "bcsstk16", 0, "sparse", shift=None, length=None, folder=folder)
        )
    return found + [
        _case("woodbury", "random", WOODBURY_ROWS, name, shift=1e-6, tol=1e-8, length=None)
        for name in SPECTRA
    ]


def _case(task: str, points: str, n: int, kernel: str, **more: Any) -> Row:
    """A case; None stands for what the matrix has not, or what the measurement finds."""
    return {
        "task": task, "points": points, "n": n, "kernel": kernel, "length": LENGTH,
        "shift": 0.01, "tol": RTOL,
    } | more  # fmt: skip


def measured(case: Row) -> Row:
    """Figures of a case."""
    if "folder" in case:
        A = sparse_matrix(case["folder"], case["points"])
        return {"n": len(A)} | _preconditioned(Dense(A), A, np.ones(len(A)), case)
    if case["task"] == "woodbury":
        return _woodbury(case)
    points = points_of(case["points"], case["n"])
    kernel, length = case["kernel"], case["length"]
    if points.shape[1] > DIMENSIONS:
        return {"note": f"points in {points.shape[1]} dimensions, which compression does not suit"}
    if "peer" in case:
        found = PEERS[case["peer"]](points, case, right_side(points, case["shift"]))
        K = KernelMatrix(points, kernel, length=length)
        return {"n": len(points)} | found | _difference(K, case, found["logdet"])
    task = TASKS[case["task"]]
    # A trial compiles and warms up.
    task(KernelMatrix(points[:WARM_POINTS], kernel, length=length), case)
    before = peak()
    figures = task(KernelMatrix(points, kernel, length=length), case)
    return {"n": len(points)} | figures | {"peak_bytes": peak() - before}


def right_side(points: NDArray, shift: float) -> NDArray:
    """Values of a smooth function at points, with noise of variance `shift`."""
    rng = np.random.default_rng(0)
    wave = np.sin(20 * points[:, 0]) * np.cos(15 * points[:, 1])
    return wave + math.sqrt(shift) * rng.standard_normal(len(points))


def _solve(K: KernelMatrix, case: Row) -> Row:
    shift, b = case["shift"], right_side(K.points, case["shift"])
    started = time.perf_counter()
    F = factorize(K, shift=shift, tol=case["tol"])
    built = time.perf_counter()
    solution = F.solution(b)
    ended = time.perf_counter()
    return {
        "seconds": short(ended - started), "factor_seconds": short(built - started),
        "method": F.method, "iterations": solution.iterations,
        "residual": short(solution.residual), "backward_error": short(solution.backward_error),
        "sampled_residual": short(sampled_residual(K, shift, solution.x, b)),
    }  # fmt: skip


def _logdet(K: KernelMatrix, case: Row) -> Row:
    started = time.perf_counter()
    found = structmat.logdet(K, shift=case["shift"], tol=case["tol"])
    seconds = time.perf_counter() - started
    row = {"seconds": short(seconds), "logdet": float(found.logabsdet), "sign": float(found.sign)}
    return row | {"standard_error": short(found.error)} | _difference(K, case, found.logabsdet)


def _difference(K: KernelMatrix, case: Row, found: float) -> Row:
    """Difference over n to the dense value, or to that of factors of far smaller error."""
    started = time.perf_counter()
    exact = exact_logdet(K, case["shift"])
    seconds = time.perf_counter() - started
    more = {"dense_seconds": short(seconds)} if len(K.points) <= DENSE_POINTS else {}
    return more | {"difference": short(abs(float(found) - exact) / len(K.points))}


def _equal(K: KernelMatrix, case: Row) -> Row:
    return compared(K, case, right_side(K.points, case["shift"]))


def _preconditioner(K: KernelMatrix, case: Row) -> Row:
    close = compress(K, "hierarchical", tol=case["tol"], rng=0).matrix
    return _preconditioned(close, K, right_side(K.points, SHARE), case)


def _preconditioned(close: Any, source: Any, b: NDArray, case: Row) -> Row:
    """Steps of SciPy's conjugate gradients with a loose factorisation, and without."""
    shift = SHARE * close.norm(2)
    S = close + shift * Identity(len(b))
    started = time.perf_counter()
    M = factorize(compress(source, "hierarchical", tol=LOOSE, rng=0).matrix, shift=shift)
    built = time.perf_counter() - started
    figures = {"seconds": short(built), "method": M.method, "shift": short(shift)}
    return figures | {
        name: _steps(S, b, case["tol"], M=given, maxiter=STEPS)
        for name, given in (("iterations", M), ("plain", None))
    }


def _steps(S: LinearOperator, b: NDArray, rtol: float, **more: Any) -> int:
    """Steps of SciPy's conjugate gradients."""
    count = [0]

    def step(_: NDArray) -> None:
        count[0] += 1

    cg(S, b, rtol=rtol, callback=step, **more)
    return count[0]


def _woodbury(case: Row) -> Row:
    """Low rank plus a diagonal: the factorisation and a solve beside conjugate gradients."""
    n, shift = case["n"], case["shift"]
    rank = min(RANK, n)
    U = np.random.default_rng(0).standard_normal((n, rank)) / math.sqrt(n)
    U *= np.geomspace(1, SPECTRA[case["kernel"]], rank) ** 0.5
    A, b = LowRank(U, U), np.ones(n)
    S = A + shift * Identity(n)
    own, own_x = _shortest(lambda: factorize(A, shift=shift).solve(b))
    other, other_x = _shortest(lambda: cg(S, b, rtol=case["tol"])[0])
    return {
        "seconds": short(own), "cg_seconds": short(other), "rank": rank,
        "cg_steps": _steps(S, b, case["tol"]),
        "residual": short(_residual(S, own_x, b)), "cg_residual": short(_residual(S, other_x, b)),
    }  # fmt: skip


def _shortest(solve: Callable[[], NDArray]) -> tuple[float, NDArray]:
    """Seconds of the shortest of some solves, and the solution."""
    seconds = []
    for _ in range(TIMES):
        started = time.perf_counter()
        x = solve()
        seconds.append(time.perf_counter() - started)
    return min(seconds), x


def _residual(S: LinearOperator, x: NDArray, b: NDArray) -> float:
    return float(np.linalg.norm(S @ x - b) / np.linalg.norm(b))


#: Tasks with the matrix of a kernel.
TASKS: dict[str, Callable[[KernelMatrix, Row], Row]] = {
    "solve": _solve,
    "logdet": _logdet,
    "equal": _equal,
    "preconditioner": _preconditioner,
}
