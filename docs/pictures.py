"""Pictures of structures, of the paper and of the rooms, drawn when the pages are built."""

from pathlib import Path

import numpy as np
from choice_picture import choice
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from paper_pictures import block_product, gaudi_masks, learned_blocks, three_structures
from rooms_picture import architecture

import structmat
import structmat.plot
from structmat.gp import GaussianProcess

INK, LIGHT, PALE = "#30628f", "#a9c7e2", "#eef3f8"


def draw(folder: Path) -> None:
    """Draw every picture that a page shows into a folder."""
    folder.mkdir(exist_ok=True)
    structures = (
        low_rank, block_sparse, block_low_rank, monarch, gblr, hierarchical, interpolation
    )  # fmt: skip
    of_paper = (three_structures, block_product, gaudi_masks, learned_blocks)
    for picture in (*structures, *of_paper, choice, gaussian_process, architecture):
        picture().savefig(
            folder / f"{picture.__name__}.png", dpi=120, bbox_inches="tight", facecolor="white"
        )


def low_rank() -> Figure:
    """A square equals a tall factor times a wide one."""
    figure, axes = _canvas(44, 17)
    _box(axes, 0, 0, 16, 16, INK)
    axes.text(18, 8, "=", ha="center", va="center", fontsize=13)
    _box(axes, 20, 0, 3, 16, LIGHT)
    axes.text(21.5, 8, "U", ha="center", va="center", fontsize=11)
    _box(axes, 25, 0, 16, 3, LIGHT)
    axes.text(33, 1.5, "Vᴴ", ha="center", va="center", fontsize=11)
    return figure


def block_sparse() -> Figure:
    """Some cells of a grid are filled; the last row and column are ragged."""
    figure, axes = _canvas(16, 16)
    _box(axes, 0, 0, 15, 15, PALE)
    for i, j in [(0, 0), (0, 2), (1, 1), (2, 2), (2, 3), (3, 0), (3, 3)]:
        _box(axes, 4 * j, 4 * i, min(4, 15 - 4 * j), min(4, 15 - 4 * i), INK)
    return figure


def block_low_rank() -> Figure:
    """Dense tiles around the diagonal, tiles of low rank off it, thinner with distance."""
    figure, axes = _canvas(17, 17)
    for i in range(4):
        for j in range(4):
            x, y, rank = 4 * j, 4 * i, (None, 1.0, 0.6, 0.3)[abs(i - j)]
            _box(axes, x, y, 4, 4, INK if rank is None else PALE)
            if rank is not None:
                _box(axes, x + 0.4, y + 0.4, rank, 3.2, LIGHT)
                _box(axes, x + 0.7 + rank, y + 0.4, 2.9 - rank, rank, LIGHT)
    return figure


def monarch() -> Figure:
    """Block-diagonal factors, with lines for the shuffle that joins them."""
    figure, axes = _canvas(58, 18)
    for left, label in ((4, "L"), (38, "R")):
        _box(axes, left, 0, 16, 16, PALE)
        for b in range(4):
            _box(axes, left + 4 * b, 4 * b, 4, 4, INK if label == "R" else LIGHT)
        axes.text(left + 13, 3, label, ha="center", va="center", fontsize=11)
    # Wire t of 16 goes to hand t mod 4 on its way from right to left.
    for right_end, left_end in ((37, 21), (3.5, -0.5)):
        for t in range(16):
            hand = 4 * (t % 4) + t // 4
            ends = (t, hand) if right_end == 37 else (hand, t)
            axes.plot([right_end, left_end], [e + 0.5 for e in ends], color=INK, linewidth=0.7)
    return figure


def gblr() -> Figure:
    """Blocks of all sizes, some overlapping, one of them across both edges."""
    rows = np.array([[2, 14], [10, 12], [27, 10], [36, 9], [20, 5]])
    cols = np.array([[3, 20], [14, 12], [30, 14], [42, 11], [2, 9]])
    matrix = _ones(rows, cols, (40, 48))
    return _side_by_side([matrix], [f"{matrix.num_blocks} blocks, cost {matrix.cost}"])


def hierarchical() -> Figure:
    """Dense leaves on the diagonal, and blocks of low rank that double in size off it."""
    figure, axes = _canvas(17, 17)
    for i in range(8):
        _box(axes, 2 * i, 2 * i, 2, 2, INK)
    for size in (2, 4, 8):
        for first in range(0, 16, 2 * size):
            for x, y in ((first + size, first), (first, first + size)):
                _box(axes, x, y, size, size, PALE)
                _box(axes, x + 0.25, y + 0.25, 0.5, size - 0.5, LIGHT)
                _box(axes, x + 1.0, y + 0.25, size - 1.25, 0.5, LIGHT)
    return figure


def interpolation() -> Figure:
    """Four steps from one matrix to another."""
    shape = (40, 40)
    a = _ones(np.array([[2, 20], [24, 8]]), np.array([[2, 8], [22, 14]]), shape)
    b = _ones(np.array([[12, 8], [4, 24]]), np.array([[24, 14], [6, 6]]), shape)
    steps = [1.0, 0.7, 0.3, 0.0]
    return _side_by_side(
        [structmat.interpolate(a, b, alpha) for alpha in steps],
        [f"alpha = {alpha:g}" for alpha in steps],
    )


def gaussian_process() -> Figure:
    """A process fitted to noisy values on a line that has a gap, with two deviations."""
    rng = np.random.default_rng(1)
    x = np.sort(np.concatenate([rng.uniform(0, 4, 25), rng.uniform(6, 10, 15)]))
    y = np.sin(1.5 * x) + 0.25 * rng.standard_normal(x.size)
    process = GaussianProcess("matern52").fit(x[:, None], y)
    at = np.linspace(0, 10, 400)
    mean, std = process.predict(at[:, None], return_std=True)
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    axes = figure.subplots()
    for deviation, colour in ((np.hypot(std, process.parameters["noise"]), PALE), (std, LIGHT)):
        axes.fill_between(at, mean - 2 * deviation, mean + 2 * deviation, color=colour, lw=0)
    axes.plot(at, mean, color=INK, lw=1.4)
    axes.plot(x, y, ".", color="black", ms=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, 10)
    return figure


def _ones(rows: np.ndarray, cols: np.ndarray, shape: tuple[int, int]) -> structmat.GBLR:
    """GBLR of ones on runs given as (start, width) rows."""
    u, v = np.ones(rows[:, 1].sum()), np.ones(cols[:, 1].sum())
    return structmat.GBLR(*rows.T, u, *cols.T, v, shape=shape)


def _side_by_side(matrices: list[structmat.GBLR], titles: list[str]) -> Figure:
    count = len(matrices)
    figure = Figure(figsize=(5.0, 3.4) if count == 1 else (3.3 * count, 2.8), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    structmat.plot.structure(matrices, ax=axes)
    for place, title in zip(axes, titles, strict=True):
        place.set_title(title)
        place.label_outer()
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / 6, height / 6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    axes.axis("off")
    return figure, axes


def _box(axes: Axes, x: float, y: float, w: float, h: float, color: str) -> None:
    axes.add_patch(Rectangle((x, y), w, h, facecolor=color, edgecolor="white", linewidth=0.8))
