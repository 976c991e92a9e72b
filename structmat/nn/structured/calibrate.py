"""Measuring the coefficients of layers: products by structures and by dense weights."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.nn import functional as F

from structmat._progress import Progress, reporting
from structmat.errors import BackendError, InputError, first_line
from structmat.kernels.choice.calibrate import gblr_widths, seconds
from structmat.kernels.cost_model.layers import LayerCoefficients, LayerWork, Times, chunk_at
from structmat.matrices import GBLR, LowRank, Monarch
from structmat.matrix import StructuredMatrix
from structmat.nn.structured.products import through
from structmat.nn.structured.speed import count_operations, place_of_products

# Sizes, costs as fractions of the dense cost, and numbers of vectors that are measured.
_SIZES = (512, 1024, 2048)
_COSTS = (0.06, 0.25)
_COUNTS = (1, 16, 256, 2048)
#: Blocks on each side of a Monarch matrix, and taps on each side of a convolution.
_BLOCKS, _TAPS = 32, 3
#: Nanoseconds of what could not be measured: never chosen.
_UNMEASURED = 1e6


class Sample(NamedTuple):
    """Counts of a product in the order of its coefficients, its seconds, and those of kernels."""

    counts: list[float]
    taken: float
    #: Expected seconds of compiled kernels within it.
    kernels: float = 0.0


def calibrate_layers(
    device: str = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    sizes: tuple[int, ...] = _SIZES,
    progress: Progress | bool | None = None,
) -> tuple[str, LayerCoefficients, float]:
    """Measure layers without gradients: low rank, Monarch and GBLR.

    Parameters
    ----------
    device : str
        Of torch.
    dtype : dtype
        Of contents and vectors.
    sizes : tuple of int
        Rows and columns of the weights.
    progress : bool or callable, optional
        By default a bar on a terminal; see `structmat.compress`.

    Returns
    -------
    place : str
        What the coefficients stand for.
    coefficients : LayerCoefficients
        Least squares on relative errors, none negative.
    error : float
        The median of the relative errors.

    Raises
    ------
    BackendError
        If the device is not there.

    Notes
    -----
    About half a minute on one thread.
    """
    check_device(device)
    threads = torch.get_num_threads() if device == "cpu" else 1
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    dense: list[Sample] = []
    structured: list[Sample] = []
    convolved: list[Sample] = []
    place = ""
    with torch.no_grad(), reporting(progress, f"measuring layers on {device}") as report:
        for i, n in enumerate(sizes, 1):
            weight = torch.randn(n, n, device=device).to(dtype)
            matrices = [m.to("torch").to(device).astype(dtype) for m in _matrices(n)]
            place = place_of_products(matrices[0])
            for count in _COUNTS:
                x = torch.randn(count, n, device=device).to(dtype)
                taken = seconds(partial(F.linear, x, weight), wait)
                dense.append(Sample([1.0, n * n, n * n * count / threads], taken))
                structured += [_sample(m, x, place, threads, wait) for m in matrices]
            convolved.append(_convolution(n // _TAPS**2, device, dtype, threads, wait))
            report(i / len(sizes))
    return place, *_coefficients(dense, structured, convolved)


def check_device(device: str) -> None:
    """Refuse a device that torch does not have here."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as reason:
        known = "cpu" if not torch.cuda.is_available() else "cpu or cuda"
        first = first_line(reason)
        error = BackendError if device.startswith("cuda") else InputError
        raise error(
            f"device = {device!r} is not one that torch has here ({first}); expected {known}"
        ) from None


def _matrices(n: int) -> Iterator[StructuredMatrix]:
    rng = np.random.default_rng(0)

    def c(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    for cost in _COSTS:
        rank = max(1, int(cost * n / 2))
        yield LowRank(c(n, rank), c(n, rank))
        width, start = gblr_widths(n, cost, rng), rng.integers(0, n, (2, n))
        u, v = (c(int(w.sum())) for w in width)
        yield GBLR(start[0], width[0], u, start[1], width[1], v, shape=(n, n))
    side = n // _BLOCKS
    yield Monarch(c(_BLOCKS, side, side), c(side, _BLOCKS, _BLOCKS))


def _sample(
    matrix: StructuredMatrix, x: Tensor, place: str, threads: int, wait: Callable[[], object]
) -> Sample:
    """A product of vectors x (count, n) by a structure, as a layer multiplies."""
    count = x.shape[0]
    through(matrix, x, count, None, chunk_at(place))
    work = count_operations(matrix)
    times = Times.of(work, matrix.shape, place)
    product = partial(through, matrix, x, count, None, times.chunk)
    kernels = 1e-9 * times.of_kernels(count, threads)
    counts = _counts(work, matrix.shape[0], count, times.chunk, threads)
    return Sample(counts, seconds(product, wait), kernels)


def _counts(work: LayerWork, rows: int, count: int, chunk: int, threads: int) -> list[float]:
    """Counts in the order of `_STRUCTURED`."""
    rounds, each = -(-count // (chunk * threads)), count / threads
    compiled = bool(work.kernels)
    plain = work.scalars > 0 or (work.calls > 0 and not compiled)
    once = plain, work.calls, work.scalars, compiled
    return [*(rounds * float(x) for x in once), work.scalars * each, (work.written + rows) * each]


def _convolution(
    channels: int, device: str, dtype: torch.dtype, threads: int, wait: Callable[[], object]
) -> Sample:
    kernel = torch.randn(channels, channels, _TAPS, _TAPS, device=device).to(dtype)
    x = torch.randn(8, channels, 16, 16, device=device).to(dtype)
    taken = seconds(partial(F.conv2d, x, kernel, padding=_TAPS // 2), wait)
    return Sample([kernel.numel() * 8 * 16 * 16 / threads], taken)


_DENSE = ("dense", "dense_read", "dense_multiply")
_STRUCTURED = ("structured", "call", "read", "compiled", "multiply", "write")


def _coefficients(
    dense: Sequence[Sample], structured: Sequence[Sample], convolved: Sequence[Sample]
) -> tuple[LayerCoefficients, float]:
    found: dict[str, float] = {}
    errors = []
    for names, samples in (
        (_DENSE, dense),
        (_STRUCTURED, structured),
        (("convolve",), convolved),
    ):
        taken = np.array([s.taken for s in samples])
        relative = np.array([s.counts for s in samples]) / taken[:, None]
        rest = 1 - np.array([s.kernels for s in samples]) / taken
        solved = nnls(relative, rest)[0]
        measured = relative.any(axis=0)
        errors.append(np.abs(relative @ solved - rest))
        ns = np.where(measured, 1e9 * solved, _UNMEASURED)
        found.update(zip(names, (float(f"{x:.3g}") for x in ns), strict=True))
    figures = [found[name] for name in LayerCoefficients._fields[:-1]]
    error = float(np.median(np.concatenate(errors)))
    return LayerCoefficients._make([*figures, True]), error
