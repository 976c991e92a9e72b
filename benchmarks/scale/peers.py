"""Other libraries at the same points: each says what it is not able to, or is not installed."""

import importlib
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Row, short
from structmat.sources.ordering import kd_order

#: Rows on which the error of a peer is measured.
ROWS = 256


def nystroem(points: NDArray, case: dict[str, Any]) -> Row:
    """Scikit-learn's Nyström features: low rank by random landmarks, at a given storage."""
    approximation: Any = importlib.import_module("sklearn.kernel_approximation")
    kernel = _scikit_kernel(case)
    rank = max(1, int(case["storage"] // len(points)))
    started = time.perf_counter()
    features = approximation.Nystroem(kernel, n_components=rank, random_state=0)
    F = features.fit_transform(points)
    seconds = time.perf_counter() - started
    some = np.linspace(0, len(points) - 1, ROWS).astype(int)
    return {
        "seconds": short(seconds),
        "error": short(_error(kernel(points[some], points), F[some] @ F.T)),
        "storage_bytes": F.nbytes,
    }


def george(points: NDArray, case: dict[str, Any]) -> Row:
    """George's HODLR solver: time to build and to factorise it, points in k-d order."""
    process, order = george_process(points, case)
    started = time.perf_counter()
    process.compute(points[order], 0.1)
    return {"seconds": short(time.perf_counter() - started)}


def george_solver(points: NDArray, case: Row, b: NDArray) -> Row:
    """George's HODLR solver in k-d order: build, factorisation, determinant and a solve."""
    process, order = george_process(points, case)
    ordered, b = points[order], b[order]
    started = time.perf_counter()
    process.compute(ordered, math.sqrt(case["shift"]))
    process.apply_inverse(b)
    seconds = time.perf_counter() - started
    return {"seconds": short(seconds), "logdet": float(process.solver.log_determinant)}


def scikit_process(points: NDArray, case: Row, b: NDArray) -> Row:
    """Scikit-learn's Gaussian process, a dense Cholesky factorisation."""
    processes: Any = importlib.import_module("sklearn.gaussian_process")
    process = processes.GaussianProcessRegressor(
        _scikit_kernel(case), alpha=case["shift"], optimizer=None
    )
    started = time.perf_counter()
    process.fit(points, b)
    seconds = time.perf_counter() - started
    found = float(2 * np.log(np.diag(process.L_)).sum())
    return {"seconds": short(seconds), "logdet": found}


def george_process(points: NDArray, case: Row) -> tuple[Any, NDArray]:
    """George's process with its HODLR solver, and the k-d order that it takes points in."""
    library: Any = importlib.import_module("george")
    make = {"exponential": "ExpKernel", "matern32": "Matern32Kernel"}[case["kernel"]]
    kernel = getattr(library.kernels, make)(case["length"] ** 2, ndim=points.shape[1])
    process = library.GP(kernel, solver=library.HODLRSolver, tol=case["tol"], seed=0)
    return process, kd_order(points)


def _scikit_kernel(case: Row) -> Any:
    """Scikit-learn's kernel of a case."""
    kernels: Any = importlib.import_module("sklearn.gaussian_process.kernels")
    if case["kernel"] == "gaussian":
        return kernels.RBF(case["length"])
    return kernels.Matern(case["length"], nu={"exponential": 0.5, "matern32": 1.5}[case["kernel"]])


def _error(exact: NDArray, found: NDArray) -> float:
    return float(np.linalg.norm(exact - found) / np.linalg.norm(exact))


PEERS: dict[str, Callable[[NDArray, dict[str, Any]], Row]] = {
    "scikit-learn Nyström": nystroem,
    "george": george,
}
#: Libraries that solve; they get the right-hand side as well.
SOLVERS: dict[str, Callable[[NDArray, dict[str, Any], NDArray], Row]] = {
    "george": george_solver,
    "scikit-learn": scikit_process,
}
