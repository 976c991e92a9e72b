"""Tasks to learn: batches, loss and score of a data set with a model.

Every random choice of an epoch comes from a generator seeded by the run's seed and the
epoch's number, so that an interrupted run goes on exactly from its last epoch.
"""

import math
import operator
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from structmat.errors import InputError
from structmat.learn._standardised import Standardised
from structmat.learn.data import Dataset, Images, Text
from structmat.learn.devices import Examples
from structmat.learn.models import build_model

__all__ = ["ImageTask", "Task", "TextTask", "is_inner", "make_task"]

Batch = tuple[Tensor, Tensor]
#: Samples of a layer's smaller side, at least: narrower layers cost little and stay dense.
_LEAST_SIDE = 16
#: Images of a batch of the test set.
_EVALUATION_BATCH = 512


class Task(Protocol):
    """Contract of a task, for `structmat.learn.train`."""

    metric: str
    device: str
    steps_per_epoch: int

    def model(self) -> nn.Module:
        """The dense network, freshly drawn from torch's generator."""

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss of a batch, to minimise."""

    def test_batches(self) -> Iterator[Batch]:
        """The test set, in order."""

    def train_batches(self) -> Iterator[Batch]:
        """As many training examples as the test set has, as they are, in order."""

    def score(self, model: nn.Module, batches: Iterable[Batch] | None = None) -> float:
        """The metric on batches, those of the test set by default."""

    def example(self) -> Tensor:
        """One example, to count multiplications by."""


class ImageTask:
    """Classification of images; the metric is the accuracy on the test images.

    Parameters
    ----------
    data : Images
    name, size : str
        As `build_model` takes them.
    batch : int
        Images a step.
    augment : bool
        Shift by up to an eighth of a side and flip at random, for natural images.
    device : str
        Device of the batches; it keeps all images where they are few. The network and the
        example begin on the CPU.

    Examples
    --------
    >>> from structmat.learn.data import load_data
    >>> task = ImageTask(load_data("digits"), "mlp", "small", batch=128, augment=False)
    >>> task.steps_per_epoch, task.example().shape
    (10, torch.Size([1, 1, 8, 8]))
    """

    metric = "accuracy"

    def __init__(
        self,
        data: Images,
        name: str,
        size: str,
        *,
        batch: int,
        augment: bool,
        device: str = "cpu",
    ) -> None:
        self._data, self._name, self._size, self._augment = data, name, size, augment
        self._batch, self.device = batch, device
        self.steps_per_epoch = math.ceil(len(data.train_y) / batch)
        self._train, self._test = (Standardised(data, part, device) for part in ("train", "test"))

    def model(self) -> nn.Module:
        """The dense network."""
        shape = self._data.train_x.shape[1:]
        classes = len(self._data.classes)
        return build_model(self._name, size=self._size, image=shape, classes=classes)

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        """The training images in the order of this epoch."""
        generator = _generator(seed, epoch)
        order = torch.randperm(len(self._train), generator=generator)
        sizes = [len(chosen) for chosen in order.split(self._batch)]
        # Drawn for all batches, as a device gets them at once.
        moves = self._train.moves(sizes, generator) if self._augment else None
        for i, chosen in enumerate(self._train.near(order).split(self._batch)):
            x, y = self._train[chosen]
            yield (x if moves is None else moves[i](x)), y

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(model(batch[0]), batch[1])

    def test_batches(self) -> Iterator[Batch]:
        """The test images."""
        return _in_order(self._test, len(self._test))

    def train_batches(self) -> Iterator[Batch]:
        """The first training images, as many as the test has."""
        return _in_order(self._train, min(len(self._test), len(self._train)))

    @torch.no_grad()
    def score(self, model: nn.Module, batches: Iterable[Batch] | None = None) -> float:
        """Share of the images that are classified correctly, of the test set by default."""
        right, count = [], 0
        for x, y in self.test_batches() if batches is None else batches:
            right.append((model(x).argmax(1) == y).sum())
            count += len(y)
        return int(torch.stack(right).sum()) / count

    def example(self) -> Tensor:
        """The first training image."""
        return torch.from_numpy(self._data.standardise(self._data.train_x[:1]))

    @property
    def sizes(self) -> tuple[int, int]:
        """Training and test images."""
        return len(self._data.train_y), len(self._data.test_y)


class TextTask:
    """Prediction of the next byte; the metric is the perplexity per byte of the test text.

    Parameters
    ----------
    data : Text
    name, size : str
        As `build_model` takes them.
    batch : int
        Sequences a step.
    context : int
        Bytes of a sequence.
    steps : int
        Steps that count as an epoch.
    scored : int
        Bytes of the test text that are scored, from its beginning.
    device : str
        Device of the batches; it keeps texts of up to a gigabyte. The network and the example
        begin on the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> from structmat.learn.data import Text
    >>> part = np.tile(np.arange(97, 123, dtype=np.uint8), 40)
    >>> task = TextTask(Text("abc", part, part, part, ""), "gpt", "small", batch=4)
    >>> task.example().shape
    torch.Size([1, 128])
    """

    metric = "perplexity"

    def __init__(
        self,
        data: Text,
        name: str,
        size: str,
        *,
        batch: int,
        context: int = 128,
        steps: int = 250,
        scored: int = 2**18,
        device: str = "cpu",
    ) -> None:
        if min(len(data.train), len(data.test)) <= context:
            raise InputError(
                f"{len(data.train)} bytes to train on and {len(data.test)} to test; expected more "
                f"than {context}, the context, of both (give more text)"
            )
        self._data, self._name, self._size = data, name, size
        self._batch, self._context, self._scored = batch, context, scored
        self.steps_per_epoch, self.device = steps, device
        self._train = Examples(device, data.train)

    def model(self) -> nn.Module:
        """The dense network."""
        return build_model(self._name, size=self._size, context=self._context)

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Sequences from random positions of the training text."""
        generator, text = _generator(seed, epoch), self._train
        most, size = len(self._data.train) - self._context, (self._batch, 1)
        drawn = [
            torch.randint(most, size, generator=generator) for _ in range(self.steps_per_epoch)
        ]
        ahead = text.near(torch.arange(self._context + 1))
        for first in text.near(torch.stack(drawn)):
            window = text[first + ahead][0].long()
            yield window[:, :-1], window[:, 1:]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy in nats a byte."""
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    def test_batches(self) -> Iterator[Batch]:
        """Sequences side by side."""
        return self._side_by_side(self._data.test)

    def train_batches(self) -> Iterator[Batch]:
        """Sequences side by side, as much of the training text as of the test text."""
        return self._side_by_side(self._data.train[: len(self._data.test)])

    def _side_by_side(self, whole: NDArray[np.uint8]) -> Iterator[Batch]:
        length = self._context
        text = torch.from_numpy(whole[: self._scored]).to(self.device).long()
        count = (len(text) - 1) // length
        x = text[: count * length].view(count, length)
        y = text[1 : count * length + 1].view(count, length)
        yield from zip(x.split(64), y.split(64), strict=True)

    @torch.no_grad()
    def score(self, model: nn.Module, batches: Iterable[Batch] | None = None) -> float:
        """Perplexity per byte, on the test text by default."""
        losses, counts = [], []
        for x, y in self.test_batches() if batches is None else batches:
            losses.append(self.loss(model, (x, y)))
            counts.append(y.numel())
        total = sum(map(operator.mul, torch.stack(losses).tolist(), counts))
        return math.exp(total / sum(counts))

    def example(self) -> Tensor:
        """The first sequence."""
        return torch.from_numpy(self._data.train[: self._context]).long()[None]

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes to train on and to test."""
        return len(self._data.train), min(len(self._data.test), self._scored)


def make_task(
    data: Dataset, name: str, size: str, batch: int, *, device: str = "cpu"
) -> ImageTask | TextTask:
    """Task of a data set and a model, with its batches on a device.

    Examples
    --------
    >>> from structmat.learn.data import load_data
    >>> make_task(load_data("digits"), "mlp", "small", 64).metric
    'accuracy'
    """
    if isinstance(data, Text):
        if name != "gpt":
            raise InputError(f"model = {name!r} for text; expected 'gpt'")
        context = 128 if size == "small" else 256
        return TextTask(data, name, size, batch=batch, context=context, device=device)
    if name == "gpt":
        raise InputError("model = 'gpt' for images; expected another one (or --data text)")
    natural = data.name.startswith("cifar")
    return ImageTask(data, name, size, batch=batch, augment=natural, device=device)


def is_inner(name: str, module: nn.Module) -> bool:
    """Choose the layers to convert: linear layers and convolutions but stem, head and small ones.

    Examples
    --------
    >>> is_inner("layers.0", nn.Linear(64, 256)), is_inner("head", nn.Linear(256, 10))
    (True, False)
    """
    if not isinstance(module, nn.Linear | nn.Conv2d) or name.split(".")[0] in ("stem", "head"):
        return False
    return min(module.weight.flatten(1).shape) >= _LEAST_SIDE


def _in_order(images: Standardised, count: int) -> Iterator[Batch]:
    for i in range(0, count, _EVALUATION_BATCH):
        yield images[i : min(i + _EVALUATION_BATCH, count)]


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(1_000_003 * seed + epoch)
