"""Tables of what learning the structure is worth, from the result file alone."""

import statistics
from collections.abc import Callable

from benchmarks.experiments.samples import DENSE, ExperimentRuns, minus
from benchmarks.reporting.tables import Table, percent
from benchmarks.results import Row

#: Differences of the table of gains: name of the column, and the two that are compared.
GAINS = {
    "learned minus frozen": ("learned", "frozen"),
    "ceiling minus frozen": ("ceiling", "frozen"),
    "structure alone minus frozen": ("alone", "frozen"),
    "learned minus ceiling": ("learned", "ceiling"),
    "learned minus best fixed kind": ("learned", "fixed"),
    "learned minus dense": ("learned", "dense"),
}


def gains(runs: ExperimentRuns, model: str, title: str) -> Table:
    """Differences between the method and what bounds it, a line a budget."""
    lines = []
    for budget in runs.budgets() if runs.beside else []:
        cells, best = [], ""
        rival = runs.best(runs.others, budget, model)
        samples = {part: runs.anywhere(n, budget, model) for part, n in runs.beside.items()}
        samples["learned"] = runs.sample(runs.method, budget, model)
        samples["dense"] = runs.sample(runs.dense, budget, model)
        if rival:
            best, samples["fixed"] = f" ({rival[0]})", rival[1]
        for one, other in GAINS.values():
            gap = minus(samples.get(one), samples.get(other))
            cells.append(runs.metric.change(gap) + (best if gap and other == "fixed" else ""))
        if set(cells) != {"–"}:
            lines.append([percent(budget), *cells])
    words = "; ".join(f"{part}: {name}" for part, name in sorted(runs.beside.items()))
    note = (
        f"Differences in {runs.metric.name}, paired over the seeds, ± standard error "
        f"(learned: {runs.method}; {words}). The frozen one keeps its start; the structure alone "
        "is the learned one with contents drawn afresh; the ceiling counts single entries once, "
        "without the price of their positions."
    )
    return Table(title, note, ["budget", *GAINS], lines)


def generalisation(runs: ExperimentRuns, model: str, title: str) -> Table:
    """Training, validation and test scores, turnover, and multiplications of the training."""
    lines = []
    for group in ("kinds", "ablations"):
        for name, kind in runs.cases(group).items():
            for budget in runs.budgets(group) if kind != DENSE else [1.0]:
                own = runs.rows(name, budget, model, group)
                if not any(row.get("train_score") is not None for row in own):
                    continue
                lines.append([
                    name, percent(budget),
                    *(_score(runs, own, key) for key in ("train_score", "valid_score", "score")),
                    _loss(own),
                    _mean(own, "turnover", percent),
                    _mean(own, "training_cost", percent),
                ])  # fmt: skip
    note = (
        f"{runs.metric.label} on examples of the training set, on those held out of it and on the "
        "test set; mean training loss of the last pass; turnover, the share of the final entries "
        "that the start would not have kept; multiplications of the training over those of the "
        "dense layers, by the support that each pass ends with. Means over the seeds. Layers that "
        "learn their support multiply by a dense weight meanwhile, so their time is dense."
    )
    headers = ["network", "budget", "training", "validation", "test", "training loss"]
    headers += ["turnover", "training multiplications"]
    return Table(title, note[0].upper() + note[1:], headers, lines)


def _score(runs: ExperimentRuns, rows: list[Row], key: str) -> str:
    scale = runs.metric.scale
    return _mean(rows, key, lambda value: f"{scale * value:{runs.metric.form}}")


def _loss(rows: list[Row]) -> str:
    last = [row["history"][-1] for row in rows if row.get("history")]
    return _mean(last, "loss", lambda value: f"{value:.3f}")


def _mean(rows: list[Row], key: str, show: Callable[[float], str]) -> str:
    values = [row[key] for row in rows if row.get(key) is not None]
    return show(statistics.fmean(values)) if values else "–"
