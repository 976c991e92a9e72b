"""Scores over seeds, as tables, plots and sentences use them."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from benchmarks.results import Row

DENSE, LEARNED = "dense", "gblr"
NO_SCORE = {"skipped": "diverged: no finite score"}


@dataclass(frozen=True)
class Metric:
    """What a score means: its name on axes, whether more is better, and how it is shown."""

    label: str
    higher: bool
    scale: float
    form: str

    def show(self, value: float) -> str:
        """A score, in the metric's unit."""
        return format(value, self.form)

    def signed(self, value: float) -> str:
        """A difference of scores."""
        return format(value, "+" + self.form)


METRICS = {
    "accuracy": Metric("accuracy in per cent", True, 100.0, ".2f"),
    "perplexity": Metric("perplexity (lower is better)", False, 1.0, ".3f"),
    "cosine": Metric("cosine", True, 1.0, ".4f"),
    "error": Metric("relative error (lower is better)", False, 1.0, ".3g"),
}


@dataclass(frozen=True)
class Sample:
    """One figure a seed, of at least one seed; `a - b` pairs the seeds that both have."""

    values: Mapping[int, float]

    @property
    def count(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values.values())

    @property
    def std(self) -> float | None:
        """Standard deviation over the seeds, n - 1 in its denominator; None for one seed."""
        return statistics.stdev(self.values.values()) if self.count > 1 else None

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None for one seed."""
        return None if self.std is None else self.std / math.sqrt(self.count)

    def minus(self, other: "Sample | None") -> "Sample | None":
        """Differences seed by seed, or None where no seed is in both."""
        others = other.values if other else {}
        common = sorted(self.values.keys() & others.keys())
        values = {seed: self.values[seed] - others[seed] for seed in common}
        return Sample(values) if values else None


def spread(sample: Sample | None, metric: Metric) -> str:
    """Mean ± standard deviation, or a dash."""
    if sample is None:
        return "–"
    return metric.show(sample.mean) + _margin(sample.std, metric)


def change(sample: Sample | None, metric: Metric) -> str:
    """Mean difference ± its standard error, or a dash."""
    if sample is None:
        return "–"
    return metric.signed(sample.mean) + _margin(sample.error, metric)


def _margin(value: float | None, metric: Metric) -> str:
    return "" if value is None else f" ± {metric.show(value)}"


@dataclass(frozen=True)
class Runs:
    """The rows of one result file, looked up by what was run."""

    result: Row

    @cached_property
    def metric(self) -> Metric:
        """What the scores are."""
        return METRICS[self.result["config"]["metric"]]

    @cached_property
    def every(self) -> list[Row]:
        """All rows; what a matrix is to its experiment, the network is to the others.

        Runs that ended without a finite score count as left out.
        """
        model = self.result["config"].get("model", "")
        rows = [{"model": row.get("matrix", model)} | row for row in self.result["rows"]]
        return [row if row.get("score") is not None else NO_SCORE | row for row in rows]

    @cached_property
    def done(self) -> list[Row]:
        """Rows with a score."""
        return [row for row in self.every if "skipped" not in row]

    @cached_property
    def models(self) -> list[str]:
        """Networks or matrices, in the order of the file."""
        return list(dict.fromkeys(row["model"] for row in self.done))

    def group(self, group: str, model: str | None = None) -> list[Row]:
        """Rows of a group, all of them or those of one model."""
        return [r for r in self.done if r["group"] == group and model in (None, r["model"])]

    def cases(self, group: str = "kinds") -> dict[str, str]:
        """Names of the cases of a group, and the kind of each, in the order of the file."""
        return {row["case"]: row["kind"] for row in self.group(group)}

    def budgets(self, group: str = "kinds") -> list[float]:
        """Budgets of a group, the smallest first, without the dense network's."""
        return sorted({row["budget"] for row in self.group(group) if row["kind"] != DENSE})

    def rows(self, case: str, budget: float, model: str, group: str = "kinds") -> list[Row]:
        """Rows of a case at a budget, one a seed; the dense network has one budget for all."""
        own = [row for row in self.group(group, model) if row["case"] == case]
        return [row for row in own if row["kind"] == DENSE or row["budget"] == budget]

    def sample(
        self, case: str, budget: float, model: str, group: str = "kinds", score: str | None = None
    ) -> Sample | None:
        """The scores of a case in the metric's unit, or None where it has none."""
        values = {
            row["seed"]: self.metric.scale * (row["scores"][score] if score else row["score"])
            for row in self.rows(case, budget, model, group)
            if score is None or row.get("scores", {}).get(score) is not None
        }
        return Sample(values) if values else None

    @cached_property
    def learned(self) -> list[str]:
        """Cases whose structure is learned; the one called GBLR, the method itself, first."""
        names = [name for name, kind in self.cases().items() if kind == LEARNED]
        return sorted(names, key=lambda name: name != "GBLR")

    @cached_property
    def dense(self) -> str | None:
        """The case of the dense network."""
        return next((name for name, kind in self.cases().items() if kind == DENSE), None)

    def best(
        self, names: list[str], budget: float, model: str, group: str = "kinds"
    ) -> tuple[str, Sample] | None:
        """The case with the best mean, or None where none has a score."""
        found = [(name, self.sample(name, budget, model, group)) for name in names]
        scored = [(name, sample) for name, sample in found if sample is not None]
        sign = 1 if self.metric.higher else -1
        return max(scored, key=lambda pair: sign * pair[1].mean, default=None)

    @property
    def others(self) -> list[str]:
        """Kinds that the learned ones are held against: neither learned nor dense."""
        return [name for name, kind in self.cases().items() if kind not in (DENSE, LEARNED)]

    @cached_property
    def places(self) -> list[tuple[str, float]]:
        """Every model with every budget of the kinds."""
        return [(model, budget) for model in self.models for budget in self.budgets()]
