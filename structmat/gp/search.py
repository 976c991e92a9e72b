"""The largest likelihood over the parameters, by L-BFGS-B with gradients.

The best amplitude for a length and a ratio of noise to amplitude is known, so the search has two
dimensions: the logarithms of both. It begins on some of the points. Their curvature, scaled to all
points, makes the coordinates in which few evaluations on all points remain.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from structmat._progress import Progress, part
from structmat.errors import SolveError, ToleranceError
from structmat.gp.correlation import Correlation, Real
from structmat.gp.likelihood import Terms
from structmat.gp.starts import bounds_of, random_start, some_points

#: Gradient at which a search on all points ends, in standard errors as some of the points tell
#: them, and at which one on some points ends.
NEAR, CLOSE = 0.03, 1e-3
#: Gain of likelihood at which a search on all points ends.
GAIN = 1e-3
#: Most evaluations on all points, most in one step of theirs, and most on some for each start.
MOST, TRIES, MOST_FIRST = 25, 5, 60
#: Step of the differences that give the curvature, and its least eigenvalue as a share of n.
STEP, LEAST = 0.02, 1e-4
#: Largest change of a log parameter in one search on all points, and number of such searches.
REACH, ROUNDS = math.log(30.0), 3

#: Makes the correlation matrix for a length and a ratio.
Make = Callable[[float, float], Correlation]


class Objective:
    """The negative of the largest log likelihood over the amplitude, with its gradient.

    Points at which the matrix is refused have a value above all others, once there are others.
    """

    def __init__(self, make: Make, y: Real, report: Progress, most: int) -> None:
        self.make, self.y, self.evaluations = make, y, 0
        self._report, self._most = report, most
        self._worst, self._slope = -math.inf, np.zeros(2)
        #: The last terms, and where they are those.
        self.terms: Terms | None = None
        self.theta = np.full(2, np.nan)
        self._found: tuple[Real, tuple[float, Real]] | None = None

    def __call__(self, theta: Real) -> tuple[float, Real]:
        """The value and its gradient."""
        if self._found is None or not np.array_equal(theta, self._found[0]):
            self._found = theta.copy(), self._evaluated(theta)
        return self._found[1]

    def _evaluated(self, theta: Real) -> tuple[float, Real]:
        self.evaluations += 1
        self._report(min(self.evaluations / self._most, 1.0))
        try:
            terms = self.at(theta)
        except (SolveError, ToleranceError):
            if self._worst == -math.inf:
                raise
            return self._worst + abs(self._worst) + 1.0, self._slope
        amplitude = terms.best_amplitude
        value, gradient = -terms.value(amplitude), -terms.gradient(amplitude)[[0, 2]]
        self._worst, self._slope = max(self._worst, value), gradient
        return value, gradient

    def at(self, theta: Real) -> Terms:
        """The terms at log length and log ratio."""
        if self.terms is None or not np.array_equal(theta, self.theta):
            # The matrix before it is freed first.
            self.terms = None
            length, ratio = map(float, np.exp(theta))
            self.terms, self.theta = Terms(self.make(length, ratio), ratio, self.y), theta.copy()
        return self.terms


@dataclass(frozen=True)
class Found:
    """The end of a search: parameters, their terms, and evaluations on all points."""

    theta: Real
    terms: Terms
    evaluations: int


def maximised(
    points: Real,
    y: Real,
    make: Callable[[Real], Make],
    start: Real,
    *,
    restarts: int,
    rng: np.random.Generator,
    report: Progress,
) -> Found:
    """The parameters of the largest likelihood, from a start and random ones.

    `make` takes points and returns the function that makes their correlation matrix.
    """
    bounds = bounds_of(points)
    at = some_points(points, rng)
    first = Objective(make(points[at]), y[at], part(report, 0.0, 0.2), MOST_FIRST * (1 + restarts))
    theta = _from_starts(first, points, start, bounds, restarts, rng)
    if at.size == len(points):
        found = Found(theta, first.at(theta), first.evaluations)
    else:
        scale = math.sqrt(at.size / len(points))
        axes = scale * _axes(first, theta)
        every = Objective(make(points), y, part(report, 0.2, 1.0), MOST)
        first.terms = None
        theta = _refined(every, theta, axes, bounds)
        found = Found(theta, every.at(theta), every.evaluations)
    _warn_of_bounds(theta, bounds)
    return found


def _from_starts(
    objective: Objective,
    points: Real,
    start: Real,
    bounds: Real,
    restarts: int,
    rng: np.random.Generator,
) -> Real:
    starts = [start, *(random_start(points, rng) for _ in range(restarts))]
    best, theta = math.inf, start
    for begin in starts:
        found = minimize(
            objective, np.clip(begin, *bounds.T), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxfun": MOST_FIRST, "gtol": CLOSE, "ftol": 1e-12},
        )  # fmt: skip
        if found.fun < best:
            best, theta = found.fun, found.x
    return np.asarray(theta)


def _axes(objective: Objective, theta: Real) -> Real:
    """Coordinates in which the curvature is the identity: columns C with C^T H C = I."""
    H = np.array(
        [objective(theta + step)[1] - objective(theta - step)[1] for step in STEP * np.eye(2)]
    )
    H /= 2 * STEP
    values, vectors = np.linalg.eigh((H + H.T) / 2)
    values = np.maximum(values, LEAST * len(objective.y))
    return np.asarray(vectors / np.sqrt(values))


def _refined(objective: Objective, theta: Real, axes: Real, bounds: Real) -> Real:
    """The search on all points, from the result on some of them."""
    # With bounds on every variable the first step is that of Newton's method.
    reach = REACH / np.abs(axes).sum(axis=1).max()
    for _ in range(ROUNDS):
        center = theta

        def value(u: Real, center: Real = center) -> tuple[float, Real]:
            found, gradient = objective(np.clip(center + axes @ u, *bounds.T))
            return found, axes.T @ gradient

        scale = max(abs(value(np.zeros(2))[0]), 1.0)
        found = minimize(
            value, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-reach, reach)] * 2,
            options={"maxfun": MOST, "maxls": TRIES, "gtol": NEAR, "ftol": GAIN / scale},
        )  # fmt: skip
        theta = np.clip(center + axes @ found.x, *bounds.T)
        if np.abs(found.x).max() < 0.99 * reach:
            break
    return np.asarray(theta)


def _warn_of_bounds(theta: Real, bounds: Real) -> None:
    for value, (least, most), name in zip(theta, bounds, ("length", "noise"), strict=True):
        if not least + 1e-6 < value < most - 1e-6:
            warnings.warn(
                f"the likelihood is largest at a bound, with {name} {math.exp(value):.3g}"
                f"{'' if name == 'length' else ' of the amplitude'}; expected one between "
                f"{math.exp(least):.3g} and {math.exp(most):.3g} (scale the points, or take "
                "another kernel)",
                stacklevel=4,
            )
