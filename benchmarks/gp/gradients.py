"""Ways to tr(R^-1 D) in the gradient of a likelihood: exact ones, random vectors, differences."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gp.places import TRUE, Places
from benchmarks.results import Row, short
from structmat.gp.correlation import Correlation
from structmat.gp.forms import CompressedForm, DenseForm, compressed_form
from structmat.gp.likelihood import Terms

#: Step of differences, of the logarithm of the length.
STEP = 0.02
#: Tolerance of the trace that stands for the exact one where that would take too long.
FINE = 1e-9
#: Points up to which the dense trace is taken, and those of the trial.
DENSE_POINTS, WARM_POINTS = 5000, 2500


class Found(NamedTuple):
    """A trace with its standard error, and the seconds it took beyond a likelihood."""

    value: float
    error: float
    seconds: float


def dense(places: Places, length: float, ratio: float) -> Terms:
    """Terms of the values by dense matrices."""
    return Terms(DenseForm(places.X, "matern32", length, ratio), ratio, places.y)


def measured(places: Places) -> Row:
    """Every way, at the parameters of the true process."""
    exact, ways = _exact(places), []
    R = _form(places)
    R.logdet()
    for name, way in WAYS.items():
        # A trial compiles and warms up.
        few = Places(*(array[:WARM_POINTS] for array in places))
        way(_form(few), few)
        found = way(R, places)
        ways.append(
            {
                "way": name, "trace": found.value, "standard_error": short(found.error),
                "difference": short(abs(found.value - exact)), "seconds": short(found.seconds),
            }
        )  # fmt: skip
    return {"n": len(places.X), "ways": ways}


def _form(places: Places, tol: float | None = None, step: float = 0.0) -> CompressedForm:
    ratio, length = TRUE["noise"] / TRUE["amplitude"], TRUE["length"] * math.exp(step)
    return compressed_form(places.X, "matern32", length, ratio, tol)


def _exact(places: Places) -> float:
    ratio = TRUE["noise"] / TRUE["amplitude"]
    R: Correlation
    if len(places.X) <= DENSE_POINTS:
        R = dense(places, TRUE["length"], ratio).correlation
    else:
        R = _form(places, FINE)
    return R.slope(places.y)[1].value


def _factors(R: CompressedForm, places: Places) -> Found:
    started = time.perf_counter()
    _, trace = R.slope(places.y)
    return Found(trace.value, 0.0, time.perf_counter() - started)


def _probes(count: int) -> Callable[..., Found]:
    def way(R: CompressedForm, places: Places) -> Found:
        started = time.perf_counter()
        Z = np.random.default_rng(0).integers(0, 2, (len(places.X), count)) * 2.0 - 1.0
        values = (R.solve(Z) * (R.derivative() @ Z)).sum(axis=0)
        seconds = time.perf_counter() - started
        return Found(float(values.mean()), float(values.std(ddof=1)) / count**0.5, seconds)

    return way


def _differences(R: CompressedForm, places: Places) -> Found:
    started = time.perf_counter()
    above, below = (_form(places, None, step).logdet() for step in (STEP, -STEP))
    value = (above.logabsdet - below.logabsdet) / (2 * STEP)
    error = float(np.hypot(above.error, below.error)) / (2 * STEP)
    return Found(value, error, time.perf_counter() - started)


WAYS: dict[str, Callable[[Any, Places], Found]] = {
    "factors": _factors,
    "16 random vectors": _probes(16),
    "64 random vectors": _probes(64),
    "differences": _differences,
}
