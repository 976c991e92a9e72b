"""Runs of an experiment one after another, each kept as soon as it is done.

Each row is written to its own file in the folder of states, and the result file is made
of all rows. So an interrupted run goes on, and several processes may share the runs of
one experiment: each with its part, or all of them those of one device.
"""

import hashlib
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.experiments.config import Case, ExperimentFile, Report
from benchmarks.experiments.samples import KEYS, SCHEMA
from benchmarks.experiments.side_by_side import Work, rows_at_once
from benchmarks.results import BenchmarkError, Row, Skip, load, rows_as_json, write_text
from structmat.files.write import finite
from structmat.kernels.cpu.threads import num_threads

#: Keys that identify a row within its experiment.
IDENTITY = ("group", "case", "matrix", "budget", "seed")
#: Keys of a file that every row depends on; rows made with other values do not count.
BASE = (
    "data", "model", "size", "settings", "examples", "held_out", "augment", "context", "steps",
    "scored", "begin", "grey",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders of data, results and states, and the device with its trainings."""

    data: Path | None
    results: Path
    states: Path
    device: str = "cpu"
    #: Trainings that share the device.
    at_once: int = 1


def run(
    experiment: ExperimentFile,
    places: Places,
    report: Report,
    *,
    part: tuple[int, int] = (1, 1),
    only: Sequence[str] = (),
) -> Path:
    """Make all rows that are missing; the result file is up to date after each.

    Parameters
    ----------
    part : tuple of int
        ``(i, n)``: every n-th run of a training experiment, from the i-th on.
    only : sequence of str
        Names of the cases to run; all of a training experiment, if empty.
    """
    folder = places.states / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    for row in _published(experiment, places):
        if not _file(folder, row).exists():
            _keep(folder, row)
    if experiment.task == "train":
        rows = _trainings(experiment, places, folder, report, part, only)
    else:
        if places.device != "cpu":
            raise BenchmarkError(
                f"--device {places.device} for {experiment.name!r}, which is measured on the CPU "
                "alone; leave the option out"
            )
        module = importlib.import_module(f"benchmarks.experiments.{experiment.task}")
        rows = module.run(dict(experiment.raw), places.data, _rows(experiment, folder), report)
    for row in rows:
        _keep(folder, {**row, **_recipe(experiment, row)})
        collect(experiment, places)
    return collect(experiment, places)


def command_of(name: str) -> str:
    """Command that runs an experiment, without the folders of this machine."""
    return f"python -m benchmarks experiments run {name} --data-dir DIR"


def collect(experiment: ExperimentFile, places: Places) -> Path:
    """Write the result file of all rows; its path comes back."""
    result = {
        "schema": SCHEMA,
        "experiment": experiment.name,
        "command": command_of(experiment.name),
        "machine": machine.facts(),
        "config": finite(dict(experiment.raw)),
        "rows": _rows(experiment, places.states / experiment.name),
    }
    path = places.results / f"{experiment.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, rows_as_json(result))
    return path


def _trainings(
    experiment: ExperimentFile,
    places: Places,
    folder: Path,
    report: Report,
    part: tuple[int, int],
    only: Sequence[str],
) -> Iterator[Row]:
    """Rows of the trainings that are left; each sees the rows that other processes made."""
    unknown = sorted(set(only) - {case.name for case in experiment.cases})
    if unknown:
        names = ", ".join(dict.fromkeys(case.name for case in experiment.cases))
        raise BenchmarkError(f"--only {unknown}; expected among {names}")
    jobs = [job for job in experiment.jobs() if not only or job.case.name in only]
    done = {_identity(row) for row in _rows(experiment, folder)}
    mine = [
        job
        for job in jobs[part[0] - 1 :: part[1]]
        if (*job.key[:2], None, *job.key[2:]) not in done
    ]
    if not mine:
        return
    if places.at_once > 1:
        count, threads = places.at_once, max(1, num_threads() // places.at_once)
        work = Work(experiment=experiment, data=places.data, folder=folder, device=places.device,
                    threads=threads)  # fmt: skip
        yield from rows_at_once(work, mine, count, partial(_rows, experiment, folder), report)
        return
    # Imported and made here, because torch and the data take a while to load.
    training = importlib.import_module("benchmarks.experiments.training")
    trainer = training.Trainer(experiment, places.data, folder, places.device)
    for i, job in enumerate(mine):
        text = f"{job.case.name}, budget {job.budget:g}, seed {job.seed}"

        def progress(epoch: int, epochs: int, loss: float, text: str = text, i: int = i) -> None:
            report(f"{text}: epoch {epoch}/{epochs}, loss {loss:.3f}", i + 1, len(mine))

        report(text, i + 1, len(mine))
        try:
            yield trainer.run(job, _rows(experiment, folder), progress)
        except Skip as reason:
            yield {**job.head, "skipped": str(reason)}


def _published(experiment: ExperimentFile, places: Places) -> list[Row]:
    """Rows of the result file, if there is one."""
    path = places.results / f"{experiment.name}.json"
    if not path.is_file():
        return []
    return list(load(path, SCHEMA, KEYS)["rows"])


def _rows(experiment: ExperimentFile, folder: Path) -> list[Row]:
    """All rows made by today's recipes, in the order of the cases."""
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.row.json")]
    rows = [row for row in rows if row["recipe"] == _recipe(experiment, row)["recipe"]]
    order = [(case.group, case.name) for case in experiment.cases]

    def place(row: Row) -> tuple[Any, ...]:
        key = row["group"], row["case"]
        at = order.index(key) if key in order else len(order)
        return at, str(row.get("matrix")), row["case"], row["group"], row["budget"], row["seed"]

    return sorted(rows, key=place)


def _recipe(experiment: ExperimentFile, row: Row) -> Row:
    """Hash of all settings that a row depends on, to find rows that are out of date."""
    base = {key: experiment.raw[key] for key in BASE if key in experiment.raw}
    own: Any = None
    for case in experiment.cases:
        if (case.group, case.name) == (row["group"], row["case"]):
            own = _essence(case)
    text = json.dumps([base, own], sort_keys=True)
    return {"recipe": hashlib.sha256(text.encode()).hexdigest()[:12]}


def _essence(case: Case) -> Row:
    """Settings of a case; one that came later counts where it is set, so older rows stand."""
    later = [key for key in ("structure", "calibrated") if not getattr(case, key)]
    idle = {"budgets", "seeds", *later}
    return {key: value for key, value in asdict(case).items() if key not in idle}


def _identity(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in IDENTITY)


def _file(folder: Path, row: Row) -> Path:
    text = json.dumps([*_identity(row), row["recipe"]])
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.row.json"


def _keep(folder: Path, row: Row) -> None:
    text = json.dumps(finite(row), ensure_ascii=False)
    write_text(_file(folder, row), text)
