"""Matrices to compress, and their budgets."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from benchmarks.results import Skip
from structmat.demo import earthquake_kernel

Generator = np.random.Generator
#: Budget of the planted case, the cost of its own blocks in units of n^2.
PLANTED_COST = 0.081


@dataclass(frozen=True)
class MatrixCase:
    """One matrix, its budgets, and the goals of its compression.

    `make` draws the matrix, or raises `Skip`. `target` is the error that GBLR has to meet
    at the first budget, and `limit` its time in seconds.
    """

    group: str
    name: str
    make: Callable[[Generator], NDArray]
    budgets: Sequence[float]
    target: float | None = None
    limit: float | None = None
    memory: bool = False
    peers: bool = False


def table() -> list[MatrixCase]:
    """Cases with a known structure, or none, and the errors to meet."""
    diagonal = "block diagonal, 8 of 16×16, rank 4"
    return [
        MatrixCase("table", diagonal, block_diagonal, [0.228], 0.0095, memory=True),
        MatrixCase(
            "table", f"{diagonal}, 5 % noise", noisy, [0.0625], 0.059, memory=True, peers=True
        ),
        MatrixCase(
            "table",
            "1/(|x−y| + 0.01), sorted points",
            kernel_512,
            [0.15],
            0.041,
            memory=True,
            peers=True,
        ),
        MatrixCase("table", "planted GBLR, 40 blocks", planted, [PLANTED_COST], 0.506, memory=True),
        MatrixCase("table", "covariance of digits pixels", digits, [0.2], 0.275, memory=True),
        MatrixCase("table", "Gaussian noise", noise_256, [0.25], 0.787, memory=True, peers=True),
    ]


def timed() -> list[MatrixCase]:
    """Cases with the size and spectrum of trained weights, and the time to keep."""
    return [
        MatrixCase(
            "timing",
            "power-law spectrum",
            partial(power_law, 512, 512),
            [0.25],
            limit=3,
            memory=True,
        ),
        MatrixCase(
            "timing", "Gaussian noise", partial(noise, 512, 512), [0.25], limit=3, memory=True
        ),
        MatrixCase("timing", "power-law spectrum", partial(power_law, 768, 3072), [0.25], limit=60),
    ]


def shipped() -> list[MatrixCase]:
    """Case of the kernel matrix that comes with the package, at several budgets."""
    make = partial(_drawn, earthquake_kernel(768))
    return [MatrixCase("shipped", "earthquakes, exp(−r/200 km)", make, [0.05, 0.1, 0.2, 0.4])]


def quick() -> list[MatrixCase]:
    """Small cases that touch every path."""
    small = partial(_drawn, earthquake_kernel(96))
    diagonal = "block diagonal, 8 of 16×16, rank 4"
    return [
        MatrixCase("table", diagonal, block_diagonal, [0.228], 0.0095, memory=True, peers=True),
        MatrixCase("timing", "Gaussian noise", partial(noise, 64, 96), [0.25], limit=3),
        MatrixCase("shipped", "earthquakes, exp(−r/200 km)", small, [0.1, 0.4]),
    ]


def block_diagonal(rng: Generator) -> NDArray:
    """Eight 16 x 16 blocks of rank 4 on the diagonal."""
    blocks = [rng.standard_normal((16, 4)) @ rng.standard_normal((4, 16)) for _ in range(8)]
    return block_diag(*blocks)


def noisy(rng: Generator) -> NDArray:
    """Block diagonal matrix with noise of 5 % of its norm."""
    A = block_diagonal(rng)
    E = rng.standard_normal(A.shape)
    return A + 0.05 * np.linalg.norm(A) / np.linalg.norm(E) * E


def sharp_kernel(n: int, rng: Generator) -> NDArray:
    """1 / (|x - y| + 0.01) of n sorted points, uniform in [0, 1]."""
    x = np.sort(rng.random(n))
    return 1 / (np.abs(x[:, None] - x) + 0.01)


def kernel_512(rng: Generator) -> NDArray:
    """Sharp kernel of 512 points."""
    return sharp_kernel(512, rng)


def planted(rng: Generator, n: int = 256, blocks: int = 40) -> NDArray:
    """Sum of random rank-one blocks on cyclic runs, of cost `PLANTED_COST` at most."""
    widths = planted_widths(rng, n, blocks)
    starts = rng.integers(0, n, (2, blocks))
    contents = rng.standard_normal((2, blocks, n))
    contents[(np.arange(n) - starts[..., None]) % n >= widths[..., None]] = 0
    return contents[0].T @ contents[1]


def planted_widths(rng: Generator, n: int, blocks: int) -> NDArray:
    """Uniform widths, scaled to the cost: (2, blocks)."""
    widths = rng.integers(1, n // 2, (2, blocks), endpoint=True).astype(float)
    return np.maximum(1, np.floor(widths * (PLANTED_COST * n * n / widths.sum())))


def noise(m: int, n: int, rng: Generator) -> NDArray:
    """Independent standard normal entries."""
    return rng.standard_normal((m, n))


def noise_256(rng: Generator) -> NDArray:
    """Independent standard normal entries, 256 x 256."""
    return noise(256, 256, rng)


def power_law(m: int, n: int, rng: Generator) -> NDArray:
    """Singular values i^(-1/2) between random orthogonal factors."""
    U = np.linalg.qr(rng.standard_normal((m, m)))[0]
    V = np.linalg.qr(rng.standard_normal((n, m)))[0]
    return (U / np.sqrt(np.arange(1, m + 1))) @ V.T


def digits(_rng: Generator) -> NDArray:
    """Covariance of the 64 pixels of scikit-learn's digits."""
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError:
        raise Skip("scikit-learn, whose digits these are, is not installed") from None
    return np.cov(datasets.load_digits().data, rowvar=False)


def _drawn(A: NDArray, _rng: Generator) -> NDArray:
    return A
