"""Data and network of an experiment, as tasks of `structmat.learn`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.experiments.config import ExperimentFile
from benchmarks.experiments.passages import authors
from benchmarks.results import BenchmarkError
from structmat.errors import StructmatError
from structmat.learn.data import Images, load_data
from structmat.learn.tasks import ImageTask, TextTask

#: Examples of the training set that are scored, at most.
TRAIN_SCORED = 4000
#: Shares of red, green and blue in brightness (ITU-R BT.601).
BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class TaskSet:
    """Task to train, the same scored on other examples, and tasks of further scores.

    `valid` scores the held-out examples, `train` the first of those that are learned from.
    """

    task: ImageTask | TextTask
    valid: ImageTask | TextTask
    train: ImageTask | TextTask
    others: Mapping[str, ImageTask | TextTask]


def read_tasks(experiment: ExperimentFile, data_dir: Path | None, device: str = "cpu") -> TaskSet:
    """Read the data and cut the examples for validation off the training set."""
    raw = experiment.raw
    try:
        if raw["data"] == "text":
            return _text(raw, _folder(data_dir), device)
        if raw["data"] == "authors":
            return _images(raw, authors(_folder(data_dir)), device)
        data = load_data(raw["data"], data_dir)
        return _images(raw, grey(data, raw["grey"]) if "grey" in raw else data, device)
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
    learned = {"test_x": cut.train_x[:TRAIN_SCORED], "test_y": cut.train_y[:TRAIN_SCORED]}
    return TaskSet(task(cut), task(replace(cut, **held_out)), task(replace(cut, **learned)), {})


def grey(data: Images, side: int) -> Images:
    """The middle side x side pixels of colour images, as their brightness.

    Raises
    ------
    BenchmarkError
        If the images have other than three channels, or are smaller.
    """
    *_, channels, height, width = data.train_x.shape
    if channels != len(BRIGHTNESS) or not 1 <= side <= min(height, width):
        raise BenchmarkError(
            f"grey = {side} for {data.name}, {channels}x{height}x{width}; expected colour images "
            "of at least as many pixels a side (leave grey out)"
        )
    down, across = (height - side) // 2, (width - side) // 2

    def part(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
        middle = x[:, :, down : down + side, across : across + side]
        return np.rint(np.einsum("nchw,c->nhw", middle, BRIGHTNESS))[:, None].astype(np.uint8)

    x, test = part(data.train_x), part(data.test_x)
    mean, std = np.array([x.mean()], np.float32), np.array([x.std() or 1], np.float32)
    return replace(data, train_x=x, test_x=test, mean=mean, std=std)


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
    # As many as are scored, and one more to predict.
    learned = task(replace(data, test=data.train[: raw["scored"] + 1]))
    return TaskSet(task(data), task(replace(data, test=data.valid)), learned, others)


def _folder(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise BenchmarkError("--data-dir is missing; expected the folder with the text files")
    return data_dir / "text" if (data_dir / "text").is_dir() else data_dir
