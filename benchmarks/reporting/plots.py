"""Plots of results: figures of plain panels, their axes, and small PNG files."""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

from benchmarks.results import BenchmarkError

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo
except ImportError:
    raise BenchmarkError(
        "matplotlib is not installed; install it with pip install 'structmat[plot]'"
    ) from None

__all__ = ["BLUE", "GREY", "Axes", "Figure", "colormaps", "cost_axis", "legend"]
__all__ += ["log_axis", "panels", "ratio_axis", "save", "stamp_of"]

BLUE, GREY, PALE = "#30628f", "#767676", "#e4e4e4"
#: Ticks of an axis of ratios, where every third one is enough for a wide range; and for a
#: narrow range.
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
CLOSE_RATIOS = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
WIDE, NARROW = 100.0, 6.0
#: Height of the strip with a picture's date and commit, and their key in its file.
STRIP_INCHES, STAMP_KEY = 0.14, "measured"
#: Colours of a picture: few keep its file small.
PALETTE_SIZE = 64


def panels(
    size: tuple[float, float],
    down: int = 1,
    across: int = 1,
    *,
    grid: Literal["x", "y"] = "y",
    share: Sequence[Literal["x", "y"]] = (),
) -> tuple[Figure, list[Axes]]:
    """Figure of a size in inches, and its panels row by row; `share` names common axes."""
    figure = Figure(figsize=size, layout="constrained")
    common = {f"share{axis}": True for axis in share}
    every = list(figure.subplots(down, across, squeeze=False, **common).flat)
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.grid(axis=grid, color=PALE, lw=0.6)
        axes.set_axisbelow(True)
    return figure, every


def cost_axis(axes: Axes, costs: Sequence[float]) -> None:
    """Logarithmic horizontal axis with these costs in per cent."""
    axes.set_xscale("log")
    axes.set_xticks(costs, [f"{100 * cost:.3g} %" for cost in costs])
    axes.xaxis.set_minor_locator(NullLocator())


def ratio_axis(axes: Axes) -> None:
    """Logarithmic horizontal axis of ratios, with a line at one."""
    axes.axvline(1.0, color=GREY, lw=0.8, ls=":", zorder=0)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    ratios = RATIOS[::3] if high > WIDE * low else CLOSE_RATIOS if high < NARROW * low else RATIOS
    ticks = [tick for tick in ratios if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def log_axis(axes: Axes, *, few_decades: bool = True) -> None:
    """Logarithmic vertical axis; one of few decades has labels at 1, 2 and 5."""
    axes.set_yscale("log")
    if few_decades:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def legend(figure: Figure, every: Iterable[Axes]) -> None:
    """Legend beside the panels, with the labels of all of them."""
    lines = {
        label: line
        for axes in every
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend([*lines.values()], [*lines], frameon=False, fontsize=8, loc="outside right")


def save(
    figures: Mapping[str, tuple[Figure, str]], folder: Path, dpi: int, stamp: str
) -> dict[str, str]:
    """Write figures by their files' names into a folder; names and descriptions come back.

    `stamp`, their date and commit, stands small in the lower right corner, and in the file
    under `STAMP_KEY`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = PngInfo()
    kept.add_text(STAMP_KEY, stamp)
    for name, (figure, _) in figures.items():
        _stamped(figure, stamp)
        drawn = BytesIO()
        figure.savefig(drawn, dpi=dpi, format="png", facecolor="white")
        small = Image.open(drawn).convert("RGB").quantize(PALETTE_SIZE)
        small.save(folder / name, optimize=True, pnginfo=kept)
    return {name: text for name, (_, text) in figures.items()}


def stamp_of(picture: Path) -> str:
    """Date and commit that a picture keeps in its file; empty if it has none."""
    with Image.open(picture) as image:
        return str(image.info.get(STAMP_KEY, ""))


def _stamped(figure: Figure, stamp: str) -> None:
    """Put a date and a commit below all panels, in a strip of their own."""
    low = STRIP_INCHES / figure.get_figheight()
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, low, 1, 1 - low))  # type: ignore[call-arg]
    figure.text(0.995, 0.2 * low, stamp, ha="right", va="bottom", fontsize=6, color=GREY)
