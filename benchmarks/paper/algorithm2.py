"""Blocks and contents for a given matrix as Algorithm 2 of the paper finds them.

Written from the description of the algorithm and of its settings (Lee & Kim,
arXiv 2310.18882, appendix A.2), to measure `structmat.compress` against it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.nn import gaudi_mask

#: Share of a profile's maximum above which a sample belongs to a block.
THRESHOLD = 0.98
#: Standard deviation of the blur of profiles, and where it is cut off, in samples.
BLUR, BLUR_RADIUS = 10.0, 40
#: Iterations, and the learning rate of contents. That of widths and locations is
#: `STRUCTURE_RATE` over the smaller side; all fall linearly to `LAST_RATE` of it.
STEPS, CONTENT_RATE, STRUCTURE_RATE, LAST_RATE = 1000, 5e-3, 10.0, 0.01


@dataclass(frozen=True)
class Start:
    """A dense matrix, the sum of all widths of its live blocks, and its multiplications.

    A block one sample wide on a side takes one multiplication less than its widths.
    """

    dense: NDArray
    storage: int
    cost: int


def published_start(
    A: NDArray, budget: float, *, correlated: bool, steps: int = STEPS, seed: int = 0
) -> Start:
    """Approximate a matrix by min(m, n) blocks whose widths sum to at most budget · m n.

    With `correlated`, blocks begin where rows and columns of A correlate; without, as the
    released settings have it, all widths are full and locations random. Contents begin with
    singular pairs. Contents and runs are then fitted together by Adam, with boxcars.
    """
    m, n = A.shape
    count = min(m, n)
    mean = budget * m * n / (count * (m + n))  # of all widths, as fractions of their axes
    if correlated:
        widths, locations = correlated_blocks(A, budget * m * n)
    else:
        widths = np.ones((2, count))
        locations = np.random.default_rng(seed).random((2, count))
    U, S, Vt = np.linalg.svd(A, full_matrices=False)
    root = np.sqrt(S)[:, None]
    start = (U.T * root, Vt * root, widths, locations)
    u, v, w, l = (torch.tensor(part, requires_grad=True) for part in start)
    _fit(torch.tensor(A), u, v, w, l, mean, steps)
    with torch.no_grad():
        high, wide = (torch.round(w[side] * size) for side, size in enumerate(A.shape))
        alive = (high > 0) & (wide > 0)
        storage = int((high + wide)[alive].sum())
        single = int(((high == 1) | (wide == 1))[alive].sum())
        return Start(_dense(u, v, w, l).numpy(), storage, storage - single)


def correlated_blocks(A: NDArray, cost: float) -> tuple[NDArray, NDArray]:
    """Widths and locations (2, K) of blocks of correlated rows and columns, up to a cost."""
    m, n = A.shape
    count = min(m, n)
    columns, rows = np.abs(A.T @ A), np.abs(A @ A.T)
    by_column, by_row = (
        np.argsort(-np.linalg.norm(gram, axis=0), kind="stable") for gram in (columns, rows)
    )
    widths, locations, spent = np.zeros((2, count)), np.zeros((2, count)), 0
    for k in range(count):
        start, width = longest_run(_profile(columns[by_column[k]]))
        if width == n:
            of_row = rows[by_row[k]]
        else:
            part = A[:, (start + np.arange(width)) % n]
            gram = np.abs(part @ part.T)
            of_row = gram[np.argmax(np.linalg.norm(gram, axis=0))]
        row_start, row_width = longest_run(_profile(of_row))
        spent += row_width + width
        if spent > cost:
            break
        widths[:, k] = row_width / m, width / n
        locations[:, k] = row_start / m, start / n
    return widths, locations


def _profile(gram_row: NDArray) -> NDArray:
    """Samples at which a blurred row of a Gram matrix is near its maximum."""
    offset = np.arange(-BLUR_RADIUS, BLUR_RADIUS + 1)
    kernel = np.exp(-0.5 * (offset / BLUR) ** 2)
    places = (np.arange(len(gram_row))[:, None] + offset) % len(gram_row)
    blurred = gram_row[places] @ (kernel / kernel.sum())
    return blurred >= THRESHOLD * blurred.max()


def longest_run(chosen: NDArray) -> tuple[int, int]:
    """Start and width of the longest cyclic run of chosen samples.

    Examples
    --------
    >>> longest_run(np.array([True, False, True, True]))
    (2, 3)
    """
    n = len(chosen)
    gaps = np.flatnonzero(~chosen)
    if not len(gaps):
        return 0, n
    widths = np.diff(gaps, append=gaps[0] + n) - 1
    best = int(np.argmax(widths))
    return int(gaps[best] + 1) % n, int(widths[best])


def _dense(u: Tensor, v: Tensor, w: Tensor, l: Tensor) -> Tensor:
    left = u * gaudi_mask(w[0], l[0], u.shape[1])
    right = v * gaudi_mask(w[1], l[1], v.shape[1])
    return left.T @ right


def _fit(A: Tensor, u: Tensor, v: Tensor, w: Tensor, l: Tensor, mean: float, steps: int) -> None:
    """Lower ‖A - Σ blocks‖² by Adam; after each step, take excess widths off all of them."""
    structure_rate = STRUCTURE_RATE / min(A.shape)
    groups = [{"params": [u, v], "lr": CONTENT_RATE}, {"params": [w, l], "lr": structure_rate}]
    optimizer = torch.optim.Adam(groups, betas=(0.0, 0.999))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, steps)
    energy = A.square().sum()
    for _ in range(steps):
        optimizer.zero_grad()
        ((_dense(u, v, w, l) - A).square().sum() / energy).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            w -= (w.mean() - mean).clamp(min=0)
            w.clamp_(0, 1)
            l.remainder_(1)
