"""The summary of an experiment: a row for each kind, on the page and in a notebook."""

from collections.abc import Mapping, Sequence
from typing import Any

from structmat._table import Table
from structmat.learn.report.results import KindRuns, Metric, kinds_of


def summary(kinds: Sequence[KindRuns], metric: Metric) -> tuple[str, list[str], list[list[str]]]:
    """Caption, columns and rows of the table of kinds."""
    way = "lower is better" if metric.lower_is_better else "higher is better"
    columns = [
        "Kind",
        f"{metric.label[:1].upper()}{metric.label[1:]}, {way}",
        "On training examples",
        "Multiplications",
        "of dense",
        "Stored scalars",
        "of dense",
        "Inference",
        "of dense",
        "Training",
    ]
    dense = next((kind.mean("inference_seconds") for kind in kinds if kind.name == "dense"), None)
    rows = []
    for kind in kinds:
        inference = kind.mean("inference_seconds")
        rows.append(
            [
                kind.label,
                metric.text(kind.mean("metric"), kind.spread("metric")),
                metric.text(kind.mean("train_metric")),
                count(kind.mean("cost")),
                percent(kind.mean("relative_cost")),
                count(kind.mean("storage")),
                percent(kind.mean("relative_storage")),
                _seconds(inference),
                percent(kind.mean("relative_inference") or _ratio(inference, dense)),
                _seconds(kind.mean("train_seconds")),
            ]
        )
    several = any(kind.spread("metric") is not None for kind in kinds)
    caption = (
        ("Means over the seeds, ± their standard deviation. " if several else "")
        + "Multiplications, for one example, and stored scalars are those of the layers to be "
        "structured; inference is one pass over the test set, timed turn by turn with the dense "
        "network."
    )
    return caption, columns, rows


def summary_html(results: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """The table of kinds with the files that were written, for a notebook."""
    caption, columns, rows = summary(kinds_of(results), Metric(str(results["task"]["metric"])))
    notes = [caption, *(f"{what}: {path}" for what, path in files.items())]
    return Table(columns, rows, notes).html()


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def count(value: float | None) -> str:
    """A number with its thousands apart; a dash for none."""
    return "–" if value is None else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """A share of one in percent; a dash for none."""
    return "–" if share is None else f"{100 * share:.3g}\u00a0%"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    if value < 1:
        return f"{1000 * value:.3g}\u00a0ms"
    return f"{value:.3g}\u00a0s" if value < 600 else f"{value / 60:.3g}\u00a0min"
