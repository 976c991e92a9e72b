"""Results of runs, gathered by kind and by layer."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from structmat.errors import InputError
from structmat.kinds import Kind, all_kinds, kind_record

#: Name of GBLR layers whose blocks stay where a random start puts them.
FIXED = "gblr_fixed"
_FIXED_RECORD = Kind(FIXED, "GBLR, fixed", "#F2B48C")
_FORMAT = 1
_RUN = {
    "kind", "seed", "metric", "cost", "relative_cost", "storage", "relative_storage",
    "train_seconds", "inference_seconds", "history", "layers",
}  # fmt: skip


def check_results(results: Mapping[str, Any]) -> None:
    """Refuse a mapping that is not of results with at least one run."""
    version = results.get("format")
    if version != _FORMAT:
        raise InputError(
            f"results of format {version!r}; expected {_FORMAT} (run the experiment again with "
            "this version)"
        )
    if "metric" not in results.get("task", {}) or not results.get("runs"):
        raise InputError(
            "results without a metric of the task or without runs; expected task.metric and at "
            "least one run (run the experiment again)"
        )
    for run in results["runs"]:
        missing = sorted(_RUN - run.keys())
        if missing:
            raise InputError(
                f"a run lacks {', '.join(missing)}; expected all of {', '.join(sorted(_RUN))} "
                "(run the experiment again)"
            )


@dataclass(frozen=True)
class Metric:
    """Metric of a task: name, notation of values, and direction that is better."""

    name: str

    @property
    def label(self) -> str:
        """Name in words."""
        return self.name.replace("_", " ")

    @property
    def is_share(self) -> bool:
        """True for fractions, which are written as percentages."""
        return "accuracy" in self.name

    @property
    def lower_is_better(self) -> bool:
        """True if smaller values are better."""
        return any(word in self.name for word in ("perplexity", "loss", "error", "bits"))

    def text(self, value: float | None, spread: float | None = None) -> str:
        """Value in words, with its spread if there is one."""
        if value is None:
            return "–"
        digits, scale, unit = (".2f", 100, "\u00a0%") if self.is_share else (".4g", 1, "")
        tail = "" if spread is None else f" ± {scale * spread:.2g}"
        return f"{scale * value:{digits}}{tail}{unit}"


@dataclass(frozen=True)
class KindRuns:
    """The runs of one kind, one a seed."""

    name: str
    runs: Sequence[Mapping[str, Any]]

    @property
    def label(self) -> str:
        """Kind in words."""
        return self._record.label

    @property
    def colour(self) -> str:
        """Colour of the kind in charts."""
        return self._record.colour

    @property
    def _record(self) -> Kind:
        return _FIXED_RECORD if self.name == FIXED else kind_record(self.name)

    def values(self, key: str) -> list[float]:
        """Finite values of the runs under a key; a run that diverged has none."""
        found = [run.get(key) for run in self.runs]
        return [value for value in found if value is not None and math.isfinite(value)]

    def mean(self, key: str) -> float | None:
        """Mean over the seeds; None without a value."""
        values = self.values(key)
        return statistics.fmean(values) if values else None

    def spread(self, key: str) -> float | None:
        """Standard deviation over the seeds; None for less than two."""
        values = self.values(key)
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Layer:
    """One layer: dense cost for one example, and cost by kind."""

    name: str
    shape: tuple[int, ...]
    positions: int
    dense_cost: int
    costs: Mapping[str, float]

    def share(self, kind: str) -> float | None:
        """Cost as a fraction of the dense one; None where a kind lacks the layer."""
        return self.costs[kind] / max(self.dense_cost, 1) if kind in self.costs else None


def kinds_of(results: Mapping[str, Any]) -> list[KindRuns]:
    """The kinds that were run, dense first, those unknown here last."""
    runs = results["runs"]
    known = [kind.name for kind in all_kinds()]
    known.insert(known.index("gblr"), FIXED)
    others = sorted({run["kind"] for run in runs} - set(known))
    names = sorted({run["kind"] for run in runs}, key=[*known, *others].index)
    return [KindRuns(name, [run for run in runs if run["kind"] == name]) for name in names]


def layers_of(kinds: Iterable[KindRuns]) -> list[Layer]:
    """The layers in the order of the network, costs as means over the seeds."""
    facts: dict[str, Mapping[str, Any]] = {}
    costs: dict[str, dict[str, list[int]]] = {}
    for kind in kinds:
        for run in kind.runs:
            for layer in run["layers"]:
                name = layer["name"]
                facts.setdefault(name, layer)
                costs.setdefault(name, {}).setdefault(kind.name, []).append(layer["cost"])
    return [
        Layer(
            name,
            tuple(layer["shape"]),
            layer.get("positions", 1),
            layer["dense_cost"],
            {kind: statistics.fmean(values) for kind, values in costs[name].items()},
        )
        for name, layer in facts.items()
    ]
