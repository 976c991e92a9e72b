"""Pictures of all data sets: a panel each, learned structure beside what it is judged by."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiments.judged import Judged
from benchmarks.experiments.report.summary import headline
from benchmarks.experiments.samples import Sample
from benchmarks.reporting.plots import BLUE, GREY, Axes, Figure, cost_axis, panels, ratio_axis, save
from benchmarks.reporting.stamps import stamp
from benchmarks.reporting.tables import percent

#: Rivals as lines: words, colour, marker and dashes.
LINES = {
    "ceiling": ("single entries, learned (no structure)", "#c23b4a", "*", "--"),
    "learned": ("GBLR, learned", BLUE, "o", "-"),
    "frozen": ("GBLR, its own start held", "#7fb2dc", "o", ":"),
    "fixed": ("best fixed structure", "#2b2b2b", "s", "-."),
}
DENSE_LABEL = "dense network"
PANELS_ACROSS = 3
RESOLUTION_DPI = 120
#: Key of a row for its time.
TIME = "inference_over_dense"
#: Places of the labels of points, in points of a letter: beside, above and below them.
LABELS = {"learned": (5, -2), "frozen": (-9, 5), "fixed": (-4, -11)}


#: Bars of the first picture: words, colour and edge.
BARS = {
    "dense": ("dense network", "#c9c9c9"),
    "learned": ("learned blocks", BLUE),
    "fixed": ("best fixed structure", "#e0a458"),
}


def write(every: Sequence[Judged], folder: Path) -> dict[str, str]:
    """Draw the pictures of the page's beginning; names and descriptions come back."""
    sets = [list(own) for _, own in itertools.groupby(every, key=lambda one: one.runs.name)]
    if not sets:
        return {}
    drawn = {
        "pays.png": (pays(every), _PAYS),
        "worth.png": (worth(sets), _WORTH),
        "worth_time.png": (worth_in_time(sets), _TIME),
    }
    origin = stamp(*(own[0].runs.result for own in sets))
    return save(drawn, folder, RESOLUTION_DPI, origin)


_PAYS = (
    "Bars for each data set: score of the dense network, of learned blocks and of the best fixed "
    "structure at a few per cent of its multiplications"
)
_WORTH = (
    "Scores against multiplications on each data set: GBLR learned, its own start held, the best "
    "fixed structure, single entries, and the dense network, with standard errors"
)
_TIME = (
    "Scores on each data set against multiplications, beside the same against measured "
    "inference time"
)


def pays(every: Sequence[Judged]) -> Figure:
    """Scores of the dense network, learned blocks and the best fixed structure, as bars."""
    at = headline(every)
    chosen = [one for one in every if one.budget == at]
    figure, (axes,) = panels((7.6, 0.78 * len(chosen) + 0.8), grid="x")
    for place, one in enumerate(chosen):
        for row, (rival, (label, colour)) in enumerate(BARS.items()):
            score = one.score(rival)
            if score is None:
                continue
            y = place + 0.27 * (row - 1)
            share = "" if rival == "dense" else f" with {percent(at)} of the multiplications"
            name = label + share if place == 0 else None
            axes.barh(y, score.mean, height=0.25, color=colour, label=name)
            text = f"{score.mean:.1f}"
            bold = "bold" if rival == "learned" else "normal"
            axes.text(score.mean, y, f" {text}", va="center", fontsize=8, fontweight=bold)
    axes.set_yticks(range(len(chosen)), [one.runs.title for one in chosen], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(" / ".join(dict.fromkeys(one.runs.metric.label for one in chosen)), fontsize=8)
    axes.margins(x=0.06)
    axes.tick_params(axis="y", length=0)
    figure.legend(
        *axes.get_legend_handles_labels(),
        frameon=False,
        fontsize=8,
        ncol=1,
        loc="outside upper left",
    )
    return figure


def worth(sets: Sequence[Sequence[Judged]]) -> Figure:
    """Scores against multiplications, a panel a data set; bars are standard errors."""
    across = min(len(sets), PANELS_ACROSS)
    down = math.ceil(len(sets) / across)
    figure, every = panels((3.1 * across + 0.3, 2.6 * down + 0.7), down, across)
    for axes, own in zip(every, sets, strict=False):
        _against_cost(axes, own)
        axes.set_title(own[0].runs.title, fontsize=9, loc="left", fontweight="bold")
        axes.set_ylabel(own[0].runs.metric.label, fontsize=8)
    for axes in every[len(sets) :]:
        axes.set_axis_off()
    for axes in every[max(0, len(sets) - across) : len(sets)]:
        axes.set_xlabel("multiplications over dense", fontsize=8)
    _legend(figure, every)
    return figure


def worth_in_time(sets: Sequence[Sequence[Judged]]) -> Figure:
    """Two panels a data set: scores against multiplications, and against inference time."""
    figure, every = panels((7.2, 2.3 * len(sets) + 0.7), len(sets), 2)
    for row, own in enumerate(sets):
        left, right = every[2 * row : 2 * row + 2]
        _against_cost(left, own)
        _against_time(right, own)
        right.sharey(left)
        left.set_title(own[0].runs.title, fontsize=9, loc="left", fontweight="bold")
        left.set_ylabel(own[0].runs.metric.label, fontsize=8)
    every[-2].set_xlabel("multiplications over dense", fontsize=8)
    every[-1].set_xlabel("inference time over dense", fontsize=8)
    _legend(figure, every)
    return figure


def _against_cost(axes: Axes, own: Sequence[Judged]) -> None:
    """Lines of a data set over its budgets."""
    for rival in LINES:
        _marks(axes, rival, [(one.budget, one.score(rival)) for one in own])
    _dense(axes, own[0])
    budgets = [one.budget for one in own]
    cost_axis(axes, [b for i, b in enumerate(budgets) if i == 0 or b > 1.4 * budgets[i - 1]])


def _against_time(axes: Axes, own: Sequence[Judged]) -> None:
    """Points of a data set over measured time, each with its budget.

    Single entries are not among them, as they multiply by a dense weight.
    """
    for rival in ("learned", "frozen", "fixed"):
        points = [
            (one.budget, time, score)
            for one in own
            if (time := one.mean(rival, TIME)) and (score := one.score(rival))
        ]
        _marks(axes, rival, [(time, score) for _, time, score in points], joined=False)
        for budget, time, score in points:
            axes.annotate(
                percent(budget),
                (time, score.mean),
                xytext=LABELS[rival],
                textcoords="offset points",
                fontsize=6.5,
                color=LINES[rival][1],
            )
    _dense(axes, own[0])
    ratio_axis(axes)


def _marks(
    axes: Axes, rival: str, points: Sequence[tuple[float, Sample | None]], *, joined: bool = True
) -> None:
    """Scores of a rival with their standard errors, joined by its line."""
    known = [(x, sample) for x, sample in points if sample is not None]
    if not known:
        return
    label, colour, marker, dashes = LINES[rival]
    axes.errorbar(
        [x for x, _ in known],
        [sample.mean for _, sample in known],
        yerr=[sample.error or 0.0 for _, sample in known],
        label=label,
        color=colour,
        marker=marker,
        ls=dashes if joined else "none",
        markerfacecolor="white" if rival == "frozen" else colour,
        lw=2.0 if rival == "learned" else 1.1,
        ms=7 if marker == "*" else 4.5,
        elinewidth=1,
        capsize=2,
        zorder=4 if rival == "learned" else 3,
    )


def _dense(axes: Axes, one: Judged) -> None:
    dense = one.score("dense")
    if dense is None:
        return
    axes.axhline(dense.mean, color=GREY, lw=1, ls="--", label=DENSE_LABEL, zorder=1)
    if dense.error:
        ends = dense.mean - dense.error, dense.mean + dense.error
        axes.axhspan(*ends, color=GREY, alpha=0.15, lw=0, zorder=0)


def _legend(figure: Figure, every: Sequence[Axes]) -> None:
    """Legend below the panels, in two lines."""
    lines = {
        label: line
        for axes in every
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        [*lines.values()], [*lines], frameon=False, fontsize=8, ncol=3, loc="outside lower center"
    )
