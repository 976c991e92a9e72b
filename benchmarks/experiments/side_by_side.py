"""Runs of an experiment in several processes at once, which share its device.

A small network leaves most of a GPU idle. Runs that build on others wait for these.
"""

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.experiments.config import Case, ExperimentFile, Job, Report
from benchmarks.results import Row, Skip


@dataclass(frozen=True, kw_only=True)
class Work:
    """Experiment, folders of data and states, device and threads of the trainers."""

    experiment: ExperimentFile
    data: Path | None
    folder: Path
    device: str
    threads: int


def rows_at_once(
    work: Work, jobs: Sequence[Job], count: int, rows: Any, report: Report
) -> Iterator[Row]:
    """Rows as the runs end, `count` of them at a time.

    `rows` tells the rows so far, in which a run finds those that it builds on.
    """
    ended = 0
    with pool(count, work) as executor:
        for wave in waves(jobs):
            running = {executor.submit(one, job, rows()): job for job in wave}
            for done in as_completed(running):
                if done.exception() is not None:
                    executor.shutdown(cancel_futures=True)
                job, ended = running[done], ended + 1
                text = f"{job.case.name}, budget {job.budget:g}, seed {job.seed}: done"
                report(text, ended, len(jobs))
                yield done.result()


def pool(count: int, work: Work) -> Executor:
    """Processes for runs, begun from nothing, as a driver does not survive a fork."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, context, initializer=begin, initargs=(work,))


def waves(jobs: Sequence[Job]) -> list[list[Job]]:
    """Runs in groups, each after those that it builds on."""
    cases = {job.case.name: job.case for job in jobs}
    found: dict[int, list[Job]] = {}
    for job in jobs:
        found.setdefault(_level(job.case, cases), []).append(job)
    return [found[level] for level in sorted(found)]


def _level(case: Case, cases: Mapping[str, Case]) -> int:
    """Number of cases that have to end one after another before one begins."""
    on_dense = case.like == "alds" or case.convert.get("start") == "weights"
    names = [case.structure, case.like, *(["dense"] if on_dense and case.kind != "dense" else [])]
    below = [_level(cases[name], cases) for name in names if name in cases]
    return 1 + max(below, default=0)


#: The work of this process, and its trainer from the first run on.
_own: dict[str, Any] = {}


def begin(work: Work) -> None:
    """Tell a process what its runs are about."""
    _own.clear()
    _own["work"] = work


def one(job: Job, rows: Sequence[Row]) -> Row:
    """Train one network by the trainer of this process."""
    if "trainer" not in _own:  # torch and the data take a while to load
        import torch

        from benchmarks.experiments.training import Trainer

        work: Work = _own["work"]
        torch.set_num_threads(work.threads)
        _own["trainer"] = Trainer(work.experiment, work.data, work.folder, work.device)
    try:
        row: Row = _own["trainer"].run(job, rows, lambda *_: None)
    except Skip as reason:
        return {**job.head, "skipped": str(reason)}
    return row
