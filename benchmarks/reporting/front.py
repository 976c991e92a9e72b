"""The picture of the front page: what structures keep of a matrix, and of a network."""

import statistics
from pathlib import Path

from benchmarks.reporting.plots import GREY, Axes, cost_axis, legend, log_axis, panels, save
from benchmarks.reporting.stamps import stamp
from benchmarks.results import Row, load
from structmat.kinds import kind_record

PICTURE = "front.png"
#: Result files, and the keys that they have.
MATRIX, NETWORK = Path("compression.json"), Path("experiments") / "learning_grey.json"
KEYS = ("schema", "machine", "rows")
#: The shipped matrix, and the kinds of the picture; the last one is drawn above the others.
SHIPPED = "earthquakes, exp(−r/200 km)"
KINDS = ("low_rank", "block_sparse", "block_low_rank", "monarch", "gblr")
#: Cases of the experiment by kind: fixed structure, and the one that is learned.
CASES = {
    "low_rank": "low rank",
    "block_sparse": "block sparse",
    "block_low_rank": "block low rank",
    "monarch": "Monarch",
    "gblr": "GBLR",
}


def write_front(results: Path, folder: Path) -> None:
    """Draw the picture into a folder from those results that it shows, if they are there."""
    if not all((results / name).is_file() for name in (MATRIX, NETWORK)):
        return
    matrix, network = (load(results / name, 1, KEYS) for name in (MATRIX, NETWORK))
    figure, (left, right) = panels((8.0, 3.0), across=2)
    _draw_errors(left, matrix["rows"])
    _draw_accuracy(right, network["rows"])
    legend(figure, [left, right])
    save({PICTURE: (figure, "")}, folder, dpi=130, stamp=stamp(matrix, network))


def _draw_errors(axes: Axes, rows: list[Row]) -> None:
    """Error of each kind against its cap on the multiplications."""
    ours = [row for row in rows if row["matrix"] == SHIPPED and row["method"] == "structmat"]
    budgets = sorted({row["budget"] for row in ours})
    for kind in KINDS:
        errors = [row["error"] for row in ours if row["kind"] == kind]
        axes.plot(budgets, errors, label=kind_record(kind).label, **_style(kind))
    cost_axis(axes, budgets)
    log_axis(axes, few_decades=False)
    _titled(axes, "768 earthquakes, kernel matrix", "relative error")


def _draw_accuracy(axes: Axes, rows: list[Row]) -> None:
    """Accuracy of each kind, mean over the seeds, against the budget."""
    budgets = sorted({row["budget"] for row in rows if row["budget"] < 1})
    for kind in KINDS:
        scores = [100 * _score(rows, CASES[kind], budget) for budget in budgets]
        axes.plot(budgets, scores, label=kind_record(kind).label, **_style(kind))
    axes.axhline(100 * _score(rows, "dense", 1.0), color=GREY, lw=1, ls=":", label="dense")
    cost_axis(axes, budgets)
    _titled(axes, "Grey pictures, a small network", "accuracy in per cent")


def _score(rows: list[Row], case: str, budget: float) -> float:
    found = [row["score"] for row in rows if row["case"] == case and row["budget"] == budget]
    return statistics.fmean(found)


def _style(kind: str) -> Row:
    bold = kind == KINDS[-1]
    return {"color": kind_record(kind).colour, "lw": 2.2 if bold else 1.2, "marker": "o", "ms": 3}


def _titled(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel("multiplications over those of dense", fontsize=8)
    axes.set_ylabel(unit, fontsize=8)
