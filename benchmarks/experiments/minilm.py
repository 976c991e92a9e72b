"""The pre-trained model all-MiniLM-L6-v2, compressed, calibrated and distilled.

The score is the mean cosine between the embeddings of held-out sentences and those of
the original model; beside it stands the rank correlation of their pairwise similarities.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.experiments.config import Case, Report
from benchmarks.results import BenchmarkError, Row, Skip, short

try:
    import torch

    from benchmarks.experiments.cases import layer_costs, totals
    from benchmarks.models import minilm
    from benchmarks.models.alds import alds_ranks, convert_to_ranks_
    from benchmarks.models.blast import convert_to_blast_
    from benchmarks.models.distillation import Distillation
    from benchmarks.models.minilm import Embedder, Encode, batches_of, is_inner, sentences
    from structmat.errors import BudgetError
    from structmat.learn.train import Settings, train
    from structmat.nn import Config, convert_, freeze_
    from structmat.nn.models.layer_types import LEARNING
except ImportError as missing:
    raise BenchmarkError(
        f"{missing.name} is not installed; install it with pip install 'structmat[learn,hf]'"
    ) from None

__all__ = ["WAYS", "run"]

WAYS = ("weights", "calibrated", "distilled", "calibrated, distilled")
TRAINING = "classics_train.txt.xz"
#: Held-out text by its name in "scores": from the sort of the training text, and another.
HELD_OUT = {"classics": "classics_test.txt.xz", "wikitext2": "wikitext2_test.txt"}


def run(
    config: dict[str, Any], data_dir: Path | None, done: list[Row], report: Report
) -> Iterator[Row]:
    """Compress the model in every way that the config lists, and yield a row for each.

    Parameters
    ----------
    config : dict
        "cases" (as `benchmarks.experiments.config.Case` has them), "seeds", "settings", and
        "runs": a "way" out of `WAYS` each, with the names of "cases" and with "budgets".
    data_dir : Path
        The folder with the text files, or the one above it.
    done : list of dict
        Rows of an earlier run, which are not made again.
    report : callable
        ``report(what, done, total)`` before each row that is made, and while it trains.

    Yields
    ------
    dict
        A row as result files hold it; its "matrix" is the way. That of the dense model says
        in "one point" how near one embedding for all sentences comes to the original's.

    Raises
    ------
    BenchmarkError
        If the model or a text is missing, or the config names an unknown way or case.
    """
    if data_dir is None:
        raise BenchmarkError("--data-dir is missing; expected the folder with the text files")
    heads = _heads(config)
    finished = {_key(row) for row in done}
    cases = {entry["name"]: Case(**entry) for entry in config["cases"]}
    lab: _Lab | None = None
    for i, head in enumerate(heads):
        if _key(head) in finished:
            continue
        text = f"{head['case']} at {head['budget']:g}, {head['matrix']}"
        report(text, i + 1, len(heads))
        if lab is None or lab.seed != head["seed"]:
            lab = _Lab(config["settings"], data_dir, head["seed"])
        if head["kind"] == "dense":
            yield head | lab.dense()
            continue

        def progress(epoch: int, epochs: int, loss: float, text: str = text, i: int = i) -> None:
            report(f"{text}: {epoch}/{epochs}, loss {loss:.3f}", i + 1, len(heads))

        try:
            yield head | lab.row(cases[head["case"]], head["matrix"], head["budget"], progress)
        except (BudgetError, Skip) as reason:
            yield head | {"skipped": str(reason)}


def _heads(config: Mapping[str, Any]) -> list[Row]:
    """Heads of all rows, which identify them, in the order of the runs."""
    kinds = {entry["name"]: entry["kind"] for entry in config["cases"]}
    found = []
    for seed in config["seeds"]:
        found.append(("dense", "dense", WAYS[0], 1.0, seed))
        for plan in config["runs"]:
            way = plan["way"]
            if way not in WAYS:
                raise BenchmarkError(f"way {way!r} in the config; expected among {WAYS}")
            if unknown := [name for name in plan["cases"] if name not in kinds]:
                raise BenchmarkError(
                    f"case {unknown[0]!r} of way {way!r}; expected among {', '.join(kinds)}"
                )
            pairs = product(plan["budgets"], plan["cases"])
            found += [(name, kinds[name], way, budget, seed) for budget, name in pairs]
    keys = ("case", "kind", "matrix", "budget", "seed")
    return [dict(zip(keys, values, strict=True)) | {"group": "kinds"} for values in found]


def _key(row: Row) -> tuple[Any, ...]:
    return row["case"], row["matrix"], row["budget"], row["seed"]


class _Lab:
    """The original model, the sentences of a seed, and the models made from them."""

    def __init__(self, settings: Mapping[str, Any], data_dir: Path, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.original, encode = minilm.pretrained()
        folder = data_dir / "text" if (data_dir / "text").is_dir() else data_dir
        batches = self._training_batches(folder, encode)
        self.calibration = batches[: settings["calibration"]]
        self.task = Distillation(
            self.original, batches[: settings["steps"]], self._held_out(folder, encode)
        )
        modules = self.original.named_modules()
        self.layers = {n: (m.weight.numel(), 1) for n, m in modules if is_inner(n, m)}

    def _training_batches(self, folder: Path, encode: Encode) -> list[torch.Tensor]:
        needed, size = max(self.settings["steps"], self.settings["calibration"]), self._size
        # Twice as many as needed, because sentences left over of a length make no batch.
        text = sentences(folder / TRAINING, 2 * needed * size, self.settings["characters"])
        batches = batches_of(encode(text), size, self.seed)
        if len(batches) < needed:
            raise BenchmarkError(
                f"{TRAINING} gives {len(batches)} batches of {size} sentences; expected {needed} "
                "(read more characters, or take fewer steps)"
            )
        return batches

    def _held_out(self, folder: Path, encode: Encode) -> dict[str, list[torch.Tensor]]:
        count, limit = self.settings["held_out"], self.settings["characters"]
        return {
            name: batches_of(encode(sentences(folder / file, count, limit)), self._size)
            for name, file in HELD_OUT.items()
        }

    @property
    def _size(self) -> int:
        return self.settings["batch"]

    def dense(self) -> Row:
        """Row of the original model against itself."""
        row = self.task.measure(self.original)
        row["scores"]["one point"] = short(self.task.one_point())
        return row | {"relative_cost": 1.0, "relative_storage": 1.0, "train_seconds": 0.0}

    def row(
        self, case: Case, way: str, budget: float, progress: Callable[[int, int, float], None]
    ) -> Row:
        """Make one model and measure it; times are CPU seconds."""
        begin = time.process_time()
        model = copy.deepcopy(self.original)
        self._convert(model, case, way, budget)
        converted = time.process_time()
        if way.endswith("distilled"):
            self._distil(model, budget, progress)
        seconds = time.process_time() - begin
        layers = layer_costs(model, self.layers)
        return {
            **self.task.measure(model),
            **{key: short(value) for key, value in totals(layers).items()},
            "convert_seconds": short(converted - begin),
            "train_seconds": short(seconds),
            "settings": dict(case.convert),
            "layers": [
                {"name": layer["name"], "relative_cost": short(layer["relative_cost"])}
                for layer in layers
            ],
        }

    def _convert(self, model: Embedder, case: Case, way: str, budget: float) -> None:
        """Approximate the layers of the encoder, in place."""
        generator = torch.Generator().manual_seed(self.seed)
        options: dict[str, Any] = {"start": "weights", **case.convert}
        if case.kind in ("blast", "ranks"):
            if way.startswith("calibrated"):
                raise Skip(f"{case.name} is fitted to weights, not to the inputs of layers")
            if case.kind == "blast":
                convert_to_blast_(model, budget, is_inner, generator=generator, **options)
                return
            weights = {name: model.get_submodule(name).weight.detach() for name in self.layers}
            # Every layer multiplies all tokens of a sentence, so all layers count alike.
            ranks = alds_ranks(weights, dict.fromkeys(weights, 1), budget)
            convert_to_ranks_(model, ranks, **options)
            return
        if way == "distilled":
            options.setdefault("learn", case.kind == "gblr")
        else:
            options["learn"] = False  # no training follows that could bring the cost down
        calibration = self.calibration if way.startswith("calibrated") else None
        convert_(
            model,
            Config(kind=case.kind, budget=budget, **options),
            is_inner,
            example=self.task.example(),
            calibration=calibration,
            generator=generator,
        )

    def _distil(
        self, model: Embedder, budget: float, progress: Callable[[int, int, float], None]
    ) -> None:
        """Learn from the original; a learned structure comes under the budget on the way."""
        chosen = {key: self.settings[key] for key in ("lr", "warmup")}
        settings = Settings(epochs=self.task.epochs, **chosen)
        learned = any(isinstance(module, LEARNING) for module in model.modules())
        model.train()
        train(
            self.task,
            model,
            settings,
            budget=budget if learned else None,
            seed=self.seed,
            progress=progress,
        )
        if learned:
            freeze_(model)
