"""Measuring the coefficients of kernels on this machine."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from scipy.optimize import nnls

from structmat._array import namespace
from structmat._progress import Progress, reporting
from structmat.kernels.choice.factored import FactoredMatrix
from structmat.kernels.choice.table import KERNELS
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import BlockPattern, RunPattern

_NUMPY = namespace(np.zeros(0))
_Sample = tuple[tuple[float, ...], float]
# Sizes, costs as fractions of the dense cost, and columns that are measured.
_SIZES = (192, 512, 1024, 2048, 4096)
_COSTS = (0.05, 0.2, 0.5)
_COLUMNS = (1, 3, 16, 64, 512)
#: Multiplications above which a product is left out, since it would take too long.
_MOST_MULTIPLICATIONS = 3e9
#: Timings of a product, and seconds that one of them takes at least.
_REPEATS, _LEAST_SECONDS = 5, 2e-4
#: Rows and columns of a tile, and of the small blocks of a GBLR matrix; cost of all of those.
_BLOCK, _SMALL, _SMALL_COST = 32, (3, 5), 0.02


def calibrate(
    *, sizes: tuple[int, ...] = _SIZES, progress: Progress | bool | None = None
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Measure all kernels that are here on GBLR and block-sparse matrices in float32.

    Parameters
    ----------
    sizes : tuple of int
        Sizes of the matrices.
    progress : bool or callable, optional
        By default a bar on a terminal; see `structmat.compress`.

    Returns
    -------
    coefficients : dict of list of float
        Nanoseconds by kernel, in the order of its counts: least squares on relative errors,
        none negative. Kernels that cannot be measured keep the coefficients in use.
    errors : dict of float
        Error of the model for each kernel that was measured: the median of the relative
        errors.

    Notes
    -----
    About a minute on one thread, and as much memory as a few dense matrices of the
    largest size.
    """
    prices = {name: kernel.price for name, kernel in KERNELS.items() if kernel.price}
    samples: dict[str, list[_Sample]] = {name: [] for name in prices}
    with reporting(progress, "measuring kernels") as report:
        for i, factored in enumerate(_matrices(sizes), 1):
            work = factored.work
            for columns in _COLUMNS:
                x = np.ones((factored.shape[1], columns), np.float32)
                for name, price in prices.items():
                    multiplications = price.size(work) / work.itemsize * columns
                    if name in factored.kernels and multiplications < _MOST_MULTIPLICATIONS:
                        product = partial(factored.bound(name).multiply, x, by_columns=False)
                        samples[name].append((price.counts(work, columns), seconds(product)))
            # For each size one of small blocks, and two, of runs and of tiles, for each cost.
            report(i / ((1 + 2 * len(_COSTS)) * len(sizes)))
    fits = {name: _fitted(found) for name, found in samples.items() if found}
    used = KERNELS.coefficients()
    result = {name: fits[name][0] if name in fits else list(used[name]) for name in prices}
    return result, {name: error for name, (_, error) in fits.items()}


def _matrices(sizes: tuple[int, ...]) -> Iterator[FactoredMatrix]:
    rng = np.random.default_rng(0)
    for n in sizes:
        count = max(1, int(_SMALL_COST * n * n / sum(_SMALL)))
        yield _gblr(np.repeat(np.minimum([_SMALL], n).T, count, axis=1), n, rng)
        for cost in _COSTS:
            yield _gblr(gblr_widths(n, cost, rng), n, rng)
            grid = n // _BLOCK
            place = np.sort(rng.choice(grid * grid, max(1, int(cost * grid * grid)), replace=False))
            blocks = rng.standard_normal(place.size * _BLOCK * _BLOCK).astype(np.float32)
            pattern = BlockPattern(*np.divmod(place, grid), (_BLOCK, _BLOCK), (n, n))
            structure = FactorStructure(pattern, None, _NUMPY, "cpu")
            yield FactoredMatrix(structure, [blocks])


def gblr_widths(n: int, cost: float, rng: np.random.Generator) -> np.ndarray:
    """Widths of n blocks, (2, n), that cost about that share of the dense matrix."""
    return np.maximum(rng.uniform(0, cost * n, (2, n)).astype(np.int64), 1)


def _gblr(width: np.ndarray, n: int, rng: np.random.Generator) -> FactoredMatrix:
    """Blocks of these widths, (2, K), at random places."""
    start = rng.integers(0, n, width.shape)
    rows, cols = (RunPattern(s, w, n) for s, w in zip(start, width, strict=True))
    contents = [rng.standard_normal(w.sum()).astype(np.float32) for w in width]
    return FactoredMatrix(FactorStructure(rows, cols, _NUMPY, "cpu"), contents)


def seconds(call: Callable[[], object], wait: Callable[[], object] = lambda: None) -> float:
    """Median time of a call, after a first call that prepares it.

    `wait` returns once a device has done what calls have started there.
    """
    call()
    wait()
    begin = time.perf_counter()
    call()
    wait()
    loops = int(_LEAST_SECONDS / (time.perf_counter() - begin)) + 1
    taken = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        for _ in range(loops):
            call()
        wait()
        taken.append((time.perf_counter() - begin) / loops)
    return float(np.median(taken))


def _fitted(samples: list[_Sample]) -> tuple[list[float], float]:
    """Coefficients in nanoseconds, and the median relative error of the model with them."""
    counts = np.array([c for c, _ in samples])
    relative = counts / np.array([t for _, t in samples])[:, None]
    seconds = nnls(relative, np.ones(len(samples)))[0]
    error = float(np.median(np.abs(relative @ seconds - 1)))
    return [float(f"{1e9 * s:.3g}") for s in seconds], error
