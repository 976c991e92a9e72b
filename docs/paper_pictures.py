"""Pictures of the pages on the paper, drawn by structmat when the documentation is built."""

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

import structmat
import structmat.plot
from structmat.nn import Anneal, Config, convert_, freeze_, gaudi_mask

INK, LIGHT, PALE = "#30628f", "#a9c7e2", "#eef3f8"
#: Samples, and the mask that is drawn, as in the paper's Figure 3.
SAMPLES, WIDTH, START = 512, 128, 192
#: Sharpness of the masks, and their colours.
SIGMAS = {
    1.0: "#b9d2e6", 2.0: "#8ab4d5", 5.0: "#5c93bf", 20.0: "#30628f", 100.0: "#14324d",
    math.inf: "#c2571a",
}  # fmt: skip
#: Samples around the end of the mask.
NEAR = np.arange(START + WIDTH - 14, START + WIDTH + 15)
#: Rows and columns, steps and vectors of the training whose result is drawn.
SIDE, STEPS, BATCH = 64, 600, 64


def gaudi_masks() -> Figure:
    """A mask at several sharpnesses, and its derivative by the width, blurred and not."""
    figure = Figure(figsize=(11, 3.3), layout="constrained")
    masks, slopes, rings = figure.subplots(1, 3)
    for sigma, colour in SIGMAS.items():
        label = "boxcar, σ = ∞" if math.isinf(sigma) else f"σ = {sigma:g}"
        style = {"color": colour, "linewidth": 1.6, "label": label}
        mask, slope = mask_and_slope(sigma)
        masks.plot(mask, **style)
        if sigma < 100:
            slopes.plot(slope, **style)
        else:
            rings.plot(NEAR, slope[NEAR], marker=".", **style)
    masks.set(title=f"mask, n = {SAMPLES}, w = {WIDTH}, l = {START}", ylabel="m")
    slopes.set(title="∂m / ∂w, blurred")
    rings.set(title="∂m / ∂w, sharp, near the end")
    for axes in (masks, slopes, rings):
        axes.set_xlabel("sample")
        axes.legend(frameon=False, fontsize=8, loc="upper left" if axes is masks else "best")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def mask_and_slope(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """A mask, and its derivative by the width in samples."""
    place = torch.full((SAMPLES,), START / SAMPLES, dtype=torch.float64)
    width = torch.full((SAMPLES,), WIDTH / SAMPLES, dtype=torch.float64, requires_grad=True)
    masks = gaudi_mask(width, place, SAMPLES, sigma=sigma)
    (slope,) = torch.autograd.grad(masks.diagonal().sum(), width)
    return masks[0].detach().numpy(), slope.numpy() / SAMPLES


def three_structures() -> Figure:
    """Block-sparse, block-low-rank and GBLR matrices of one sum of widths."""
    n, s = 32, 8
    ones = np.ones
    sparse = structmat.BlockSparse(ones((4, s, s)), [0, 1, 2, 3], [1, 3, 0, 2], shape=(n, n))
    tiles = {(i, j): (ones((s, 1)), ones((s, 1))) for i in range(4) for j in range(4)}
    low_rank = structmat.BlockLowRank(tiles, row_sizes=[s] * 4, col_sizes=[s] * 4)
    rng = np.random.default_rng(3)
    widths = rng.integers(3, 14, (2, 16))
    rows, cols = rng.integers(0, n, (2, 16))
    u, v = (ones(own.sum()) for own in widths)
    free = structmat.GBLR(rows, widths[0], u, cols, widths[1], v, shape=(n, n))
    figure = Figure(figsize=(9.5, 3.1), layout="constrained")
    axes = figure.subplots(1, 3)
    structmat.plot.structure([sparse, low_rank, free], ax=axes)
    names = ("block sparse", "block low rank", "GBLR")
    for place, name in zip(axes, names, strict=True):
        place.set_title(name)
        place.label_outer()
    for cut in range(s, n, s):
        axes[1].axhline(cut - 0.5, color="white", linewidth=1.5)
        axes[1].axvline(cut - 0.5, color="white", linewidth=1.5)
    return figure


def block_product() -> Figure:
    """A block in a matrix, and its product: an inner product, then a multiple of u."""
    figure = Figure(figsize=(7.4, 2.9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1, 37), ylim=(14.6, -1.2), aspect="equal")
    axes.axis("off")
    _box(axes, 0, 0, 12, 12, PALE)
    _box(axes, 5, 3, 4, 6, INK)
    axes.text(7, 6, "u vᴴ", ha="center", va="center", fontsize=11, color="white")
    _box(axes, 13, 0, 0.9, 12, PALE)
    _box(axes, 13, 5, 0.9, 4, LIGHT)
    _box(axes, 17, 0, 0.9, 12, PALE)
    _box(axes, 17, 3, 0.9, 6, INK)
    _box(axes, 22, 5.55, 4, 0.9, INK)
    _box(axes, 28, 4, 0.9, 4, LIGHT)
    words = {
        (6, 13.4): "block in A", (13.5, 13.4): "x", (15.5, 6): "=", (17.5, 13.4): "u",
        (20, 6): "× (", (24, 4.6): "vᴴ", (27, 6): "·", (30.5, 6): ")",
        (28.4, 9.2): "x on the column run",
        (27.6, 13.4): "wᶜ multiplications inside, wᴿ outside",
    }  # fmt: skip
    for (x, y), text in words.items():
        axes.text(x, y, text, ha="center", va="center", fontsize=11, color="#1b3650")
    return figure


def learned_blocks() -> Figure:
    """A planted matrix of blocks of four shapes, and what a training finds."""
    teacher, cost = _teacher()
    W = torch.tensor(teacher.to_dense(), dtype=torch.float32)
    W *= SIDE**0.5 / W.norm()
    network = nn.Sequential(nn.Linear(SIDE, SIDE, bias=False))
    generator = torch.Generator().manual_seed(0)
    convert_(network, Config(budget=cost, min_features=1), generator=generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    Anneal(network, optimizer, budget=cost, total_steps=STEPS, orders=False)
    for _ in range(STEPS):
        x = torch.randn(BATCH, SIDE, generator=generator)
        optimizer.zero_grad()
        (network(x) - x @ W.T).square().mean().backward()
        optimizer.step()
        schedule.step()
    freeze_(network)
    found = network[0].to_matrix()
    figure = Figure(figsize=(7.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    structmat.plot.structure([teacher, found], ax=axes)
    missed = float((W - network[0].to_matrix().to_dense().detach()).square().sum()) / SIDE
    axes[0].set_title("planted")
    axes[1].set_title(f"learned, {100 * missed:.1f} % of the energy missed")
    for place in axes:
        place.label_outer()
    return figure


def _teacher() -> tuple[structmat.GBLR, float]:
    """Sum of blocks of four shapes at random places, and its cost over the dense one."""
    rng, count = np.random.default_rng(1), 24
    shapes = [(2, 20), (20, 2), (8, 8), (12, 4)]
    down, across = np.array([shapes[k % 4] for k in range(count)]).T
    rows, cols = rng.integers(0, SIDE, (2, count))
    u, v = rng.standard_normal(down.sum()), rng.standard_normal(across.sum())
    matrix = structmat.GBLR(rows, down, u, cols, across, v, shape=(SIDE, SIDE))
    return matrix, matrix.cost / SIDE**2


def _box(axes: Axes, x: float, y: float, w: float, h: float, colour: str) -> None:
    axes.add_patch(Rectangle((x, y), w, h, facecolor=colour, edgecolor="white", linewidth=0.8))
