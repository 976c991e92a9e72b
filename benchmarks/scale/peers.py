"""Other libraries at the same points: each says what it is not able to, or is not installed."""

import importlib
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
    kernels: Any = importlib.import_module("sklearn.gaussian_process.kernels")
    length = case["length"]
    kernel = {
        "exponential": kernels.Matern(length, nu=0.5),
        "matern32": kernels.Matern(length, nu=1.5),
        "gaussian": kernels.RBF(length),
    }[case["kernel"]]
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
    library: Any = importlib.import_module("george")
    kernels: Any = library.kernels
    make = {"exponential": kernels.ExpKernel, "matern32": kernels.Matern32Kernel}[case["kernel"]]
    kernel = make(case["length"] ** 2, ndim=points.shape[1])
    process = library.GP(kernel, solver=library.HODLRSolver, tol=case["tol"], seed=0)
    started = time.perf_counter()
    process.compute(points[kd_order(points)], 0.1)
    return {"seconds": short(time.perf_counter() - started)}


def _error(exact: NDArray, found: NDArray) -> float:
    return float(np.linalg.norm(exact - found) / np.linalg.norm(exact))


PEERS: dict[str, Callable[[NDArray, dict[str, Any]], Row]] = {
    "scikit-learn Nyström": nystroem,
    "george": george,
}
