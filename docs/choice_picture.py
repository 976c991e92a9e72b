"""Picture that helps to choose a kind: matrices that people meet, and the error of each kind."""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import structmat
from structmat.demo import earthquake_kernel

#: Rows and columns of each matrix, and the multiplications of each kind over the dense ones.
SIZE, BUDGET = 64, 0.3
#: Errors up to this factor above the best one count as equally good.
EQUAL = 1.3
#: Errors below this are shown as it.
SMALLEST = 1e-3


def choice() -> Figure:
    """Each matrix with the relative error of every kind at equal cost, on a scale of powers."""
    figure = Figure(figsize=(9.2, 9.6), layout="constrained")
    panels = figure.subplots(4, 4, gridspec_kw={"width_ratios": [1, 1.5] * 2}).reshape(-1, 2)
    for (image, bars), (title, make) in zip(panels, EXAMPLES.items(), strict=True):
        A = make(np.random.default_rng(0))
        shown = np.abs(A) if np.ptp(np.abs(A)) else A
        image.imshow(shown, cmap="Greys", vmax=np.quantile(shown, 0.99) or 1)
        image.set(xticks=[], yticks=[])
        image.set_title(title, loc="left", fontsize=9.5)
        _bars(bars, A)
    return figure


def _bars(axes: Axes, A: np.ndarray) -> None:
    """Error of each kind as a bar; names of the best ones are bold."""
    rows = [row for row in structmat.compare(A, budget=BUDGET, rng=0) if row.matrix is not None]
    errors = np.array([max(row.error, SMALLEST) for row in rows])
    kinds = [structmat.kinds.kind_record(row.kind) for row in rows]
    places = np.arange(len(rows))
    left = SMALLEST / 1.5
    axes.barh(places, errors - left, left=left, color=[k.colour for k in kinds], height=0.7)
    axes.set_yticks(places, [k.label for k in kinds], fontsize=8)
    for label, error in zip(axes.get_yticklabels(), errors, strict=True):
        label.set_fontweight("bold" if error <= EQUAL * errors.min() else "normal")
    axes.set(xscale="log", xlim=(left, 1.6), ylim=(len(rows) - 0.4, -0.6))
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _smooth(rng: np.random.Generator) -> np.ndarray:
    x = np.sort(rng.random(SIZE))
    return np.exp(-((x[:, None] - x) ** 2) / 0.1)


def _groups(rng: np.random.Generator) -> np.ndarray:
    block, across = 8, SIZE // 8
    kept = np.kron(rng.random((across, across)) < 0.15, np.ones((block, block)))
    return kept * rng.standard_normal((SIZE, SIZE)) + 0.02 * rng.standard_normal((SIZE, SIZE))


def _transform(rng: np.random.Generator) -> np.ndarray:
    k = np.arange(SIZE)
    return np.cos(np.pi * np.outer(k, k + 0.5) / SIZE)


def _hadamard(rng: np.random.Generator) -> np.ndarray:
    H = np.ones((1, 1))
    while len(H) < SIZE:
        H = np.block([[H, H], [H, -H]])
    return H


def _anywhere(rng: np.random.Generator) -> np.ndarray:
    width = rng.integers(3, 24, (2, 14))
    start = rng.integers(0, SIZE, (2, 14))
    u, v = (rng.uniform(0.5, 1.5, w.sum()) for w in width)
    A = structmat.GBLR(start[0], width[0], u, start[1], width[1], v, shape=(SIZE, SIZE))
    return A.to_dense() + 0.02 * rng.standard_normal((SIZE, SIZE))


def _trained(rng: np.random.Generator) -> np.ndarray:
    """The second layer of a network that was trained on digits for some seconds."""
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    inner = nn.Linear(SIZE, SIZE)
    model = nn.Sequential(nn.Linear(64, SIZE), nn.ReLU(), inner, nn.ReLU(), nn.Linear(SIZE, 10))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return inner.weight.detach().double().numpy()


EXAMPLES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "a smooth kernel": _smooth,
    "points on Earth, sorted": lambda rng: earthquake_kernel(SIZE),
    "groups": _groups,
    "a fast transform": _hadamard,
    "blocks on no grid": _anywhere,
    "the cosine transform": _transform,
    "a trained layer": _trained,
    "random numbers": lambda rng: rng.standard_normal((SIZE, SIZE)),
}
