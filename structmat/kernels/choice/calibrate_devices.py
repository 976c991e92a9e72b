"""Measuring the figures of kernels on a device, by CuPy."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from structmat._array import computing_on, from_numpy, namespace_named
from structmat._progress import Progress, reporting
from structmat.errors import BackendError, InputError, MissingDependencyError
from structmat.kernels.choice.calibrate import gblr_widths, seconds
from structmat.kernels.choice.factored import FactoredMatrix
from structmat.kernels.choice.table import KERNELS
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import RunPattern

#: Counts of a product, and the seconds that it took.
Sample = tuple[Sequence[float], float]
# Sizes, costs as fractions of the dense cost, and columns that are measured.
_SIZES = (1024, 2048, 4096, 8192)
_COSTS = (0.03, 0.125, 0.25)
_COLUMNS = (1, 4, 16, 64, 512)
_DTYPES = ("float32", "float64")
#: Rounds in which samples are told apart into those that read and those that multiply for longer.
_ROUNDS = 20


class Measured(NamedTuple):
    """Figures of a place: nanoseconds by kernel, and the median error of each price."""

    figures: dict[str, list[float]]
    errors: dict[str, float]


def calibrate_device(
    device: str,
    *,
    sizes: tuple[int, ...] = _SIZES,
    progress: Progress | bool | None = None,
    xp: ModuleType | None = None,
) -> dict[str, Measured]:
    """Measure the kernels of a device on GBLR matrices of runs at random places.

    Parameters
    ----------
    device : str
        ``"cuda"``, or one of several devices by its number, as ``"cuda:1"``.
    sizes : tuple of int
        Sizes of the matrices.
    progress : bool or callable, optional
        By default a bar on a terminal; see `structmat.compress`.
    xp : namespace, optional
        By default CuPy's.

    Returns
    -------
    dict of Measured
        By place: the name of the device with a dtype.

    Raises
    ------
    InputError
        If `device` is no name of a CUDA device.
    MissingDependencyError
        If CuPy is not installed.
    BackendError
        If the device is not there.

    Notes
    -----
    About two minutes, and as much memory as a few dense matrices of the largest size.
    """
    xp, number = cuda_device(device, xp)
    found: dict[str, Measured] = {}
    with computing_on(xp, place := xp.cuda.Device(number)), reporting(progress, device) as report:
        for i, dtype in enumerate(_DTYPES):
            samples: dict[str, list[Sample]] = {}
            name = ""
            for j, factored in enumerate(_matrices(sizes, dtype, xp, place), 1):
                name = factored.place
                _measure(factored, xp, samples)
                report((i + j / (len(_COSTS) * len(sizes))) / len(_DTYPES))
            fits = {
                kernel: fitted(rows, in_turn=_in_turn(kernel)) for kernel, rows in samples.items()
            }
            figures = {kernel: figures for kernel, (figures, _) in fits.items()}
            found[name] = Measured(figures, {kernel: error for kernel, (_, error) in fits.items()})
    return found


def cuda_device(device: str, xp: ModuleType | None = None) -> tuple[ModuleType, int]:
    """CuPy's namespace, and the number of a device that is there."""
    matched = re.fullmatch(r"cuda(?::(\d+))?", device)
    if matched is None:
        raise InputError(
            f"device = {device!r}; expected 'cpu', 'cuda', or one of several devices by its "
            "number, such as 'cuda:1'"
        )
    number = int(matched[1] or 0)
    try:
        xp = namespace_named("cupy") if xp is None else xp
        count = xp.cuda.runtime.getDeviceCount()
    except MissingDependencyError:
        raise MissingDependencyError(
            f"kernels of {device!r} are measured by CuPy, which is not installed; install the "
            "wheel for your CUDA version, such as cupy-cuda12x"
        ) from None
    except Exception as reason:  # a driver's own class of errors
        raise BackendError(
            f"no CUDA device is there ({reason}); run this on a machine with one, or leave out "
            "--device to measure the CPU"
        ) from reason
    if number >= count:
        there = ", ".join(f"cuda:{i}" for i in range(count)) or "none"
        raise BackendError(
            f"device = {device!r} is not there; expected one of those that are: {there} (leave out "
            "--device to measure the CPU)"
        )
    return xp, number


def _matrices(
    sizes: tuple[int, ...], dtype: str, xp: ModuleType, device: Any
) -> Iterator[FactoredMatrix]:
    rng = np.random.default_rng(0)
    for n in sizes:
        for cost in _COSTS:
            width = gblr_widths(n, cost, rng)
            start = rng.integers(0, n, width.shape)
            rows, cols = (RunPattern(s, w, n) for s, w in zip(start, width, strict=True))
            contents = [
                from_numpy(rng.standard_normal(w.sum()).astype(dtype), xp, device) for w in width
            ]
            yield FactoredMatrix(FactorStructure(rows, cols, xp, device), contents)


def _measure(factored: FactoredMatrix, xp: ModuleType, samples: dict[str, list[Sample]]) -> None:
    """Add a sample for each kernel that is compared on the device and each number of columns."""
    work = factored.device_work
    compared = KERNELS.compared_on_device(factored.structure, factored.contents, work)
    wait = xp.cuda.get_current_stream().synchronize
    for columns in _COLUMNS:
        x = xp.ones((factored.shape[1], columns), dtype=factored.contents[0].dtype)
        for name, price in compared.items():
            product = partial(factored.bound(name).multiply, x, by_columns=False)
            taken = seconds(product, wait)
            samples.setdefault(name, []).append((price.counts(work, columns), taken))


def _in_turn(kernel: str) -> bool:
    price = KERNELS[kernel].on_devices
    return price is not None and price.in_turn


def fitted(samples: Sequence[Sample], *, in_turn: bool = False) -> tuple[list[float], float]:
    """Figures in nanoseconds for starts, bytes and multiplications, and the median relative error.

    A sample is explained by its starts and the longer of reading and multiplying, or their sum
    where they follow each other `in_turn`. Which of these was longer is found in turns with the
    figures, from where each alone would explain it.
    A figure that no sample tells is the largest that none contradicts.
    """
    counts = np.array([c for c, _ in samples], dtype=float)
    taken = np.array([t for _, t in samples])
    most = np.array([_least_ratio(taken, counts[:, i]) for i in range(3)])
    found = most
    for _ in range(_ROUNDS):
        reads = found[1] * counts[:, 1] >= found[2] * counts[:, 2]
        kept = counts * np.stack([np.ones_like(taken), reads | in_turn, ~reads | in_turn], axis=1)
        solved = nnls(kept / taken[:, None], np.ones_like(taken))[0]
        new = solved if in_turn else np.where(solved > 0, solved, most)
        new[0] = solved[0]
        if np.allclose(new, found, rtol=1e-6, atol=0):
            break
        found = new
    terms = found * counts
    both = terms[:, 1:]
    expected = terms[:, 0] + (both.sum(axis=1) if in_turn else both.max(axis=1))
    error = float(np.median(np.abs(expected / taken - 1)))
    return [float(f"{1e9 * x:.3g}") for x in found], error


def _least_ratio(taken: np.ndarray, count: np.ndarray) -> float:
    """The largest figure of a count that alone exceeds no time."""
    some = count > 0
    return float((taken[some] / count[some]).min()) if some.any() else 0.0
