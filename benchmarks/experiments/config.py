"""What an experiment is: one TOML file, read and checked.

A file lists the kinds of structure that it compares and, as cases of their own, what is
changed in ablations; every case runs with every budget and seed. Settings of a case are
added to those of the file. `tuning` asks for a few short runs of every kind with other
settings, scored on held-out examples; what they led to stands in `chosen`.
"""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import BenchmarkError

CONFIGS = Path(__file__).parent / "configs"
#: What the rows of a case are for; tuning is scored on examples held out of the training set.
GROUPS = ("kinds", "ablations", "tuning")
#: Kinds by the names that tables show; "alds" is low rank with ranks chosen by ALDS.
KINDS = {
    "dense": "dense",
    "low_rank": "low rank",
    "alds": "low rank, ALDS ranks",
    "block_sparse": "block sparse",
    "block_low_rank": "block low rank",
    "monarch": "Monarch",
    "pixelfly": "pixelfly",
    "blast": "BLAST",
    "gblr": "GBLR",
}
TASKS = ("train", "matrices", "minilm")
METRICS = ("accuracy", "perplexity", "cosine", "error")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to a network.

    Parameters
    ----------
    name, group : str
        As tables show it, and which table it is in.
    kind : str
        As `structmat.nn.Config` knows it, or "dense", "blast" or "ranks".
    convert : mapping
        Further fields of `Config`; "options" among them are those of its layers.
    settings : mapping
        Changes of the training's settings.
    rule : str
        What follows each step of a learned structure: the "budget" and the schedule of σ,
        the published "threshold" and the schedule, "sigma" for the schedule alone, "none".
    threshold : mapping
        Options of `structmat.nn.SoftThreshold` for that rule.
    like : str
        Where the cost of each layer comes from, if not from the budget: "alds" for the
        ranks that the weights of the dense network ask for, or the name of a case whose
        layers' cost of the same budget and seed is taken over.
    budgets : list of float, optional
        Where they differ from those of the experiment.
    seeds : list of int, optional
        Likewise.
    """

    name: str
    kind: str
    group: str = "kinds"
    convert: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    rule: str = "budget"
    threshold: Mapping[str, Any] = field(default_factory=dict)
    like: str = ""
    budgets: list[float] | None = None
    seeds: list[int] | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run."""

    case: Case
    budget: float
    seed: int

    @property
    def name(self) -> str:
        """Names the files of the run: letters, digits and signs that any system takes."""
        words = "".join(c if c.isalnum() else "-" for c in f"{self.case.group} {self.case.name}")
        return f"{words}-{self.budget:g}-{self.seed}"

    @property
    def head(self) -> dict[str, Any]:
        """What a row says of the run it is of."""
        return {
            "case": self.case.name,
            "kind": self.case.kind,
            "group": self.case.group,
            "budget": self.budget,
            "seed": self.seed,
        }

    @property
    def key(self) -> tuple[str, str, float, int]:
        """Tells the rows of an experiment apart."""
        return self.case.group, self.case.name, self.budget, self.seed


@dataclass(frozen=True, kw_only=True)
class ExperimentFile:
    """A file's content; `raw` is all of it, as the result file repeats it."""

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
        """All runs, a seed after the other; those on which others build come first."""
        cases = sorted(self.cases, key=lambda case: (bool(case.like), case.group == "tuning"))
        for seed in sorted({s for case in cases for s in (case.seeds or self.seeds)}):
            for case in cases:
                if seed not in (case.seeds or self.seeds):
                    continue
                for budget in [1.0] if case.kind == "dense" else case.budgets or self.budgets:
                    yield Job(case=case, budget=budget, seed=seed)


def load(name: str) -> ExperimentFile:
    """An experiment by the name of a file that is shipped, or by the path of another one."""
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
    """An experiment of a file's content."""
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
    """A case for every kind with what was chosen for it, and those that tune it."""
    if raw.get("task", "train") != "train":
        return
    for kind in raw.get("kinds", []):
        _among(name, "a kind", kind, tuple(KINDS))
        chosen = dict(raw.get("chosen", {}).get(kind, {}))
        given = {"kind": "low_rank", "like": "alds"} if kind == "alds" else {"kind": kind}
        case = _case(name, {"name": KINDS[kind], **given, **chosen})
        yield case
        for change in _changes(raw.get("tuning", {}), kind):
            words = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in change.items())
            yield dataclasses.replace(
                case,
                name=f"{case.name}, {words}",
                group="tuning",
                settings={**case.settings, **change},
                budgets=list(raw["tuning"]["budgets"]),
                seeds=list(raw["tuning"]["seeds"]),
            )


def _changes(tuning: Mapping[str, Any], kind: str) -> list[dict[str, float]]:
    """What is tried for a kind: rates of contents if the file has some, and the kind contents.

    ALDS takes what low rank is given; of BLAST, an experiment's own layer, contents have no
    rate of their own.
    """
    if kind == "alds":
        return []
    key = "contents_lr" if "contents_lr" in tuning and kind not in ("dense", "blast") else "lr"
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
