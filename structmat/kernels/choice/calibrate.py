"""Measuring what each kernel takes on this machine, for the choice between them."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from scipy.optimize import nnls

from structmat._array import namespace
from structmat.kernels.choice.factored import Factored, Factors
from structmat.kernels.cost_model import FEATURES, Figures, Work, figures
from structmat.kernels.layouts.panels import BlockPattern, RunPattern

_NUMPY = namespace(np.zeros(0))
_Sample = tuple[tuple[float, ...], float]
# Sizes, costs as shares of the dense cost, and columns that are measured.
_SIZES = (192, 512, 1024, 2048, 4096)
_COSTS = (0.05, 0.2, 0.5)
_COLUMNS = (1, 3, 16, 64, 512)
#: Multiplications above which a dense product would take too long here.
_MOST = 3e9
_REPEATS, _SHORTEST = 5, 2e-4
_BLOCK = 32


def calibrate(
    *, sizes: tuple[int, ...] = _SIZES, progress: Callable[[str], None] | None = None
) -> tuple[Figures, dict[str, float]]:
    """Measure all kernels that are here on GBLR and block-sparse matrices in float32.

    Parameters
    ----------
    sizes : tuple of int
        Sizes of the matrices.
    progress : callable, optional
        Told what is measured next.

    Returns
    -------
    figures : dict of list of float
        Nanoseconds, as `structmat.kernels.cost_model` takes them: least squares on relative
        errors, none negative. Kernels that cannot be measured keep the figures in use.
    errors : dict of float
        By how much the model is off for each kernel that was measured: the median of
        the relative errors.

    Notes
    -----
    About a minute on one thread, and as much memory as a few dense matrices of the
    largest size.
    """
    samples: dict[str, list[_Sample]] = {name: [] for name in FEATURES}
    for what, factored in _matrices(sizes):
        if progress is not None:
            progress(what)
        for columns in _COLUMNS:
            x = np.ones((factored.shape[1], columns), np.float32)
            for name in FEATURES:
                multiplications = _multiplications(name, factored.work) * columns
                if name in factored.kernels and multiplications < _MOST:
                    taken = _seconds(partial(factored.way(name).multiply, x, by_columns=False))
                    samples[name].append((FEATURES[name](factored.work, columns), taken))
    fits = {name: _fitted(found) for name, found in samples.items() if found}
    result = {name: fits[name][0] if name in fits else figures()[name] for name in FEATURES}
    return result, {name: error for name, (_, error) in fits.items()}


def _multiplications(name: str, work: Work) -> float:
    if name == "dense":
        return work.rows * work.columns
    if name == "pair":
        return work.rows * (work.middle or work.columns) + work.middle * work.columns
    return work.area


def _matrices(sizes: tuple[int, ...]) -> Iterator[tuple[str, Factored]]:
    rng = np.random.default_rng(0)
    for n in sizes:
        for cost in _COSTS:
            width = np.maximum(rng.uniform(0, cost * n, (2, n)).astype(np.int64), 1)
            start = rng.integers(0, n, (2, n))
            rows, cols = (RunPattern(s, w, n) for s, w in zip(start, width, strict=True))
            contents = [rng.standard_normal(w.sum()).astype(np.float32) for w in width]
            factors = Factors(rows, cols, _NUMPY, "cpu")
            yield f"runs, {n}x{n}, cost {cost:.0%}", factors.fill(*contents)
            grid = n // _BLOCK
            place = np.sort(rng.choice(grid * grid, max(1, int(cost * grid * grid)), replace=False))
            blocks = rng.standard_normal(place.size * _BLOCK * _BLOCK).astype(np.float32)
            pattern = BlockPattern(*np.divmod(place, grid), (_BLOCK, _BLOCK), (n, n))
            factors = Factors(pattern, None, _NUMPY, "cpu")
            yield f"blocks, {n}x{n}, cost {cost:.0%}", factors.fill(blocks)


def _seconds(call: Callable[[], object]) -> float:
    """Median time of a call, after one that prepares it."""
    call()
    begin = time.perf_counter()
    call()
    loops = int(_SHORTEST / (time.perf_counter() - begin)) + 1
    taken = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        for _ in range(loops):
            call()
        taken.append((time.perf_counter() - begin) / loops)
    return float(np.median(taken))


def _fitted(samples: list[_Sample]) -> tuple[list[float], float]:
    """Figures, and by how much the model with them is off."""
    features = np.array([f for f, _ in samples])
    shares = features / np.array([t for _, t in samples])[:, None]
    figures = nnls(shares, np.ones(len(samples)))[0]
    error = float(np.median(np.abs(shares @ figures - 1)))
    return [float(f"{1e9 * figure:.3g}") for figure in figures], error
