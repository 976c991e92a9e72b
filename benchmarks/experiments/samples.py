"""Scores over seeds, as tables, plots and sentences use them."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.results import BenchmarkError, Row, load

DENSE, LEARNED, ENTRIES = "dense", "gblr", "entries"
SCHEMA = 1
KEYS = ("schema", "experiment", "command", "machine", "config", "rows")
NO_SCORE = {"skipped": "diverged: no finite score"}


@dataclass(frozen=True)
class ScoreFormat:
    """Name of a score, the direction that is better, and its unit and digits.

    `scale` is the unit in the result file over the unit that is shown.
    """

    name: str
    higher: bool
    scale: float
    form: str

    @property
    def label(self) -> str:
        """Name for axes and notes, with the direction where it is down."""
        return self.name + ("" if self.higher else " (lower is better)")

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.higher else -1

    def spread(self, sample: "Sample | None") -> str:
        """Mean ± standard deviation, or a dash."""
        return "–" if sample is None else self._text(sample.mean, sample.std)

    def within(self, sample: "Sample | None") -> str:
        """Mean ± standard error, or a dash."""
        return "–" if sample is None else self._text(sample.mean, sample.error)

    def change(self, gap: "Sample | None") -> str:
        """Mean difference ± its standard error, or a dash."""
        return "–" if gap is None else self._text(gap.mean, gap.error, "+")

    def _text(self, value: float, margin: float | None, sign: str = "") -> str:
        tail = "" if margin is None else f" ± {margin:{self.form}}"
        return f"{value:{sign}{self.form}}{tail}"


METRICS = {
    "accuracy": ScoreFormat("accuracy in per cent", True, 100.0, ".2f"),
    "perplexity": ScoreFormat("perplexity", False, 1.0, ".3f"),
    "cosine": ScoreFormat("cosine", True, 1.0, ".4f"),
    "error": ScoreFormat("relative error", False, 1.0, ".3g"),
}


@dataclass(frozen=True)
class Sample:
    """One figure a seed, of at least one seed."""

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


def minus(sample: Sample | None, other: Sample | None) -> Sample | None:
    """Differences seed by seed, or None without a seed that both have."""
    if sample is None or other is None:
        return None
    common = sorted(sample.values.keys() & other.values.keys())
    values = {seed: sample.values[seed] - other.values[seed] for seed in common}
    return Sample(values) if values else None


@dataclass(frozen=True)
class ExperimentRuns:
    """Rows of one result file, looked up by case, budget and model."""

    result: Row

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.result["experiment"]

    @property
    def config(self) -> Row:
        """Content of the experiment's file."""
        return self.result["config"]

    @property
    def title(self) -> str:
        """Name of the data set in a few words: the title up to its first comma."""
        return self.config["title"].partition(",")[0]

    @cached_property
    def metric(self) -> ScoreFormat:
        """Format of the scores."""
        return METRICS[self.config["metric"]]

    @cached_property
    def every(self) -> list[Row]:
        """All rows; "model" is the network, or the matrix of an experiment on matrices.

        Runs that ended without a finite score count as left out.
        """
        model = self.config.get("model", "")
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
        self,
        case: str | None,
        budget: float,
        model: str,
        group: str = "kinds",
        score: str | None = None,
    ) -> Sample | None:
        """Scores of a case in the metric's unit, or None where it has none."""
        values = {
            row["seed"]: self.metric.scale * (row["scores"][score] if score else row["score"])
            for row in (self.rows(case, budget, model, group) if case else ())
            if score is None or row.get("scores", {}).get(score) is not None
        }
        return Sample(values) if values else None

    @cached_property
    def learned(self) -> list[str]:
        """Cases of GBLR whose structure is learned; the one called GBLR, the method, first."""
        held = {c["name"] for c in self.described if c.get("convert", {}).get("learn") is False}
        names = [n for n, kind in self.cases().items() if kind == LEARNED and n not in held]
        return sorted(names, key=lambda name: name != "GBLR")

    @cached_property
    def method(self) -> str | None:
        """Case that ablations change, the first of the learned ones."""
        return next(iter(self.learned), None)

    @cached_property
    def dense(self) -> str | None:
        """Case of the dense network."""
        return next((name for name, kind in self.cases().items() if kind == DENSE), None)

    @property
    def learned_kinds(self) -> dict[str, tuple[str, str]]:
        """Kinds beside GBLR that have a learned and a fixed case: the names of both."""
        fixed = {kind: name for name, kind in self.cases().items() if name in self.others}
        return {
            fixed[kind]: (name, fixed[kind])
            for name, kind in self.cases().items()
            if kind in fixed and name not in self.others
        }

    @property
    def others(self) -> list[str]:
        """Cases of fixed structure, to compare the learned ones with."""
        learning = {c["name"] for c in self.described if c.get("convert", {}).get("learn")}
        kinds = DENSE, LEARNED, ENTRIES
        return [n for n, kind in self.cases().items() if kind not in kinds and n not in learning]

    @property
    def described(self) -> list[Row]:
        """Cases that the file describes one by one."""
        return self.config.get("cases", [])

    @cached_property
    def beside(self) -> dict[str, str]:
        """Cases that say what the method's learning is worth, by their part in it.

        "frozen" is its own start, held; "alone" its structure with fresh contents;
        "ceiling" the same learned without structure.
        """
        found: dict[str, str] = {}
        for case in reversed(self.described):
            held = case.get("rule") == "none"
            if case.get("structure"):
                found["alone"] = case["name"]
            elif case["kind"] == LEARNED and held and "start_rule" not in case.get("convert", {}):
                found["frozen"] = case["name"]
            elif case["kind"] == ENTRIES and not held:
                found["ceiling"] = case["name"]
        return found

    def anywhere(
        self, case: str | None, budget: float, model: str, key: str = "score"
    ) -> Sample | None:
        """Figures of a case of the kinds or, if it is none, of the ablations.

        `key` names another figure of its rows than the score; scores are in the metric's unit.
        """
        groups = (g for g in ("kinds", "ablations") if case in self.cases(g))
        unit = self.metric.scale if key.endswith("score") else 1.0
        rows = self.rows(case, budget, model, next(groups, "kinds")) if case else []
        values = {row["seed"]: unit * row[key] for row in rows if row.get(key) is not None}
        return Sample(values) if values else None

    def best(
        self, names: Iterable[str], budget: float, model: str, group: str = "kinds"
    ) -> tuple[str, Sample] | None:
        """Case with the best mean, or None where none has a score."""
        found = [(name, self.sample(name, budget, model, group)) for name in names]
        scored = [(name, sample) for name, sample in found if sample is not None]
        return max(scored, key=lambda pair: self.metric.sign * pair[1].mean, default=None)

    def ablations(self, budget: float, model: str) -> dict[str, Sample]:
        """Scores of the ablations at a budget."""
        found = {
            name: self.sample(name, budget, model, "ablations") for name in self.cases("ablations")
        }
        return {name: sample for name, sample in found.items() if sample is not None}

    def layer_costs(self, model: str) -> dict[float, dict[str, float]]:
        """Learned relative cost of each layer by budget, mean over the seeds."""
        found: dict[float, dict[str, float]] = {}
        for budget in self.budgets() if self.method else []:
            values: dict[str, list[float]] = {}
            for row in self.rows(self.method, budget, model):
                for layer in row.get("layers", []):
                    values.setdefault(layer["name"], []).append(layer["relative_cost"])
            if values:
                found[budget] = {name: statistics.fmean(own) for name, own in values.items()}
        return found

    @cached_property
    def places(self) -> list[tuple[str, float]]:
        """Every model with every budget of the kinds."""
        return [(model, budget) for model in self.models for budget in self.budgets()]


def read(path: Path) -> Row:
    """Content of one result file.

    Raises
    ------
    BenchmarkError
        If it is none of this version.
    """
    result = load(path, SCHEMA, KEYS)
    if result["config"].get("metric") not in METRICS:
        raise BenchmarkError(
            f"{path.name} is no result with a known metric; expected one of {', '.join(METRICS)}; "
            "run it again"
        )
    return result
