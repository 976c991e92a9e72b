"""Plots of the suites for the page, drawn from the results alone."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from benchmarks.micro.training_tables import place
from benchmarks.results import BenchmarkError, Row

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator
    from PIL import Image
except ImportError:
    raise BenchmarkError(
        "matplotlib is not installed; install it with pip install 'structmat[plot]'"
    ) from None

INK, GREY = "#30628f", "#767676"
#: Ours in blue, what they are measured against in other colours; told apart by markers too.
LAYERS = {
    "Gaudi, shrunk": ("#30628f", "o"),
    "Gaudi, from a grid": ("#6fa0cb", "s"),
    "the same, contents alone": ("#12324f", "D"),
    "low rank": ("#c4661f", "^"),
    "Monarch": ("#3d8b5f", "v"),
    "published formula": ("#767676", "x"),
}


@dataclass(frozen=True)
class Picture:
    """A file, what it shows, and how it is drawn from a suite's rows."""

    name: str
    text: str
    draw: Callable[[list[Row]], Figure]


def write(suite: str, rows: list[Row], folder: Path) -> dict[str, str]:
    """Draw all pictures of a suite into a folder: names of files, and what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = PICTURES.get(suite, [])
    for picture in pictures:
        drawn = BytesIO()
        picture.draw(rows).savefig(drawn, dpi=120, format="png", facecolor="white")
        # Few colours keep the file small.
        Image.open(drawn).convert("RGB").quantize(64).save(folder / picture.name, optimize=True)
    return {picture.name: picture.text for picture in pictures}


def against_cost(rows: list[Row]) -> Figure:
    """Time over dense against cost, for one vector and for many, a line a size."""
    rows = [
        r
        for r in rows
        if r["what"] == "product"
        and (r["kind"], r["source"], r["dtype"]) == ("gblr", "random", "float32")
    ]
    many = max(r["columns"] for r in rows if r["columns"] <= 2048)
    figure, panels = _panels(2)
    sizes = sorted({r["n"] for r in rows})
    for axes, columns in zip(panels, (1, many), strict=True):
        title = "one vector" if columns == 1 else f"{columns} columns"
        for i, n in enumerate(sizes):
            line = sorted(
                (r["cost"], r["over_dense"]) for r in rows if (r["n"], r["columns"]) == (n, columns)
            )
            if line:
                colour = colormaps["Blues"](0.3 + 0.7 * (i + 1) / len(sizes))
                axes.plot(*zip(*line, strict=True), "o-", color=colour, label=f"n = {n}", ms=3)
        _shares(axes, title, sorted({r["budget"] for r in rows}))
    _legend(figure, panels[0])
    return figure


def growth(rows: list[Row]) -> Figure:
    """Time a stored scalar against n."""
    rows = [r for r in rows if r["what"] == "growth"]
    figure, (axes,) = _panels(1)
    sizes = [r["n"] for r in rows]
    for name, label, colour, marker in (
        ("over_first", "product with one vector", INK, "o"),
        ("reading_over_first", "reading the scalars once", GREY, "x"),
    ):
        axes.plot(sizes, [r[name] for r in rows], marker + "-", color=colour, label=label, ms=4)
    axes.axhline(1.2, color=GREY, lw=0.8, ls="--")
    axes.annotate("20 % more", (sizes[0], 1.2), va="bottom", color=GREY, fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.set_ylim(0)
    axes.set_xlabel("n")
    axes.set_ylabel(f"time a scalar, over that at n = {sizes[0]}", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    return figure


def training(rows: list[Row]) -> Figure:
    """Training step over dense against cost, a panel a shape."""
    least = min(r["threads"] for r in rows)
    many = [r for r in rows if r["tokens"] > 1]
    shown = [r for r in many if r["device"] == "cpu" and r["threads"] == least]
    shown += [r for r in many if r["dtype"] == "bfloat16"]
    places = list(dict.fromkeys(map(place, shown)))
    figure, panels = _panels(len(places))
    for axes, where in zip(panels, places, strict=True):
        here = [r for r in shown if place(r) == where]
        for layer, (colour, marker) in LAYERS.items():
            line = sorted((r["cost"], r["over_dense"]) for r in here if r["layer"] == layer)
            axes.plot(*zip(*line, strict=True), marker + "-", color=colour, label=layer, ms=4)
        _shares(axes, where, sorted({round(r["cost"], 3) for r in here if r["layer"] == "Monarch"}))
    _legend(figure, panels[0])
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(3.6 * count + 1.6, 3.6), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.margins(x=0.1)
        axes.grid(axis="y", color="#e4e4e4", lw=0.6)
    return figure, list(panels)


def _shares(axes: Axes, title: str, costs: list[float]) -> None:
    """Axes of time against cost, both over dense, with the lines where they are equal and 1."""
    ends = costs[0], costs[-1]
    axes.plot(ends, ends, color=GREY, lw=0.8, ls="--", label="time = cost")
    axes.axhline(1, color=GREY, lw=0.8, label="dense")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(costs, [f"{100 * cost:.3g} %" for cost in costs])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("cost over dense", fontsize=9)


def _legend(figure: Figure, axes: Axes) -> None:
    figure.supylabel("time over dense", fontsize=9)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right")


PICTURES = {
    "products": [
        Picture(
            "products_cost.png",
            "Time of products with random GBLR matrices over that of the dense product, "
            "against cost, for one vector and for many columns",
            against_cost,
        ),
        Picture(
            "products_growth.png",
            "Time a stored scalar against n, at a fixed number of scalars a row",
            growth,
        ),
    ],
    "training": [
        Picture(
            "training_cost.png",
            "Time of a training step over that of the dense layer, against cost",
            training,
        ),
    ],
}
