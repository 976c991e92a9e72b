"""Small networks on which advice is judged: their data and settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.experiments.passages import authors
from benchmarks.experiments.tasks import grey
from benchmarks.results import BenchmarkError
from structmat.learn.data import Images, load_data
from structmat.learn.tasks import ImageTask
from structmat.learn.train import Settings

#: Examples to train on and to test, at most.
TRAIN_COUNT, TEST_COUNT = 6000, 2000
#: Useless inputs for each useful one.
USELESS = 3
#: Inputs and hidden units of the planted teacher, the inputs of each unit, and its classes.
PLANTED_SIDE, PLANTED_RUN, CLASSES = 128, 6, 10
#: Side of the grey pictures.
GREY_SIDE = 28


@dataclass(frozen=True)
class Network:
    """One network with its data and training."""

    data: Callable[[Path | None], Images]
    epochs: int
    batch: int
    model: str = "mlp"
    size: Mapping[str, Any] = field(default_factory=lambda: {"width": 256})

    def task(self, data_dir: Path | None) -> ImageTask:
        """Its task, on the first of its examples."""
        data = self.data(data_dir)
        cut = replace(
            data,
            train_x=data.train_x[:TRAIN_COUNT],
            train_y=data.train_y[:TRAIN_COUNT],
            test_x=data.test_x[:TEST_COUNT],
            test_y=data.test_y[:TEST_COUNT],
        )
        return ImageTask(cut, self.model, self.size, batch=self.batch, augment=False)  # type: ignore[arg-type]

    @property
    def settings(self) -> Settings:
        """Settings of its training."""
        return Settings(
            epochs=self.epochs,
            batch=self.batch,
            lr=1e-3,
            contents_lr="rule",
            weight_decay=0.01,
            warmup=0.05,
        )


def digits(_data_dir: Path | None) -> Images:
    """Handwritten digits of 8x8 pixels."""
    found: Images = load_data("digits", None)
    return found


def pictures(data_dir: Path | None) -> Images:
    """The middle of pictures in grey."""
    return grey(load_data("cifar10", _folder(data_dir)), GREY_SIDE)


def letters(data_dir: Path | None) -> Images:
    """Letter pairs of passages."""
    return authors(_folder(data_dir) / "text")


def useless(data_dir: Path | None) -> Images:
    """Digits among useless inputs, all in random order."""
    data, generator = digits(data_dir), np.random.default_rng(5)
    count = data.train_x[0].size
    order = generator.permutation((1 + USELESS) * count)

    def more(x: NDArray) -> NDArray:
        noise = generator.integers(0, 17, (len(x), USELESS * count)).astype(np.uint8)
        return np.concatenate([x, noise], 1)[:, order]

    return _flat(data, more)


def shuffled(data_dir: Path | None) -> Images:
    """Digits whose pixels are in a random order."""
    data = digits(data_dir)
    order = np.random.default_rng(6).permutation(data.train_x[0].size)
    return _flat(data, lambda x: x[:, order])


def planted(_data_dir: Path | None) -> Images:
    """White inputs, and the classes of a teacher whose units see a few neighbours each."""
    generator, n = np.random.default_rng(7), PLANTED_SIDE
    W = np.zeros((n, n))
    for i in range(n):
        start = generator.integers(0, n - PLANTED_RUN)
        W[i, start : start + PLANTED_RUN] = generator.normal(size=PLANTED_RUN)
    V = generator.normal(size=(CLASSES, n))

    def draw(count: int) -> tuple[NDArray, NDArray]:
        x = generator.integers(0, 256, (count, n)).astype(np.uint8)
        return x[:, :, None, None], np.maximum((x - 127.5) / 74 @ W.T, 0) @ V.T

    (train, outputs), one = draw(TRAIN_COUNT), np.ones(n, np.float32)
    middle = outputs.mean(0)
    test, others = draw(TEST_COUNT)
    return Images(
        name="planted",
        train_x=train,
        train_y=(outputs - middle).argmax(1).astype(np.int64),
        test_x=test,
        test_y=(others - middle).argmax(1).astype(np.int64),
        classes=tuple(map(str, range(CLASSES))),
        mean=127.5 * one,
        std=74 * one,
        note="",
    )


#: Networks by name.
NETWORKS = {
    "digits": Network(digits, 40, 64),
    "grey pictures": Network(pictures, 8, 128),
    "letter pairs": Network(letters, 8, 128),
    "digits, useless inputs": Network(useless, 40, 64),
    "digits, shuffled": Network(shuffled, 40, 64),
    "planted teacher": Network(planted, 15, 128, size={"width": PLANTED_SIDE}),
    "digits, ViT": Network(digits, 20, 64, "vit", {"dim": 64, "depth": 2, "heads": 4, "patch": 2}),
}


def _flat(data: Images, change: Callable[[NDArray], NDArray]) -> Images:
    """Images as channels of one pixel each, all of one mean and size."""
    train, test = (
        change(x.reshape(len(x), -1))[:, :, None, None] for x in (data.train_x, data.test_x)
    )
    count = train.shape[1]
    mean, std = (np.full(count, f(train), np.float32) for f in (np.mean, np.std))
    return replace(data, train_x=train, test_x=test, mean=mean, std=std)


def _folder(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise BenchmarkError("--data-dir is missing; expected the folder with pictures and texts")
    return data_dir
