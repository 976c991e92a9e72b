"""One run of a training experiment: build, train, freeze, score, time."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from benchmarks.experiments.cases import convert, dense_layers, layer_costs, shares_of, totals
from benchmarks.experiments.clock import inference, now
from benchmarks.experiments.config import ExperimentFile, Job
from benchmarks.experiments.narrow import narrow
from benchmarks.experiments.supports import Weights, dense_weights, redraw_, turnover
from benchmarks.experiments.tasks import read_tasks
from benchmarks.models.pruned import Pruning
from benchmarks.results import BenchmarkError, Row, Skip, short
from structmat.errors import BudgetError, FileFormatError, InputError
from structmat.learn.devices import training_device
from structmat.learn.train import Rules, Settings, Trained, train
from structmat.nn import (
    SigmaSchedule,
    SoftThreshold,
    freeze_,
    load_model,
    parameter_groups,
    save_model,
)
from structmat.nn.models.layer_types import LEARNING
from structmat.nn.training.step_hook import Rule

#: Training batches that trained weights are fitted to, where a case is calibrated.
_CALIBRATION_COUNT = 16
#: Further score of a case that begins with trained weights: before it is trained.
AS_CUT = "before further training"
Layers = Mapping[str, tuple[int, int]]
#: Called with the epochs done, all epochs, and the last loss.
EpochReport = Callable[[int, int, float], None]


@dataclass(frozen=True)
class _Run:
    """A trained network, with its layers' weights at the start and costs after each epoch."""

    model: nn.Module
    layers: Layers
    trained: Trained
    before: Weights
    costs: Sequence[float]
    #: Score before the training, of a network that begins with trained weights.
    begun: float | None


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
        try:
            self.device = training_device(device)
        except InputError as reason:
            raise BenchmarkError(str(reason)) from None
        self.experiment, self.folder = experiment, folder
        self.tasks = read_tasks(experiment, data_dir, self.device)

    def run(self, job: Job, rows: Sequence[Row], report: EpochReport) -> Row:
        """Train one network, or go on with it, and measure it.

        Raises
        ------
        Skip
            If the kind has no matrix at this budget.
        """
        state = self.folder / f"{job.name}.state"
        resumed, begin = state.exists(), now(self.device)
        try:
            run = self._trained(job, rows, state, report)
        except FileFormatError:
            if not resumed:
                raise
            # The state is of other settings or other code.
            state.unlink()
            resumed, begin = False, now(self.device)
            run = self._trained(job, rows, state, report)
        # The seconds and costs of an earlier process are unknown.
        seconds = None if resumed else now(self.device) - begin
        cost = None if resumed else statistics.fmean(run.costs)
        run.model.cpu()
        if any(isinstance(m, LEARNING) for m in run.model.modules()):
            freeze_(run.model)
        save_model(self.network_file(job), run.model)
        state.unlink(missing_ok=True)
        row = self._row(job, run)
        spent = {"train_seconds": short(seconds), "training_cost": short(cost)}
        return {**row, **spent, "device": self.device}

    def _trained(self, job: Job, rows: Sequence[Row], state: Path, report: EpochReport) -> _Run:
        """Train the network of a job, from the beginning or from its state."""
        settings = self.settings(job)
        model, layers = self._network(job, rows)
        before, begun = dense_weights(model, layers), self._begun(job, model)
        costs = [_relative_cost(model, layers)]

        def progress(epoch: int, epochs: int, loss: float) -> None:
            costs.append(_relative_cost(model, layers))
            report(epoch, epochs, loss)

        learned = any(isinstance(m, LEARNING) for m in model.modules())
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
            progress=progress,
        )
        return _Run(model, layers, trained, before, costs, begun)

    def _begun(self, job: Job, model: nn.Module) -> float | None:
        """Score of a network that begins with trained weights; None if it is still to be cut."""
        learns = any(isinstance(m, LEARNING) for m in model.modules())
        if job.case.convert.get("start") != "weights" or learns:
            return None
        model.to(self.device)
        return self.tasks.task.score(model.eval())

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
        if job.case.structure:
            return self._redrawn(job, model), layers
        if job.case.kind == "narrow":
            raw = self.experiment.raw
            try:
                return narrow(raw, model, layers, example, job.budget), layers
            except BudgetError as reason:
                raise Skip(str(reason)) from None
        begun = self._dense(job)
        if job.case.convert.get("start") == "weights" and begun is not None:
            model = begun
        calibration = None
        if job.case.calibrated:
            batches = islice(self.tasks.task.batches(job.seed, 0), _CALIBRATION_COUNT)
            calibration = [x.cpu() for x, _ in batches]
        convert(model, example, job, shares_of(job, rows, begun, example), calibration)
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

    def _redrawn(self, job: Job, dense: nn.Module) -> nn.Module:
        """Network that another case ended with, its contents drawn afresh."""
        name = job.case.structure
        case = next((c for c in self.experiment.cases if c.name == name), None)
        file = self.network_file(replace(job, case=case)) if case else None
        if file is None or not file.is_file():
            raise BenchmarkError(
                f"{job.case.name!r} takes the structure of {name!r} for budget {job.budget:g} and "
                f"seed {job.seed}, which is not in the folder of states; run it first"
            )
        model = load_model(file, dense).train()
        redraw_(model, torch.Generator().manual_seed(job.seed))
        return model

    def _row(self, job: Job, run: _Run) -> Row:
        costs = layer_costs(run.model, run.layers)
        new = turnover(run.before, dense_weights(run.model, run.layers))
        model = run.model.to(self.device)
        seconds, ratio = inference(model, self.tasks.task, self.device)
        return {
            **job.head,
            "model": self.experiment.raw["model"],
            **self._scores(job, model, run.begun),
            **totals(costs),
            "turnover": short(new),
            "inference_seconds": short(seconds),
            "inference_over_dense": short(ratio),
            "settings": dict(job.case.settings),
            **_rates(model, self.settings(job)),
            "layers": [
                {"name": row["name"], "relative_cost": short(row["relative_cost"])} for row in costs
            ],
            "history": [
                {k: short(v) for k, v in record.items() if k in ("step", "loss", "cost")}
                for record in run.trained.history
            ],
        }

    def _scores(self, job: Job, model: nn.Module, begun: float | None) -> Row:
        """Scores of a network; tuning never looks at the test set."""
        tasks, tuning = self.tasks, job.case.group == "tuning"
        valid = tasks.valid.score(model) if tasks.valid.sizes[1] else None
        scores = {} if tuning else {n: t.score(model) for n, t in tasks.others.items()}
        if begun is not None and not tuning:
            scores[AS_CUT] = begun
        return {
            "score": short(valid if tuning else tasks.task.score(model)),
            "scores": {name: short(score) for name, score in scores.items()},
            "train_score": short(tasks.train.score(model)),
            "valid_score": short(valid),
        }


def _rates(model: nn.Module, settings: Settings) -> Row:
    """Learning rates that the rule gives the contents of a network, by rising rate."""
    if settings.contents_lr != "rule":
        return {}
    groups = parameter_groups(model, lr=settings.lr, structure_lr=0.0, contents_lr="rule")
    return {"rates": [short(group["lr"]) for group in groups[1:]]}


def _rules(job: Job, settings: Settings) -> Rules | None:
    """Rules after each step, or None for those of the training itself."""
    if job.case.kind == "entries" and job.case.rule != "none":
        return lambda model, optimizer, total: [Pruning(model, optimizer, job.budget, total)]
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


def _relative_cost(model: nn.Module, layers: Layers) -> float:
    return totals(layer_costs(model, layers))["relative_cost"]
