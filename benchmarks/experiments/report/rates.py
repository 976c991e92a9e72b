"""Table of learning rates: the dense rate, the best of a grid, and rates by rule."""

from benchmarks.experiments.config import KINDS
from benchmarks.experiments.samples import ExperimentRuns
from benchmarks.reporting.tables import Table, number, percent
from benchmarks.results import Row


def has_rule(runs: ExperimentRuns, model: str) -> bool:
    """Tell whether tuning has runs with rates of contents by rule."""
    rows = runs.group("tuning", model)
    return any(row["settings"].get("contents_lr") == "rule" for row in rows)


def rates(runs: ExperimentRuns, model: str, title: str) -> Table:
    """Scores of every kind by the rate of its contents; no lines without a rule."""
    rows = runs.group("tuning", model) if has_rule(runs, model) else []
    places = dict.fromkeys((row["kind"], row["budget"]) for row in rows)
    lines = [
        _line(runs, model, kind, budget, [r for r in rows if (r["kind"], r["budget"]) == place])
        for place in places
        for kind, budget in [place]
    ]
    note = (
        f"{runs.metric.name.capitalize()} on validation data held out of the training data, mean ± "
        "standard deviation over the seeds: with the dense rate for all parameters, with the rate "
        "of contents that is best in a grid, and with rates by rule. Multiples are rates of "
        "contents over the dense rate."
    )
    headers = ["kind", "budget", "dense rate", "best of the grid", "its multiple", "by rule"]
    return Table(title, note, [*headers, "its multiples"], lines)


def _line(runs: ExperimentRuns, model: str, kind: str, budget: float, rows: list[Row]) -> list[str]:
    plain = runs.config["settings"]["lr"]
    tried = {row["case"]: _rate(row["settings"]) for row in rows}
    grid = {name: rate for name, rate in tried.items() if not isinstance(rate, str)}
    ruled = next((name for name in tried if name not in grid), None)
    dense = next((name for name, rate in grid.items() if rate == plain), None)
    best = runs.best(grid, budget, model, "tuning")
    used = {rate for row in rows for rate in row.get("rates", [])}

    def score(case: str | None) -> str:
        return runs.metric.spread(runs.sample(case, budget, model, "tuning"))

    return [
        KINDS.get(kind, kind),
        percent(budget),
        score(dense),
        score(best[0] if best else None),
        number(grid[best[0]] / plain) if best else "–",
        score(ruled),
        ", ".join(number(rate / plain) for rate in sorted(used)) or "–",
    ]


def _rate(settings: Row) -> float | str:
    """Learning rate that a case tries, of contents or of all parameters."""
    rate: float | str = settings.get("contents_lr", settings.get("lr", ""))
    return rate
