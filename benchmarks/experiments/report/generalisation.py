"""Table of training scores, turnover and training multiplications of one experiment."""

import statistics
from collections.abc import Callable

from benchmarks.experiments.samples import DENSE, ExperimentRuns
from benchmarks.reporting.names import case_name
from benchmarks.reporting.tables import Table, percent
from benchmarks.results import Row


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
                    case_name(name), percent(budget),
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
