"""One measurement of a Gaussian process in a process of its own.

``python -m benchmarks.gp.row CASE`` prints the figures of a case, both as JSON.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.apart import answer
from benchmarks.gp import gradients
from benchmarks.gp.libraries import LIBRARIES, Fitted
from benchmarks.gp.places import Places, places_of
from benchmarks.results import Row, short
from benchmarks.scale.places import peak

#: Points of the trial that compiles and warms up, and held-out points of it.
WARM_POINTS, WARM_NEW = 2500, 20
#: Points up to which a likelihood is computed densely beside.
DENSE_POINTS = 5000


def measured(case: dict[str, Any]) -> Row:
    """Figures of a case: points, n, and a library or a way to the trace."""
    places = places_of(case["points"], case["n"])
    if case["task"] == "gradient":
        return gradients.measured(places)
    fit = LIBRARIES[case["library"]].fit
    if case["library"] in ("structmat", "true parameters"):
        fit(_some(places))
    before = peak()
    found = fit(places)
    return {
        "n": len(places.X), "dimensions": places.X.shape[1],
        **{name: short(getattr(found, name)) for name in ("length", "amplitude", "noise")},
        "fit_seconds": short(found.fit_seconds), "predict_seconds": short(found.predict_seconds),
        "evaluations": found.evaluations, "likelihood": found.likelihood,
        "likelihood_error": short(found.likelihood_error), "peak_bytes": peak() - before,
        **_held_out(found, places.y_new), **_dense(found, places),
    }  # fmt: skip


def _some(places: Places) -> Places:
    return Places(
        places.X[:WARM_POINTS], places.y[:WARM_POINTS], places.X_new[:WARM_NEW],
        places.y_new[:WARM_NEW],
    )  # fmt: skip


def _held_out(found: Fitted, y: NDArray) -> Row:
    """Root of the mean square error, and mean logarithm of the density of held-out values."""
    error = (np.asarray(found.mean, np.float64) - y) / np.asarray(found.deviation, np.float64)
    density = -0.5 * error**2 - np.log(found.deviation) - 0.5 * np.log(2 * np.pi)
    return {
        "rmse": short(float(np.sqrt(np.mean((found.mean - y) ** 2)))),
        "density": short(float(density.mean())),
    }


def _dense(found: Fitted, places: Places) -> Row:
    """The likelihood of the parameters by a dense factorization, for few points."""
    if len(places.X) > DENSE_POINTS:
        return {}
    exact = gradients.dense(places, found.length, found.noise / found.amplitude)
    return {"dense_likelihood": exact.value(found.amplitude)}


if __name__ == "__main__":
    answer(measured)
