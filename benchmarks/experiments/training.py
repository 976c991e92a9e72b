"""One run of a training experiment: build, train, freeze, score, time."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.experiments.cases import convert, dense_layers, layer_costs, shares_of, totals
from benchmarks.experiments.config import ExperimentFile, Job
from benchmarks.experiments.tasks import read_tasks
from benchmarks.results import BenchmarkError, Row, short
from structmat.errors import FileFormatError
from structmat.learn.tasks import ImageTask, TextTask
from structmat.learn.train import Rules, Settings, Trained, train
from structmat.nn import GaudiWeight, SigmaSchedule, SoftThreshold, freeze_, load_model, save_model
from structmat.nn.training.step_hook import Rule

#: Timings of both networks on the same batch, in turns.
_TIMING_COUNT = 7
Layers = Mapping[str, tuple[int, int]]
#: Called with the epochs done, all epochs, and the last loss.
EpochReport = Callable[[int, int, float], None]


class Trainer:
    """Trainer of the jobs of an experiment, on data that is read once.

    Parameters
    ----------
    experiment : ExperimentFile
    data_dir : Path, optional
    folder : Path
        For the states of trainings and the networks that they end with.
    device : str
        Device that trains, scores and times networks; all else is done on the CPU.
    """

    def __init__(
        self, experiment: ExperimentFile, data_dir: Path | None, folder: Path, device: str = "cpu"
    ) -> None:
        _check_device(device)
        self.experiment, self.folder, self.device = experiment, folder, device
        self.tasks = read_tasks(experiment, data_dir, device)

    def run(self, job: Job, rows: Sequence[Row], report: EpochReport) -> Row:
        """Train one network, or go on with it, and measure it.

        Raises
        ------
        Skip
            If the kind has no matrix at this budget.
        """
        state = self.folder / f"{job.name}.state"
        resumed, begin = state.exists(), _now(self.device)
        try:
            model, layers, trained = self._trained(job, rows, state, report)
        except FileFormatError:
            if not resumed:
                raise
            # The state is of other settings or other code.
            state.unlink()
            resumed, begin = False, _now(self.device)
            model, layers, trained = self._trained(job, rows, state, report)
        # The seconds of an earlier process are unknown.
        seconds = None if resumed else _now(self.device) - begin
        model.cpu()
        if any(isinstance(m, GaudiWeight) for m in model.modules()):
            freeze_(model)
        save_model(self.network_file(job), model)
        state.unlink(missing_ok=True)
        row = self._row(job, model.to(self.device), layers, trained)
        return {**row, "train_seconds": short(seconds), "device": self.device}

    def _trained(
        self, job: Job, rows: Sequence[Row], state: Path, report: EpochReport
    ) -> tuple[nn.Module, Layers, Trained]:
        """Train the network of a job, from the beginning or from its state."""
        settings = self.settings(job)
        model, layers = self._network(job, rows)
        learned = any(isinstance(m, GaudiWeight) for m in model.modules())
        trained = train(
            self.tasks.task,
            model.to(self.device),
            settings,
            budget=job.budget if learned else None,
            rules=_rules(job, settings),
            seed=job.seed,
            about={
                "experiment": self.experiment.name,
                "case": job.case.name,
                "device": self.device,
            },
            state=state,
            resume=True,
            progress=report,
        )
        return model, layers, trained

    def settings(self, job: Job) -> Settings:
        """Settings of the file with those of the case."""
        given = {**self.experiment.raw["settings"], **job.case.settings}
        return Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})

    def network_file(self, job: Job) -> Path:
        """File of the frozen network of a job."""
        return self.folder / f"{job.name}.safetensors"

    def _network(self, job: Job, rows: Sequence[Row]) -> tuple[nn.Module, Layers]:
        torch.manual_seed(job.seed)
        model, example = self.tasks.task.model(), self.tasks.task.example()
        layers = dense_layers(model, example)
        begun = self._dense(job)
        if job.case.convert.get("start") == "weights" and begun is not None:
            model = begun
        convert(model, example, job, shares_of(job, rows, begun, example))
        return model, layers

    def _dense(self, job: Job) -> nn.Module | None:
        """Trained dense network of the same seed, if the case builds on it."""
        if job.case.like != "alds" and job.case.convert.get("start") != "weights":
            return None
        begin = self.experiment.raw.get("begin", self.experiment.name)
        case = next((c for c in self.experiment.cases if c.kind == "dense"), job.case)
        dense = Job(case=replace(case, name="dense", group="kinds"), budget=1.0, seed=job.seed)
        file = self.folder.parent / begin / f"{dense.name}.safetensors"
        if not file.is_file():
            raise BenchmarkError(
                f"{job.case.name!r} begins with the dense network of {begin!r} of seed {job.seed}, "
                f"which is not in the folder of states; run {begin!r} first"
            )
        return load_model(file, self.tasks.task.model())

    def _row(self, job: Job, model: nn.Module, layers: Layers, trained: Trained) -> Row:
        costs = layer_costs(model, layers)
        task = self.tasks.valid if job.case.group == "tuning" else self.tasks.task
        seconds, ratio = _inference(model, self.tasks.task, self.device)
        return {
            **job.head,
            "model": self.experiment.raw["model"],
            "score": short(task.score(model)),
            "scores": {name: short(other.score(model)) for name, other in self._others(job)},
            **totals(costs),
            "inference_seconds": short(seconds),
            "inference_over_dense": short(ratio),
            "settings": dict(job.case.settings),
            "layers": [
                {"name": row["name"], "relative_cost": short(row["relative_cost"])} for row in costs
            ],
            "history": [
                {k: short(v) for k, v in record.items() if k in ("step", "loss", "cost")}
                for record in trained.history
            ],
        }

    def _others(self, job: Job) -> list[tuple[str, ImageTask | TextTask]]:
        """Tasks of further scores; none for tuning, which never looks at the test set."""
        if job.case.group == "tuning":
            return []
        return list(self.tasks.others.items())


def _rules(job: Job, settings: Settings) -> Rules | None:
    """Rules after each step, or None for those of the training itself."""
    if job.case.rule == "budget":
        return None

    def make(model: nn.Module, optimizer: torch.optim.Optimizer, total: int) -> list[Rule]:
        if job.case.rule == "none":
            return []
        start, stop = settings.sigma
        rules: list[Rule] = [SigmaSchedule(model, optimizer, total, start=start, stop=stop)]
        if job.case.rule == "threshold":
            rules.insert(0, SoftThreshold(model, optimizer, **job.case.threshold))
        return rules

    return make


def _check_device(device: str) -> None:
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as reason:
        raise BenchmarkError(
            f"--device {device} does not work here ({str(reason).splitlines()[0]}); expected cpu, "
            "or cuda where torch finds a GPU"
        ) from None


def _now(device: str) -> float:
    """Seconds: of this process alone on the CPU, which others share, else by the wall clock."""
    if torch.device(device).type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


@torch.no_grad()
def _inference(model: nn.Module, task: ImageTask | TextTask, device: str) -> tuple[float, float]:
    """Seconds for a batch of the test set, and their ratio to the dense network's, in turns."""
    dense = task.model().to(device).eval()
    x, _ = next(iter(task.test_batches()))
    times: list[tuple[float, float]] = []
    for _ in range(_TIMING_COUNT + 1):
        pair = []
        for network in (model.eval(), dense):
            begin = _now(device)
            network(x)
            pair.append(_now(device) - begin)
        times.append((pair[0], pair[1]))
    times = times[1:]  # the first one compiles
    return statistics.median(t for t, _ in times), statistics.median(a / b for a, b in times)
