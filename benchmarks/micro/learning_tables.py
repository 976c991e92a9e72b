"""Tables of the suite "learning"."""

import statistics

from benchmarks.reporting.tables import Table, percent
from benchmarks.results import Row


def learning_tables(rows: list[Row]) -> list[Table]:
    """Means and standard deviations over the seeds."""
    seeds = len({row["seed"] for row in rows})
    return [
        _table(
            "Kinds of structure on handwritten digits",
            f"Test accuracy in per cent, mean ± standard deviation over {seeds} seeds, of a "
            "64-256-256-10 network with structured hidden layers. Budgets are shares of their "
            "dense multiplications; in brackets, what is used.",
            [row for row in rows if row["group"] == "kinds"],
        ),
        _table(
            "What each choice in learning the structure is worth",
            "The same network as GBLR with one thing changed, and learned by Gaudi masks, from a "
            "grid at 2 times the budget, with one more.",
            [row for row in rows if row["case"] == "GBLR" or row["group"] == "ablations"],
        ),
    ]


def _table(title: str, note: str, rows: list[Row]) -> Table:
    budgets = sorted({row["budget"] for row in rows if row["budget"] < 1}, reverse=True)
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == case]
        if all(row["budget"] == 1 for row in own):
            lines.append([case, *[_cell(own)] * len(budgets)])
            continue
        cells = [[row for row in own if row["budget"] == budget] for budget in budgets]
        lines.append([case, *map(_cell, cells)])
    return Table(title, note, ["network", *(f"at {percent(b)}" for b in budgets)], lines)


def _cell(rows: list[Row]) -> str:
    if not rows:
        return "–"
    if "skipped" in rows[0]:
        return "no such matrix"
    scores = [100 * row["accuracy"] for row in rows]
    spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    used = statistics.fmean(row["cost"] for row in rows)
    return f"{statistics.fmean(scores):.1f}{spread} ({percent(used)})"
