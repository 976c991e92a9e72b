"""Points and values for Gaussian processes, some of them held out."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.demo import _hypocentres

#: The process from which values are drawn, on points of width one: length, amplitude, noise.
TRUE = {"length": 0.1, "amplitude": 2.0, "noise": 0.3}
#: Where every library begins.
START = {"length": 0.2, "amplitude": 1.0, "noise": 0.5}
#: Held-out points; at most this share.
HELD_OUT, MOST_HELD_OUT = 500, 0.2
#: Clusters of points, the share of points outside, and random waves of a draw.
CLUSTERS, OUTSIDE, WAVES = 200, 0.3, 4000
#: Points whose waves are added up at once.
AT_ONCE = 4096


class Places(NamedTuple):
    """Points (n, d) and values with their mean subtracted, for a fit and held out."""

    X: NDArray
    y: NDArray
    X_new: NDArray
    y_new: NDArray


def places_of(name: str, n: int) -> Places:
    """Up to n points by name, and five hundred or fewer beside: clusters, earthquakes, a file."""
    rng = np.random.default_rng(0)
    if name == "earthquakes":
        X, y = _earthquakes()
    else:
        X = _clusters(n + HELD_OUT, rng) if name == "clusters" else np.load(name)
        X = X[rng.permutation(len(X))[: n + HELD_OUT]]
        X = (X - X.min(axis=0)) / np.ptp(X, axis=0).max()
        y = _draw(X, rng)
    order = rng.permutation(len(X))
    held = min(HELD_OUT, int(MOST_HELD_OUT * len(X)))
    new, old = order[:held], order[held:][:n]
    mean = y[old].mean()
    return Places(X[old], y[old] - mean, X[new], y[new] - mean)


def _clusters(n: int, rng: np.random.Generator) -> NDArray:
    """Points in the square in clusters of very different sizes, as towns are, and some outside."""
    centers, radius = rng.random((CLUSTERS, 2)), 0.04 * rng.random(CLUSTERS)
    weight = rng.pareto(1.2, CLUSTERS) + 0.2
    of = rng.choice(CLUSTERS, n, p=weight / weight.sum())
    X = centers[of] + radius[of][:, None] * rng.standard_normal((n, 2))
    outside = rng.random(n) < OUTSIDE
    X[outside] = rng.random((int(outside.sum()), 2))
    return X


def _draw(X: NDArray, rng: np.random.Generator) -> NDArray:
    """Noisy values of a sum of random waves, whose covariance is Matérn 3/2 on average."""
    # The spectral density is that of Student's t distribution with three degrees of freedom.
    spread = np.sqrt(rng.chisquare(3, WAVES) / 3)[:, None]
    waves = rng.standard_normal((WAVES, X.shape[1])) / spread / TRUE["length"]
    phases = rng.uniform(0, 2 * math.pi, WAVES)
    parts = [
        np.cos(X[i : i + AT_ONCE] @ waves.T + phases).sum(axis=1) for i in range(0, len(X), AT_ONCE)
    ]
    f = TRUE["amplitude"] * math.sqrt(2 / WAVES) * np.concatenate(parts)
    noisy: NDArray = f + TRUE["noise"] * rng.standard_normal(len(X))
    return noisy


def _earthquakes() -> tuple[NDArray, NDArray]:
    """Depths by place on the sphere, in units of its radius and in hundreds of kilometres."""
    points = _hypocentres()
    radius = np.linalg.norm(points, axis=1, keepdims=True)
    return points / radius, (6371.0 - radius[:, 0]) / 100
