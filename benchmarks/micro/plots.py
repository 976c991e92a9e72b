"""Plots of the suites, drawn from the results alone."""

from pathlib import Path

from benchmarks.micro.training_tables import place
from benchmarks.reporting.plots import (
    BLUE,
    GREY,
    Axes,
    Figure,
    colormaps,
    cost_axis,
    legend,
    log_axis,
    panels,
    save,
)
from benchmarks.reporting.stamps import stamp
from benchmarks.results import Row

#: Our layers in blue, those to compare with in other colours; markers tell them apart too.
LAYERS = {
    "Gaudi, shrunk": (BLUE, "o"),
    "Gaudi, from a grid": ("#6fa0cb", "s"),
    "the same, contents alone": ("#12324f", "D"),
    "low rank": ("#c4661f", "^"),
    "Monarch": ("#3d8b5f", "v"),
    "published formula": (GREY, "x"),
}
RESOLUTION_DPI = 120


def write(result: Row, folder: Path) -> dict[str, str]:
    """Draw all pictures of a suite into a folder; names and descriptions come back."""
    return save(figures(result["suite"], result["rows"]), folder, RESOLUTION_DPI, stamp(result))


def figures(suite: str, rows: list[Row]) -> dict[str, tuple[Figure, str]]:
    """Pictures of a suite by their files' names: figure and description."""
    if suite == "products":
        return {
            "products_cost.png": (
                against_cost(rows),
                "Time of products with random GBLR matrices over that of the dense product, "
                "against cost, for one vector and for many columns",
            ),
            "products_growth.png": (
                growth(rows),
                "Time a stored scalar against n, at a fixed number of scalars a row",
            ),
        }
    if suite == "training":
        text = "Time of a training step over that of the dense layer, against cost"
        return {"training_cost.png": (training(rows), text)}
    return {}


def against_cost(rows: list[Row]) -> Figure:
    """Time over dense against cost, for one vector and for many, a line a size."""
    rows = [
        r
        for r in rows
        if r["what"] == "product"
        and (r["kind"], r["source"], r["dtype"]) == ("gblr", "random", "float32")
    ]
    many = max(r["columns"] for r in rows if r["columns"] <= 2048)
    figure, every = _panels(2)
    sizes = sorted({r["n"] for r in rows})
    for axes, columns in zip(every, (1, many), strict=True):
        title = "one vector" if columns == 1 else f"{columns} columns"
        for i, n in enumerate(sizes):
            line = sorted(
                (r["cost"], r["over_dense"]) for r in rows if (r["n"], r["columns"]) == (n, columns)
            )
            if line:
                colour = colormaps["Blues"](0.3 + 0.7 * (i + 1) / len(sizes))
                axes.plot(*zip(*line, strict=True), "o-", color=colour, label=f"n = {n}", ms=3)
        _over_dense(axes, title, sorted({r["budget"] for r in rows}))
    _legend(figure, every)
    return figure


def growth(rows: list[Row]) -> Figure:
    """Time a stored scalar against n."""
    rows = [r for r in rows if r["what"] == "growth"]
    figure, (axes,) = _panels(1)
    sizes = [r["n"] for r in rows]
    for name, label, colour, marker in (
        ("over_first", "product with one vector", BLUE, "o"),
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
    figure, every = _panels(len(places))
    for axes, where in zip(every, places, strict=True):
        here = [r for r in shown if place(r) == where]
        for layer, (colour, marker) in LAYERS.items():
            line = sorted((r["cost"], r["over_dense"]) for r in here if r["layer"] == layer)
            axes.plot(*zip(*line, strict=True), marker + "-", color=colour, label=layer, ms=4)
        costs = sorted({round(r["cost"], 3) for r in here if r["layer"] == "Monarch"})
        _over_dense(axes, where, costs)
    _legend(figure, every)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure, every = panels((3.6 * count + 1.6, 3.6), across=count, share="y")
    for axes in every:
        axes.margins(x=0.1)
    return figure, every


def _over_dense(axes: Axes, title: str, costs: list[float]) -> None:
    """Axes of time against cost, both over dense, with the lines where they are equal and 1."""
    ends = costs[0], costs[-1]
    axes.plot(ends, ends, color=GREY, lw=0.8, ls="--", label="time = cost")
    axes.axhline(1, color=GREY, lw=0.8, label="dense")
    cost_axis(axes, costs)
    log_axis(axes)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("cost over dense", fontsize=9)


def _legend(figure: Figure, every: list[Axes]) -> None:
    figure.supylabel("time over dense", fontsize=9)
    legend(figure, every)
