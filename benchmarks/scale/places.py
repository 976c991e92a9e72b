"""Points and matrices to measure on, and the memory of a process."""

import resource
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.micro import data
from structmat.demo import _hypocentres


def points_of(name: str, n: int) -> NDArray:
    """Points by name: uniform in the square, the cube or on the sphere, earthquakes, a file."""
    if name == "earthquakes":
        return _hypocentres()[:n] / 6371.0
    if name.endswith(".npy"):
        found: NDArray = np.load(name)[:n]
        return found
    rng = np.random.default_rng(0)
    if name == "sphere":
        around = rng.standard_normal((n, 3))
        return around / np.linalg.norm(around, axis=1, keepdims=True)
    return rng.random((n, {"square": 2, "cube": 3, "8-D": 8}[name]))


def sparse_matrix(folder: str, name: str) -> NDArray:
    """A SuiteSparse matrix from the folder of data, dense."""
    return data.sparse(data.find(Path(folder)), name, 10**6, np.random.default_rng(0))


def peak() -> int:
    """Bytes of memory that this process has held at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
