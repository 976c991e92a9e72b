"""Real matrices from files: kernel matrices of point sets, and SuiteSparse matrices."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from benchmarks.micro.inputs import Generator, MatrixCase
from benchmarks.results import BenchmarkError, Skip
from structmat.demo import kd_order

#: Rows of a matrix, unless another number is asked for: all together take minutes.
ROW_COUNT = 768
BUDGET = 0.15
#: Minutes for all matrices, roughly, on two cores.
DATA_MINUTES = 2
FILES = (
    "points_us_zipcodes.npz",
    "points_usgs_earthquakes.npz",
    "susy_10k.npz",
    "suitesparse_small.npz",
)
SPARSE = ("bcsstk13", "bcsstk16", "cryg2500", "watt_2", "qc324")
INVERSES = ("bcsstk13", "1138_bus")


def find(folder: Path) -> Path:
    """Folder that holds the files: the given one, or matrices/ in it."""
    for place in (folder / "matrices", folder):
        if any((place / name).is_file() for name in FILES):
            return place
    raise BenchmarkError(
        f"--data-dir {folder}: none of {', '.join(FILES)} is there or in its folder matrices; "
        "give the folder that holds them"
    )


def cases(folder: Path, size: int = ROW_COUNT) -> list[MatrixCase]:
    """Cases of all files in a folder; a missing file makes a skipped row."""
    kernels: list[tuple[str, Callable[[Path, int, Generator], NDArray]]] = [
        ("US zip codes, exp(−r/5°)", zip_codes),
        ("earthquakes, exp(−r/30°)", smooth_earthquakes),
        ("SUSY, exp(−r²/8)", susy),
    ]
    made = [
        MatrixCase("data", name, partial(make, folder, size), [BUDGET]) for name, make in kernels
    ]
    made += [
        MatrixCase("data", name, partial(sparse, folder, name, size), [BUDGET]) for name in SPARSE
    ]
    made += [
        MatrixCase("data", f"inverse of {name}", partial(inverse, folder, name, size), [BUDGET])
        for name in INVERSES
    ]
    return made


def _load(folder: Path, name: str) -> dict[str, NDArray]:
    try:
        with np.load(folder / name) as archive:
            return dict(archive)
    except FileNotFoundError:
        raise Skip(f"{name} is not in the data folder") from None
    except (OSError, ValueError) as reason:
        raise BenchmarkError(f"{name} in the data folder cannot be read: {reason}") from None


def zip_codes(folder: Path, size: int, rng: Generator) -> NDArray:
    """Exponential kernel of a sample of the contiguous states' zip codes, in k-d-tree order."""
    archive = _load(folder, FILES[0])
    points = archive["latlon"][archive["contiguous_us"]]
    points = points[rng.choice(len(points), min(size, len(points)), replace=False)]
    points = points[kd_order(points)]
    return np.exp(-cdist(points, points) / 5)


def smooth_earthquakes(folder: Path, size: int, _rng: Generator) -> NDArray:
    """Smooth kernel, for which low rank is already very good."""
    points = np.unique(_load(folder, FILES[1])["lon_lat_depth_mag"][:, :2], axis=0)
    points = points[np.linspace(0, len(points) - 1, min(size, len(points))).astype(int)]
    points = points[kd_order(points)]
    return np.exp(-cdist(points, points) / 30)


def susy(folder: Path, size: int, _rng: Generator) -> NDArray:
    """Gaussian kernel of width 2 in eight dimensions: a hard case for every structure."""
    points = _load(folder, FILES[2])["x_train"][:size].astype(np.float64)
    points = points[kd_order(points)]
    return np.exp(-cdist(points, points, "sqeuclidean") / 8)


def sparse(folder: Path, name: str, size: int, _rng: Generator) -> NDArray:
    """Leading part of a SuiteSparse matrix, dense."""
    return _suitesparse(folder, name)[:size, :size]


def inverse(folder: Path, name: str, size: int, _rng: Generator) -> NDArray:
    """Leading part of the inverse of a SuiteSparse matrix."""
    return np.linalg.inv(_suitesparse(folder, name))[:size, :size]


def _suitesparse(folder: Path, name: str) -> NDArray:
    archive = _load(folder, FILES[3])
    if f"{name}_val" not in archive:
        raise Skip(f"{FILES[3]} holds no {name}")
    values = archive[f"{name}_val"]
    A = np.zeros(archive[f"{name}_shape"], values.dtype)
    A[archive[f"{name}_row"], archive[f"{name}_col"]] = values
    return A
