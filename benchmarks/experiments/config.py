"""Files of experiments: one TOML file each, read and checked.

A file lists the kinds of structure to compare and, as cases of their own, the changes of
ablations; every case runs with every budget and seed. Settings of a case are added to
those of the file. `tuning` asks for a few short runs of every kind with other settings,
scored on held-out examples; the settings chosen by them stand in `chosen`.
"""

import dataclasses
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import BenchmarkError
from structmat.kinds import fitted_kinds, kind_record

CONFIGS = Path(__file__).parent / "configs"
#: Called with a text to show, the runs begun, and all runs.
Report = Callable[[str, int, int], None]
#: Groups of cases; tuning is scored on examples held out of the training set.
GROUPS = ("kinds", "ablations", "tuning")
#: Kinds by the names that tables show; "alds" is low rank with ranks chosen by ALDS.
KINDS = {
    **{kind: kind_record(kind).label for kind in ("dense", *fitted_kinds())},
    "alds": "low rank, ALDS ranks",
    "blast": "BLAST",
    "pixelfly": "pixelfly",
    "entries": "single entries",
    "narrow": "dense, narrower",
}
#: Kinds whose contents have no rate of their own.
PLAIN = ("dense", "blast", "entries", "narrow")
TASKS = ("train", "matrices", "minilm", "advice")
METRICS = ("accuracy", "perplexity", "cosine", "error")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to make and train a network.

    Parameters
    ----------
    name, group : str
        Name in tables, and the table that shows the case.
    kind : str
        As `structmat.nn.Config` knows it, or "dense", "blast", "ranks", or "entries":
        unstructured, pruned while training, or frozen at random with the rule "none"; or
        "narrow", a dense network of fewer units.
    convert : mapping
        Further fields of `Config`; "options" among them are those of its layers.
    settings : mapping
        Changes of the training's settings.
    rule : str
        Rule after each step of a learned structure: the "budget" and the schedule of σ,
        the published "threshold" and the schedule, "sigma" for the schedule alone, "none".
    threshold : mapping
        Options of `structmat.nn.SoftThreshold` for that rule.
    like : str
        Source of each layer's cost in place of the budget: "alds" for the ranks that ALDS
        chooses for the dense network, or the name of a case whose layers have the costs, at
        the same budget and seed.
    structure : str
        Name of the case whose trained network gives the structure, at the same budget and
        seed; its contents are drawn afresh and trained, and the structure stays.
    calibrated : bool
        Fit trained weights to the outputs of their layers on training batches.
    budgets : list of float, optional
        Budgets in place of the experiment's.
    seeds : list of int, optional
        Seeds in place of the experiment's.
    """

    name: str
    kind: str
    group: str = "kinds"
    convert: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    rule: str = "budget"
    threshold: Mapping[str, Any] = field(default_factory=dict)
    like: str = ""
    structure: str = ""
    calibrated: bool = False
    budgets: list[float] | None = None
    seeds: list[int] | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: a case at a budget with a seed."""

    case: Case
    budget: float
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's files: letters, digits and hyphens."""
        words = "".join(c if c.isalnum() else "-" for c in f"{self.case.group} {self.case.name}")
        return f"{words}-{self.budget:g}-{self.seed}"

    @property
    def head(self) -> dict[str, Any]:
        """Columns of the run's row that identify it."""
        return {
            "case": self.case.name,
            "kind": self.case.kind,
            "group": self.case.group,
            "budget": self.budget,
            "seed": self.seed,
        }

    @property
    def key(self) -> tuple[str, str, float, int]:
        """Key of the run within its experiment."""
        return self.case.group, self.case.name, self.budget, self.seed


@dataclass(frozen=True, kw_only=True)
class ExperimentFile:
    """Content of an experiment's file; `raw` is all of it, as the result file repeats it."""

    name: str
    task: str
    title: str
    note: str
    metric: str
    cases: list[Case]
    budgets: list[float]
    seeds: list[int]
    raw: Mapping[str, Any]

    def jobs(self) -> Iterator[Job]:
        """All runs, seed by seed; within a seed, runs that others build on come first."""
        cases = sorted(
            self.cases, key=lambda case: (bool(case.like or case.structure), case.group == "tuning")
        )
        for seed in sorted({s for case in cases for s in (case.seeds or self.seeds)}):
            for case in cases:
                if seed not in (case.seeds or self.seeds):
                    continue
                for budget in [1.0] if case.kind == "dense" else case.budgets or self.budgets:
                    yield Job(case=case, budget=budget, seed=seed)


def load(name: str) -> ExperimentFile:
    """Read a file by the name of a shipped config, or by the path of another one."""
    path = CONFIGS / f"{name}.toml" if (CONFIGS / f"{name}.toml").is_file() else Path(name)
    known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise BenchmarkError(
            f"CONFIG = {name!r}; expected one of {known}, or the path of a TOML file"
        ) from None
    except ValueError as reason:
        raise BenchmarkError(f"{path.name} is no TOML file ({reason}); mend it") from None
    return parse(path.stem, raw)


def parse(name: str, raw: Mapping[str, Any]) -> ExperimentFile:
    """Check the content of a file."""
    for key in ("title", "note", "metric", "budgets", "seeds"):
        if key not in raw:
            raise BenchmarkError(f"{name}.toml has no {key!r}; every experiment needs one (add it)")
    _among(name, "metric", raw["metric"], METRICS)
    task = raw.get("task", "train")
    _among(name, "task", task, TASKS)
    cases = [*_kinds(name, raw), *(_case(name, dict(entry)) for entry in raw.get("cases", []))]
    keys = [(case.group, case.name) for case in cases]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise BenchmarkError(f"{name}.toml has two cases {twice[0]}; give one another name")
    return ExperimentFile(
        name=name,
        task=task,
        title=raw["title"],
        note=raw["note"],
        metric=raw["metric"],
        cases=cases,
        budgets=list(raw["budgets"]),
        seeds=list(raw["seeds"]),
        raw=raw,
    )


def _kinds(name: str, raw: Mapping[str, Any]) -> Iterator[Case]:
    """Case of every kind with the settings chosen for it, and the cases that tune it."""
    if raw.get("task", "train") != "train":
        return
    for kind in raw.get("kinds", []):
        _among(name, "a kind", kind, tuple(KINDS))
        chosen = dict(raw.get("chosen", {}).get(kind, {}))
        given = {"kind": "low_rank", "like": "alds"} if kind == "alds" else {"kind": kind}
        case = _case(name, {"name": KINDS[kind], **given, **chosen})
        yield case
        for change in _changes(raw.get("tuning", {}), kind):
            words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in change.items())
            yield dataclasses.replace(
                case,
                name=f"{case.name}, {words}",
                group="tuning",
                settings={**case.settings, **change},
                budgets=list(raw["tuning"]["budgets"]),
                seeds=list(raw["tuning"]["seeds"]),
            )


def _changes(tuning: Mapping[str, Any], kind: str) -> list[dict[str, float | str]]:
    """Settings to try for a kind: rates of contents if the file and the kind have them.

    A rate may be "rule", as `structmat.nn.parameter_groups` takes it.

    ALDS uses the settings of low rank. BLAST is a layer of the experiments, and its contents
    have no rate of their own.
    """
    if kind == "alds":
        return []
    key = "contents_lr" if "contents_lr" in tuning and kind not in PLAIN else "lr"
    return [{key: value} for value in tuning.get(key, [])]


def _case(name: str, entry: dict[str, Any]) -> Case:
    known = {f.name for f in dataclasses.fields(Case)}
    if unknown := sorted(entry.keys() - known):
        raise BenchmarkError(
            f"a case of {name}.toml has {unknown}; expected among {sorted(known)} (check its "
            "spelling)"
        )
    if missing := sorted({"name", "kind"} - entry.keys()):
        raise BenchmarkError(f"a case of {name}.toml has no {missing}; add it")
    _among(name, "group", entry.get("group", "kinds"), GROUPS)
    _among(name, "rule", entry.get("rule", "budget"), ("budget", "threshold", "sigma", "none"))
    return Case(**entry)


def _among(name: str, what: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BenchmarkError(f"{name}.toml: {what} = {value!r}; expected one of {known}")
