"""Data and network of an experiment, as tasks of `structmat.learn`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.config import ExperimentFile
from benchmarks.results import BenchmarkError
from structmat.errors import StructmatError
from structmat.learn.data import Images, load_data
from structmat.learn.tasks import ImageTask, TextTask


@dataclass(frozen=True)
class TaskSet:
    """Task to train, the same with held-out examples, and tasks of further scores."""

    task: ImageTask | TextTask
    valid: ImageTask | TextTask
    others: Mapping[str, ImageTask | TextTask]


def read_tasks(experiment: ExperimentFile, data_dir: Path | None, device: str = "cpu") -> TaskSet:
    """Read the data and cut the examples for validation off the training set."""
    raw = experiment.raw
    try:
        if raw["data"] == "text":
            return _text(raw, _folder(data_dir), device)
        return _images(raw, load_data(raw["data"], data_dir), device)
    except KeyError as missing:
        raise BenchmarkError(f"{experiment.name}.toml has no {missing}; add it") from None
    except StructmatError as reason:
        raise BenchmarkError(str(reason)) from None


def _images(raw: Mapping[str, Any], data: Any, device: str) -> TaskSet:
    """The last images of the training set are held out; `examples` of the others are used."""
    held, used = raw["held_out"], raw["examples"]
    count = len(data.train_y) - held
    if not 0 < used <= count:
        raise BenchmarkError(
            f"examples = {used} with {held} held out of {len(data.train_y)}; expected at most "
            f"{count}"
        )
    train = {"train_x": data.train_x[:used], "train_y": data.train_y[:used]}
    held_out = {"test_x": data.train_x[count:], "test_y": data.train_y[count:]}

    def task(images: Images) -> ImageTask:
        return ImageTask(
            images,
            raw["model"],
            raw["size"],
            batch=raw["settings"]["batch"],
            augment=raw.get("augment", False),
            device=device,
        )

    cut = replace(data, **train)
    return TaskSet(task(cut), task(replace(cut, **held_out)), {})


def _text(raw: Mapping[str, Any], folder: Path, device: str) -> TaskSet:
    data = load_data("text", folder / "classics", limit=raw["examples"])

    def task(text: Any) -> TextTask:
        return TextTask(
            text,
            raw["model"],
            raw["size"],
            batch=raw["settings"]["batch"],
            context=raw["context"],
            steps=raw["steps"],
            scored=raw["scored"],
            device=device,
        )

    others = {}
    wikitext = folder / "wikitext2_test.txt"
    if wikitext.is_file():
        content = np.frombuffer(bytearray(wikitext.read_bytes()), np.uint8)
        others["wikitext2"] = task(replace(data, test=content))
    return TaskSet(task(data), task(replace(data, test=data.valid)), others)


def _folder(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise BenchmarkError("--data-dir is missing; expected the folder with the text files")
    return data_dir / "text" if (data_dir / "text").is_dir() else data_dir
