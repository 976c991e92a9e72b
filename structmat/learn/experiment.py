"""Structures side by side on one task: same budget, same training, several seeds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import structmat
from structmat.errors import BudgetError
from structmat.files.write import finite, whole_file
from structmat.kinds import all_kinds
from structmat.learn._machine import machine_facts
from structmat.learn._measure import (
    inference_seconds,
    layer_costs,
    matrices_of,
    totals,
)
from structmat.learn._midway import read_supports, write_supports
from structmat.learn.devices import device_facts
from structmat.learn.report import write_report
from structmat.learn.report.results import FIXED
from structmat.learn.report.summary import summary_html
from structmat.learn.tasks import ImageTask, TextTask, is_inner
from structmat.learn.train import Settings, train
from structmat.matrix import StructuredMatrix
from structmat.nn import Config, convert_, freeze_, load_model, save_model
from structmat.nn.anneal.sides import TILED_KINDS

__all__ = ["Experiment", "Outcome"]


#: Called with the name of a training, the share of all work done, and the last loss.
Progress = Callable[[str, float, float], None]
#: Called with the epochs done, all epochs, and the last loss.
EpochProgress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Outcome:
    """Results of an experiment, and the files with them.

    Attributes
    ----------
    results : dict
        Every figure, as in ``results.json``.
    files : dict of str to str
        The files written: ``results``, ``report`` and, with a GBLR run, ``model``.

    Examples
    --------
    >>> Outcome({"runs": []}, {}).results["runs"]
    []
    """

    results: dict[str, Any]
    files: dict[str, str]

    def _repr_html_(self) -> str:
        return summary_html(self.results, self.files)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A task, the kinds to compare on it, and the folder of the results.

    Attributes
    ----------
    task : ImageTask or TextTask
    facts : dict
        Facts about the task in ``results.json``: data, model, size and so on.
    kinds : sequence of str
        "dense", a kind that `structmat.nn.Config` takes, or "gblr_fixed" for GBLR layers whose
        blocks stay where a random start puts them.
    budget : float
        Multiplications of the structured layers, as a fraction of their dense ones.
    seeds : sequence of int
    settings : Settings
    tile, group : int, optional
        Sides of the tiles of the kinds that have them, and outputs that share their windows in
        GBLR layers, as `structmat.nn.Config` takes them.
    folder : Path
        Folder of the results, the report, the frozen model, and the states of the trainings.

    Examples
    --------
    >>> import tempfile
    >>> from structmat.learn.data import load_data
    >>> from structmat.learn.tasks import make_task
    >>> task = make_task(load_data("digits"), "mlp", "small", 512)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     outcome = Experiment(
    ...         task=task, facts={"data": "digits"}, kinds=["low_rank"], budget=0.1, seeds=[0],
    ...         settings=Settings(epochs=1, batch=512), folder=Path(folder),
    ...     ).run()
    >>> outcome.results["runs"][0]["relative_cost"] <= 0.1
    True
    """

    task: ImageTask | TextTask
    facts: dict[str, Any]
    kinds: Sequence[str]
    budget: float
    seeds: Sequence[int]
    settings: Settings
    folder: Path
    tile: int | None = None
    group: int | None = None
    resume: bool = False
    command: str = ""

    def run(self, progress: Progress | None = None) -> Outcome:
        """Train, evaluate and write everything."""
        for kind in set(self.kinds) - {"dense"}:
            self._config(kind)  # refuses settings that contradict each other
        if not self.resume:
            self._clear()
        frozen: tuple[nn.Module, int] | None = None
        runs: list[dict[str, Any]] = []
        left_out = self._left_out()
        kinds = [kind for kind in self.kinds if kind not in left_out]
        total = len(kinds) * len(self.seeds)
        for done, (seed, kind) in enumerate((s, k) for s in self.seeds for k in kinds):
            report = _progress_of(progress, f"{kind}, seed {seed}", done, total)
            model, record = self._one(kind, seed, report)
            runs.append(record)
            if kind == "gblr" and frozen is None:
                frozen = model, seed
        return self._written(runs, frozen, left_out)

    def _left_out(self) -> dict[str, str]:
        """Kinds of which no network is as cheap as the budget, and why, unless all are."""
        reasons: dict[str, BudgetError] = {}
        structured = [kind for kind in self.kinds if kind != "dense"]
        for kind in structured:
            try:
                self._network(kind, self.seeds[0])
            except BudgetError as error:
                reasons[kind] = error
        if structured and len(reasons) == len(structured):
            raise next(iter(reasons.values()))
        return {kind: str(error) for kind, error in reasons.items()}

    @property
    def _sides(self) -> dict[str, int]:
        """Sides of tiles and groups that were asked for."""
        given = {"tile": self.tile, "group": self.group}
        return {name: side for name, side in given.items() if side is not None}

    def _clear(self) -> None:
        """Remove the files of an earlier experiment in this folder."""
        for name in ("results.json", "report.html", "model.safetensors"):
            (self.folder / name).unlink(missing_ok=True)
        for kind in (*(kind.name for kind in all_kinds()), FIXED):
            for state in (self.folder / "state").glob(f"{kind}-*.safetensors"):
                state.unlink()

    def _one(
        self, kind: str, seed: int, progress: EpochProgress | None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Train one kind with one seed; the frozen model and its record come back."""
        model, example = self._network(kind, seed), self.task.example()
        trained = train(
            self.task,
            model.to(self.task.device),
            self.settings,
            budget=self.budget if kind == "gblr" else None,
            seed=seed,
            about={
                **self.facts,
                "kind": kind,
                "network_budget": self.budget,
                **self._sides,
            },
            state=self._state(kind, seed),
            resume=self.resume,
            progress=self._watched(model, kind, seed, progress),
        )
        model.cpu()  # where structures are packed and counted
        if kind == "gblr":
            freeze_(model)
        dense = self.task.model()
        layers = layer_costs(model, dense, example)
        for network in (model, dense):
            network.to(self.task.device)
        seconds, beside = inference_seconds(model, dense, list(self.task.test_batches()))
        record = {
            "kind": kind,
            "seed": seed,
            "metric": self.task.score(model),
            "train_metric": self.task.score(model, self.task.train_batches()),
            **totals(layers),
            "train_seconds": trained.seconds,
            "inference_seconds": seconds,
            "relative_inference": seconds / beside,
            "history": trained.history,
            "layers": layers,
        }
        return model, record

    def _network(self, kind: str, seed: int) -> nn.Module:
        """One kind of network before its training."""
        torch.manual_seed(seed)
        model = self.task.model()
        if kind != "dense":
            generator = torch.Generator().manual_seed(seed)
            example = self.task.example()
            convert_(model, self._config(kind), is_inner, example=example, generator=generator)
        return model

    def _config(self, kind: str) -> Config:
        """Conversion of the task's layers; gradients through Gaudi masks need whole tiles."""
        options: dict[str, Any] = {}
        if kind == FIXED:
            return Config(kind="gblr", budget=self.budget, learn=False, group=self.group)
        if kind == "gblr" and self.settings.structure == "gaudi":
            options = {"learn": "gaudi", "options": {"width_init": "grid"}}
            options["oversize"] = self.settings.oversize
        if kind == "gblr":
            options["group"] = self.group
        if kind in TILED_KINDS:
            options["tile"] = self.tile
        return Config(kind=kind, budget=self.budget, **options)

    def _watched(
        self, model: nn.Module, kind: str, seed: int, progress: EpochProgress | None
    ) -> EpochProgress:
        """Progress that also writes the entries in use half-way through the projections."""
        rule = {"begin": 0.1, "end": 0.6, **self.settings.anneal}
        half = max(1, round(self.settings.epochs * (rule["begin"] + rule["end"]) / 2))

        def report(epoch: int, epochs: int, loss: float) -> None:
            if epoch == half and kind == "gblr":
                write_supports(self._midway(kind, seed), model)
            if progress is not None:
                progress(epoch, epochs, loss)

        return report

    def _midway(self, kind: str, seed: int) -> Path:
        """File of the entries in use half-way: among the states, so that a resumed run has it."""
        state = self._state(kind, seed)
        return state.with_name(f"{state.stem}-midway.safetensors")

    def _state(self, kind: str, seed: int) -> Path:
        folder = self.folder / "state"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{kind}-{seed}.safetensors"

    def _written(
        self,
        runs: list[dict[str, Any]],
        frozen: tuple[nn.Module, int] | None,
        left_out: dict[str, str],
    ) -> Outcome:
        results: dict[str, Any] = {
            "format": 1,
            "structmat": structmat.__version__,
            "command": self.command,
            "machine": {**machine_facts(), **device_facts(self.task.device)},
            "task": {
                **self.facts,
                "budget": self.budget,
                "seeds": list(self.seeds),
                "metric": self.task.metric,
                "train_examples": self.task.sizes[0],
                "test_examples": self.task.sizes[1],
                **self._sides,
                **_pixels(self.task),
                **self.settings.facts(),
            },
            "runs": runs,
            **({"left_out": left_out} if left_out else {}),
        }
        files = {"results": "results.json", "report": "report.html"}
        matrices: dict[str, StructuredMatrix] = {}
        midway: dict[str, NDArray[np.bool_]] = {}
        if frozen is not None:
            files["model"] = "model.safetensors"
            results["frozen"] = self._saved(*frozen, self.folder / files["model"])
            matrices = matrices_of(frozen[0])
            midway = read_supports(self._midway("gblr", frozen[1]))
        files = {what: str(self.folder / name) for what, name in files.items()}
        write_report(files["report"], results, matrices, midway)
        with whole_file(files["results"]) as beside:
            beside.write_text(
                json.dumps(finite(results), indent=1, allow_nan=False), encoding="utf-8"
            )
        return Outcome(results, files)

    def _saved(self, model: nn.Module, seed: int, path: Path) -> dict[str, Any]:
        """Write the frozen model, read it into a fresh network, and compare their outputs."""
        save_model(path, model)
        again = load_model(path, self.task.model()).to(self.task.device).eval()
        difference, same = 0.0, True
        with torch.no_grad():
            for x, _ in self.task.test_batches():
                old, new = model(x), again(x)
                difference = max(difference, float((old - new).abs().max()))
                same = same and bool((old.argmax(-1) == new.argmax(-1)).all())
        return {
            "file": path.name,
            "seed": seed,
            "bytes": path.stat().st_size,
            "same_predictions": same,
            "largest_difference": difference,
        }


def _pixels(task: ImageTask | TextTask) -> dict[str, list[int]]:
    """Rows and columns of grey images."""
    channels, *sides = task.example().shape[1:] if isinstance(task, ImageTask) else (0,)
    return {"pixels": sides} if channels == 1 else {}


def _progress_of(
    progress: Progress | None, label: str, done: int, total: int
) -> EpochProgress | None:
    if progress is None:
        return None

    def report(epoch: int, epochs: int, loss: float) -> None:
        progress(label, (done + epoch / epochs) / total, loss)

    return report
