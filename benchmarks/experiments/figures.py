"""Plots of one experiment, drawn from its result file alone."""

import math
import statistics
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Literal

from benchmarks.experiments.samples import DENSE, LEARNED, Runs, Sample
from benchmarks.experiments.tables import layer_costs
from benchmarks.results import BenchmarkError, Row

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator
    from PIL import Image
except ImportError:
    raise BenchmarkError(
        "matplotlib is not installed; install it with pip install 'structmat[plot]'"
    ) from None

GREY, PALE = "#767676", "#e4e4e4"
#: A colour and a marker for each kind, in all plots. The colours can be told apart by the
#: colour-blind, and the markers by everybody.
STYLES = {
    DENSE: (GREY, ""),
    LEARNED: ("#30628f", "o"),
    "low_rank": ("#c4661f", "^"),
    "ranks": ("#e3a008", "<"),
    "monarch": ("#3d8b5f", "v"),
    "blast": ("#56b4e9", "X"),
    "block_low_rank": ("#b35a94", "D"),
    "block_sparse": ("#2b2b2b", "s"),
    "pixelfly": ("#8a7a2f", "P"),
}
OTHER = (GREY, "x")
DASHES = ("-", "--", ":", "-.")
ACROSS = 3


def write(result: Row, folder: Path) -> dict[str, str]:
    """Draw what the result has rows for.

    Parameters
    ----------
    result : dict
        Content of a result file.
    folder : Path
        Where the pictures go; made if there is none.

    Returns
    -------
    dict
        Names of the files, and what each shows.
    """
    runs, name = Runs(result), result["experiment"]
    what = runs.metric.label.split(" (")[0]
    drawn = {}
    if runs.budgets():
        text = f"{result['config']['title']}: {what} against cost, with the spread over seeds"
        drawn[f"{name}_cost.png"] = (against_cost(runs), text)
    if list(_ablated(runs)):
        text = f"{result['config']['title']}: what each change does to {what}"
        drawn[f"{name}_ablations.png"] = (ablations(runs), text)
    if runs.models and layer_costs(runs, runs.models[0]):
        text = f"{result['config']['title']}: learned cost of each layer"
        drawn[f"{name}_layers.png"] = (layers(runs, runs.models[0]), text)
    folder.mkdir(parents=True, exist_ok=True)
    for file, (figure, _) in drawn.items():
        _save(figure, folder / file)
    return {file: text for file, (_, text) in drawn.items()}


def against_cost(runs: Runs) -> Figure:
    """Scores against multiplications, a panel a model; the dense network as a line."""
    count = len(runs.models)
    across = min(count, ACROSS)
    down = math.ceil(count / across)
    figure = Figure(figsize=(3.0 * across + 2.2, 2.8 * down + 0.4), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, model in zip(panels, runs.models, strict=False):
        _plain(axes)
        _curves(axes, runs, model)
        _dense(axes, runs, model)
        if runs.result["config"]["metric"] == "error":
            _tenths(axes)
        if count > 1:
            axes.set_title(model, fontsize=9)
    for axes in panels[count:]:
        axes.set_axis_off()
    figure.supxlabel("multiplications over those of the dense layers", fontsize=9)
    figure.supylabel(runs.metric.label, fontsize=9)
    # A kind may be missing in one panel or another, so labels come from all.
    lines = {label: line for axes in panels for line, label in
             zip(*axes.get_legend_handles_labels(), strict=True)}  # fmt: skip
    figure.legend([*lines.values()], [*lines], frameon=False, fontsize=8, loc="outside right")
    return figure


def _curves(axes: Axes, runs: Runs, model: str) -> None:
    names = [name for name, kind in runs.cases().items() if kind != DENSE]
    seen: list[str] = []
    alone = len({row["seed"] for row in runs.group("kinds")}) == 1
    for i, name in enumerate(names):
        kind = runs.cases()[name]
        colour, marker = STYLES.get(kind, OTHER)
        points = []
        for budget in runs.budgets():
            sample = runs.sample(name, budget, model)
            if sample:
                rows = runs.rows(name, budget, model)
                points.append((statistics.fmean(r["relative_cost"] for r in rows), sample))
        # Next to one another, so that the bars of kinds of the same cost can be told apart.
        aside = 1.0 if alone else 1 + 0.018 * (i - (len(names) - 1) / 2)
        # A further case of a kind keeps its colour: hollow markers tell it apart.
        again = seen.count(kind)
        seen.append(kind)
        axes.errorbar(
            [aside * cost for cost, _ in points],
            [sample.mean for _, sample in points],
            yerr=None if alone else [sample.std or 0.0 for _, sample in points],
            color=colour,
            marker=marker,
            markerfacecolor="white" if again else colour,
            ls=DASHES[again % len(DASHES)],
            lw=1.8 if kind == LEARNED else 1.1,
            ms=5,
            elinewidth=1,
            capsize=2,
            zorder=3 if kind == LEARNED else 2,
            label=name,
        )
    axes.set_xscale("log")
    budgets = runs.budgets()
    apart = [b for i, b in enumerate(budgets) if i == 0 or b > 1.4 * budgets[i - 1]]
    axes.set_xticks(apart, [f"{100 * b:.3g} %" for b in apart])
    axes.xaxis.set_minor_locator(NullLocator())


def _dense(axes: Axes, runs: Runs, model: str) -> None:
    sample = runs.sample(runs.dense, 1.0, model) if runs.dense else None
    if sample is not None:
        axes.axhline(sample.mean, color=GREY, lw=1, ls="--", label=runs.dense, zorder=1)
        if sample.std:
            ends = sample.mean - sample.std, sample.mean + sample.std
            axes.axhspan(*ends, color=GREY, alpha=0.15, lw=0, zorder=0)


def ablations(runs: Runs) -> Figure:
    """Differences to the method with their standard errors, sorted, a panel a budget."""
    panels = list(_ablated(runs))
    sign = 1 if runs.metric.higher else -1
    means: dict[str, list[float]] = {}
    for *_, own in panels:
        for name, gap in own.items():
            means.setdefault(name, []).append(sign * gap.mean)
    order = sorted(means, key=lambda name: statistics.fmean(means[name]))
    size = 3.0 * len(panels) + 3.2, 0.26 * len(order) + 1.3
    figure = Figure(figsize=size, layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    colour, marker = STYLES[LEARNED]
    for axes, (model, budget, own) in zip(every, panels, strict=True):
        _plain(axes, grid="x")
        axes.axvline(0, color=GREY, lw=1, ls="--")
        names = [name for name in order if name in own]
        axes.errorbar(
            [own[name].mean for name in names],
            [order.index(name) for name in names],
            xerr=[own[name].error or 0.0 for name in names],
            color=colour,
            marker=marker,
            ls="none",
            ms=5,
            elinewidth=1.2,
            capsize=2.5,
        )
        axes.set_yticks(range(len(order)), order, fontsize=8)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.margins(x=0.12)
        where = f"{model}, " if len(runs.models) > 1 else ""
        axes.set_title(f"{where}budget {100 * budget:.3g} %", fontsize=9)
    label = f"{runs.metric.label.split(' (')[0]}, difference to {runs.learned[0]}"
    figure.supxlabel(f"{label} ({'right' if sign > 0 else 'left'} is better)", fontsize=9)
    return figure


def _ablated(runs: Runs) -> Iterator[tuple[str, float, dict[str, Sample]]]:
    for model in runs.models:
        for budget in runs.budgets("ablations") if runs.learned else []:
            method = runs.sample(runs.learned[0], budget, model)
            gaps = {}
            for name in runs.cases("ablations"):
                sample = runs.sample(name, budget, model, "ablations")
                if sample and (gap := sample.minus(method)):
                    gaps[name] = gap
            if gaps:
                yield model, budget, gaps


def layers(runs: Runs, model: str) -> Figure:
    """Learned relative cost of each layer as bars, a panel a budget."""
    shares = layer_costs(runs, model)
    names = list(dict.fromkeys(name for by_name in shares.values() for name in by_name))
    size = max(4.5, 0.19 * len(names) + 1.2), 1.5 * len(shares) + 1.2
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(shares), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (budget, by_name) in zip(panels, shares.items(), strict=True):
        _plain(axes)
        heights = [100 * by_name.get(name, 0.0) for name in names]
        axes.bar(range(len(names)), heights, color=STYLES[LEARNED][0], width=0.75)
        axes.axhline(100 * budget, color=GREY, lw=1, ls="--")
        axes.set_title(f"budget {100 * budget:.3g} % (dashed)", fontsize=9, loc="left")
        axes.margins(x=0.01)
    panels[-1].set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    figure.supylabel("multiplications over dense, per cent", fontsize=9)
    return figure


def _plain(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis=grid, color=PALE, lw=0.6)
    axes.set_axisbelow(True)


def _tenths(axes: Axes) -> None:
    """A logarithmic axis of errors, with more labels where it spans little."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 100 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _save(figure: Figure, path: Path) -> None:
    drawn = BytesIO()
    figure.savefig(drawn, dpi=110, format="png", facecolor="white")
    # Few colours keep the file small.
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)
