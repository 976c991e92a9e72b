"""Plots of one experiment, drawn from its result file alone."""

import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.experiments.samples import DENSE, LEARNED, ExperimentRuns, Sample, minus
from benchmarks.reporting.names import case_name, layer_name, named
from benchmarks.reporting.plots import (
    BLUE,
    GREY,
    Axes,
    Figure,
    cost_axis,
    legend,
    log_axis,
    panels,
    ratio_axis,
    save,
)
from benchmarks.reporting.stamps import stamp
from benchmarks.results import Row

#: A colour and a marker for each kind, in all plots. The colours can be told apart by the
#: colour-blind, and the markers by everybody.
STYLES = {
    DENSE: (GREY, ""),
    LEARNED: (BLUE, "o"),
    "low_rank": ("#c4661f", "^"),
    "ranks": ("#e3a008", "<"),
    "monarch": ("#3d8b5f", "v"),
    "blast": ("#56b4e9", "X"),
    "block_low_rank": ("#b35a94", "D"),
    "block_sparse": ("#2b2b2b", "s"),
    "pixelfly": ("#8a7a2f", "P"),
    "entries": ("#c23b4a", "*"),
    "narrow": ("#7a7a7a", "+"),
}
OTHER = (GREY, "x")
DASHES = ("-", "--", ":", "-.")
PANELS_ACROSS = 3
#: Key of a row for its time.
TIME = "inference_over_dense"
#: Measures of a network over the dense one's, and the label of an axis of each.
MEASURES = {
    "relative_cost": "multiplications over those of dense layers",
    TIME: "inference time over the dense network's",
}
RESOLUTION_DPI = 110


def write(result: Row, folder: Path) -> dict[str, str]:
    """Draw all plots for which the result has rows.

    Parameters
    ----------
    result : dict
        Content of a result file.
    folder : Path
        Folder of the pictures; made if there is none.

    Returns
    -------
    dict
        Names of the files, and a description of each.
    """
    runs = ExperimentRuns(result)
    what, title = runs.metric.name, runs.config["title"]
    drawn = {}
    if runs.budgets():
        drawn_over = measures(runs)
        time = " and against measured inference time" * (TIME in drawn_over)
        text = f"{title}: {what} against cost{time}, with the spread over seeds"
        drawn[f"{runs.name}_cost.png"] = (against(runs, drawn_over), text)
    if list(_ablated(runs)):
        text = f"{title}: what each change does to {what}"
        drawn[f"{runs.name}_ablations.png"] = (ablations(runs), text)
    if runs.models and runs.layer_costs(runs.models[0]):
        text = f"{title}: learned cost of each layer"
        drawn[f"{runs.name}_layers.png"] = (layers(runs, runs.models[0]), text)
    return save(drawn, folder, RESOLUTION_DPI, stamp(result))


def measures(runs: ExperimentRuns) -> list[str]:
    """Cost, and time where learned structures were timed with the network that they ended as."""
    timed = any(row.get("training_cost") is not None for row in runs.group("kinds"))
    return list(MEASURES) if timed else ["relative_cost"]


def against(runs: ExperimentRuns, wanted: Sequence[str] = ("relative_cost",)) -> Figure:
    """Scores against multiplications or time, a panel each; the dense network as a line."""
    drawn = [(model, measure) for model in runs.models for measure in wanted]
    across = min(len(drawn), PANELS_ACROSS)
    down = math.ceil(len(drawn) / across)
    figure, every = panels((3.0 * across + 2.2, 2.8 * down + 0.4), down, across)
    for axes, (model, measure) in zip(every, drawn, strict=False):
        _curves(axes, runs, model, measure)
        _dense(axes, runs, model)
        if runs.config["metric"] == "error":
            low, high = axes.get_ylim()
            log_axis(axes, few_decades=high < 100 * low)
        if len(runs.models) > 1:
            axes.set_title(named(model), fontsize=9)
        if len(wanted) > 1:
            axes.set_xlabel(MEASURES[measure], fontsize=9)
    for axes in every[len(drawn) :]:
        axes.set_axis_off()
    if len(wanted) == 1:
        figure.supxlabel(MEASURES[wanted[0]], fontsize=9)
    figure.supylabel(runs.metric.label, fontsize=9)
    legend(figure, every)
    return figure


def _curves(axes: Axes, runs: ExperimentRuns, model: str, measure: str) -> None:
    cases = {name: kind for name, kind in runs.cases().items() if kind != DENSE}
    seen: list[str] = []
    alone = len({row["seed"] for row in runs.group("kinds")}) == 1
    for i, (name, kind) in enumerate(cases.items()):
        colour, marker = STYLES.get(kind, OTHER)
        points = []
        for budget in runs.budgets():
            sample = runs.sample(name, budget, model)
            if sample:
                rows = runs.rows(name, budget, model)
                points.append((statistics.fmean(r[measure] for r in rows), sample))
        # Next to one another, so that the bars of kinds of the same cost can be told apart.
        aside = 1.0 if alone or measure == TIME else 1 + 0.018 * (i - (len(cases) - 1) / 2)
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
    if measure == TIME:
        ratio_axis(axes)
        return
    budgets = runs.budgets()
    cost_axis(axes, [b for i, b in enumerate(budgets) if i == 0 or b > 1.4 * budgets[i - 1]])


def _dense(axes: Axes, runs: ExperimentRuns, model: str) -> None:
    sample = runs.sample(runs.dense, 1.0, model)
    if sample is not None:
        axes.axhline(sample.mean, color=GREY, lw=1, ls="--", label=runs.dense, zorder=1)
        if sample.std:
            ends = sample.mean - sample.std, sample.mean + sample.std
            axes.axhspan(*ends, color=GREY, alpha=0.15, lw=0, zorder=0)


def ablations(runs: ExperimentRuns) -> Figure:
    """Differences to the method with their standard errors, sorted, a panel a budget."""
    found = list(_ablated(runs))
    means: dict[str, list[float]] = {}
    for *_, own in found:
        for name, gap in own.items():
            means.setdefault(name, []).append(runs.metric.sign * gap.mean)
    order = sorted(means, key=lambda name: statistics.fmean(means[name]))
    size = 3.0 * len(found) + 3.2, 0.26 * len(order) + 1.3
    figure, every = panels(size, across=len(found), grid="x", share="xy")
    colour, marker = STYLES[LEARNED]
    for axes, (model, budget, own) in zip(every, found, strict=True):
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
        axes.set_yticks(range(len(order)), map(case_name, order), fontsize=8)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.margins(x=0.12)
        where = f"{named(model)}, " if len(runs.models) > 1 else ""
        axes.set_title(f"{where}budget {100 * budget:.3g} %", fontsize=9)
    better = "right" if runs.metric.higher else "left"
    label = f"{runs.metric.name}, difference to {runs.method} ({better} is better)"
    figure.supxlabel(label, fontsize=9)
    return figure


def _ablated(runs: ExperimentRuns) -> Iterator[tuple[str, float, dict[str, Sample]]]:
    """Differences to the method by model and budget."""
    for model in runs.models:
        for budget in runs.budgets("ablations"):
            method = runs.sample(runs.method, budget, model)
            gaps = {n: minus(own, method) for n, own in runs.ablations(budget, model).items()}
            if found := {name: gap for name, gap in gaps.items() if gap}:
                yield model, budget, found


def layers(runs: ExperimentRuns, model: str) -> Figure:
    """Learned relative cost of each layer as bars, a panel a budget."""
    shares = runs.layer_costs(model)
    names = list(dict.fromkeys(name for by_name in shares.values() for name in by_name))
    size = max(4.5, 0.19 * len(names) + 1.2), 1.5 * len(shares) + 1.2
    figure, every = panels(size, down=len(shares), share="x")
    for axes, (budget, by_name) in zip(every, shares.items(), strict=True):
        heights = [100 * by_name.get(name, 0.0) for name in names]
        axes.bar(range(len(names)), heights, color=STYLES[LEARNED][0], width=0.75)
        axes.axhline(100 * budget, color=GREY, lw=1, ls="--")
        axes.set_title(f"budget {100 * budget:.3g} % (dashed)", fontsize=9, loc="left")
        axes.margins(x=0.01)
    shown = [layer_name(name) for name in names]
    every[-1].set_xticks(range(len(names)), shown, rotation=90, fontsize=7)
    figure.supylabel("multiplications over dense, per cent", fontsize=9)
    return figure
