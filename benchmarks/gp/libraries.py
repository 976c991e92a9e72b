"""Libraries of Gaussian processes: each is fitted to the same points, and predicts at new ones.

All have the kernel Matérn 3/2, begin with the same parameters, and may evaluate their likelihood at
all points as often. Each stops earlier where its own rule says so.
"""

import contextlib
import importlib
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.gp.gpytorch_models import exact, inducing
from benchmarks.gp.places import START, TRUE, Places
from structmat.gp import GaussianProcess

#: Evaluations of the likelihood at all points, at most.
MOST = 15
#: George's relative tolerance of low rank.
GEORGE_TOL = 1e-6
#: Points up to which george's gradient, which takes the dense inverse, is used.
GEORGE_DENSE = 5000


class Fitted(NamedTuple):
    """The result of a library, with the times that it took."""

    length: float
    amplitude: float
    noise: float
    #: Means of f and standard deviations of y at the held-out points.
    mean: NDArray
    deviation: NDArray
    fit_seconds: float
    predict_seconds: float
    evaluations: int
    likelihood: float
    likelihood_error: float | None = None


def structmat_process(places: Places) -> Fitted:
    """`GaussianProcess` of structmat."""
    return _structmat(places, GaussianProcess("matern32", **START), optimize=True)


def true_process(places: Places) -> Fitted:
    """The process from which the values come, by structmat and without a search."""
    return _structmat(places, GaussianProcess("matern32", **TRUE), optimize=False)


def _structmat(places: Places, process: GaussianProcess, *, optimize: bool) -> Fitted:
    started = time.perf_counter()
    process.fit(places.X, places.y, optimize=optimize, progress=False)
    found = process.log_marginal_likelihood()
    fitted = time.perf_counter()
    mean, std = process.predict(places.X_new, return_std=True, progress=False)
    ended = time.perf_counter()
    deviation = np.hypot(std, process.parameters["noise"])
    return Fitted(
        **process.parameters, mean=mean, deviation=deviation, fit_seconds=fitted - started,
        predict_seconds=ended - fitted, evaluations=process.evaluations,
        likelihood=found.value, likelihood_error=found.error,
    )  # fmt: skip


def scikit_process(places: Places) -> Fitted:
    """`GaussianProcessRegressor` of scikit-learn, by L-BFGS-B and dense factors."""
    processes: Any = importlib.import_module("sklearn.gaussian_process")
    kernels: Any = importlib.import_module("sklearn.gaussian_process.kernels")
    kernel = kernels.ConstantKernel(START["amplitude"] ** 2) * kernels.Matern(
        START["length"], nu=1.5
    ) + kernels.WhiteKernel(START["noise"] ** 2)
    counted: list[int] = []

    def optimizer(objective: Any, start: NDArray, bounds: NDArray) -> tuple[NDArray, float]:
        found = minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxfun": MOST}
        )
        counted.append(found.nfev)
        return found.x, found.fun

    process = processes.GaussianProcessRegressor(kernel, optimizer=optimizer)
    started = time.perf_counter()
    process.fit(places.X, places.y)
    fitted = time.perf_counter()
    # With a white kernel, deviations are those of noisy values.
    mean, deviation = process.predict(places.X_new, return_std=True)
    ended = time.perf_counter()
    amplitude, length, noise = np.exp(process.kernel_.theta * [0.5, 1.0, 0.5]).tolist()
    return Fitted(
        length, amplitude, noise, mean, deviation, fitted - started, ended - fitted, counted[0],
        float(process.log_marginal_likelihood_value_),
    )  # fmt: skip


class _Enough(Exception):
    """The last evaluation that is allowed was made."""


def george_process(places: Places) -> Fitted:
    """`GP` of george with its HODLR solver, by L-BFGS-B.

    Its gradient takes the dense inverse, so that many points have differences in its place.
    """
    library: Any = importlib.import_module("george")
    d = places.X.shape[1]
    kernel = START["amplitude"] ** 2 * library.kernels.Matern32Kernel(START["length"] ** 2, ndim=d)
    process = library.GP(
        kernel, white_noise=math.log(START["noise"] ** 2), fit_white_noise=True,
        solver=library.HODLRSolver, tol=GEORGE_TOL, seed=0,
    )  # fmt: skip
    # A covariance of its own library needs neighbours side by side.
    order = importlib.import_module("structmat.sources.ordering").kd_order(places.X)
    X, y = places.X[order], places.y[order]
    best: list[Any] = [math.inf, None, 0]

    def objective(vector: NDArray) -> float:
        if best[2] == MOST:
            raise _Enough
        best[2] += 1
        process.set_parameter_vector(vector)
        process.compute(X)
        value = -float(process.log_likelihood(y))
        if value < best[0]:
            best[:2] = value, np.array(vector)
        return value

    def gradient(vector: NDArray) -> NDArray:
        process.set_parameter_vector(vector)
        found: NDArray = -process.grad_log_likelihood(y)
        return found

    started = time.perf_counter()
    exact_gradient = gradient if len(X) <= GEORGE_DENSE else None
    with contextlib.suppress(_Enough):
        minimize(objective, process.get_parameter_vector(), jac=exact_gradient, method="L-BFGS-B")
    process.set_parameter_vector(best[1])
    process.compute(X)
    fitted = time.perf_counter()
    mean, variance = process.predict(y, places.X_new, return_var=True)
    ended = time.perf_counter()
    white, constant, metric = best[1]
    noise = math.exp(white / 2)
    deviation = np.sqrt(np.maximum(variance, 0.0) + noise**2)
    amplitude = math.exp(constant / 2) * math.sqrt(d)
    return Fitted(
        math.exp(metric / 2), amplitude, noise, mean, deviation, fitted - started, ended - fitted,
        best[2], -best[0],
    )  # fmt: skip


class Library(NamedTuple):
    """The fit of a library, and the number of points up to which it is made."""

    fit: Callable[[Places], Fitted]
    points: int


LIBRARIES = {
    "structmat": Library(structmat_process, 10**7),
    "true parameters": Library(true_process, 10**7),
    "scikit-learn": Library(scikit_process, 5000),
    "george": Library(george_process, 40_000),
    "gpytorch": Library(lambda places: Fitted(**exact(places, START)), 5000),
    "gpytorch, inducing points": Library(lambda places: Fitted(**inducing(places, START)), 10**7),
}
