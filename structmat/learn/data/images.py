"""Images with labels in memory; digits, plain and in noise, and the files of Fashion-MNIST."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.errors import InputError
from structmat.learn.data.files import first_file, folder, opened, optional, reading


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Images with labels, split into a training and a test part.

    Attributes
    ----------
    name : str
        Name for `load_data`.
    train_x : ndarray of uint8, shape (N, C, H, W)
        Training images: channel, row, column.
    train_y : ndarray of int64, shape (N,)
        Their labels, 0 to ``len(classes) - 1``.
    test_x : ndarray of uint8, shape (M, C, H, W)
    test_y : ndarray of int64, shape (M,)
        The test part. Some collections keep it sorted by class: shuffle before taking a
        part of it.
    classes : tuple of str
        Names of the labels.
    mean, std : ndarray of float32, shape (C,)
        Mean and standard deviation of each channel over the training images, for both
        parts.
    note : str
        Source, licence and limits, to be printed with results.

    Examples
    --------
    >>> from structmat.learn.data import load_data
    >>> load_data("digits")
    <Images digits: 1257 + 540 of 1x8x8, 10 classes>
    """

    name: str
    train_x: NDArray[np.uint8]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.int64]
    classes: tuple[str, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    note: str

    def standardise(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels less the mean, over the standard deviation, of their channel.

        Parameters
        ----------
        x : ndarray, shape (..., C, H, W)
            Images of either part. The result takes four times the memory: go batch by batch.

        Returns
        -------
        ndarray of float32, of the same shape

        Examples
        --------
        >>> from structmat.learn.data import load_data
        >>> data = load_data("digits")
        >>> x = data.standardise(data.train_x)
        >>> x.shape, x.dtype.name, bool(abs(x.mean()) < 1e-5), bool(abs(x.std() - 1) < 1e-5)
        ((1257, 1, 8, 8), 'float32', True, True)
        """
        standard = x.astype(np.float32)
        standard -= self.mean[:, None, None]
        standard /= self.std[:, None, None]
        return standard

    def __repr__(self) -> str:
        size = "x".join(map(str, self.train_x.shape[1:]))
        return (
            f"<Images {self.name}: {len(self.train_x)} + {len(self.test_x)} of {size}, "
            f"{len(self.classes)} classes>"
        )


Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def assemble(
    name: str,
    train: Part,
    test: Part,
    classes: tuple[str, ...],
    note: str,
    published: tuple[int, int],
) -> Images:
    """`Images` of two parts (images, labels); the note names sizes other than published."""
    sizes = len(train[1]), len(test[1])
    if sizes != published:
        note += (
            f" Here {sizes[0]} training and {sizes[1]} test images; "
            f"published were {published[0]} and {published[1]}."
        )
    x = train[0]
    count = x.size // x.shape[1]
    total = x.sum(axis=(0, 2, 3), dtype=np.int64)
    squares = np.einsum("nchw,nchw->c", x, x, dtype=np.int64)
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    std[std == 0] = 1  # a channel of one value becomes 0, not a division by zero
    statistics = mean.astype(np.float32), std.astype(np.float32)
    return Images(name, *train, *test, classes, *statistics, note)


def check_labels(labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Labels as int64; a ValueError, for `reading`, if a label is out of range or none is there."""
    if not labels.size:
        raise ValueError("it holds no images")
    if labels.min() < 0 or labels.max() >= classes:
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))[0]
        raise ValueError(f"image {wrong} has label {labels[wrong]}, not one of 0 to {classes - 1}")
    return labels.astype(np.int64)


def digits() -> Images:
    """The 8x8 digits that come with scikit-learn."""
    load = optional("sklearn.datasets", "scikit-learn").load_digits
    split = optional("sklearn.model_selection", "scikit-learn").train_test_split
    x, y = load(return_X_y=True)
    x = x.astype(np.uint8).reshape(-1, 1, 8, 8)
    train_x, test_x, train_y, test_y = split(x, y, test_size=540, stratify=y, random_state=0)
    note = (
        "Handwritten digits of Alpaydin and Kaynak (1998), the part that comes with "
        "scikit-learn; split at random, so a writer may be in both parts."
    )
    train, test = (train_x, train_y.astype(np.int64)), (test_x, test_y.astype(np.int64))
    return assemble("digits", train, test, tuple("0123456789"), note, (1257, 540))


# Pixels of noise on each side of a digit.
_BORDER = 4


def noisy_digits() -> Images:
    """The same digits in the middle of 16x16 pixels; those around them are noise."""
    plain, rng = digits(), np.random.default_rng(0)
    train_x, test_x = (_among_noise(x, rng) for x in (plain.train_x, plain.test_x))
    note = (
        f"{plain.note} Around each digit lie {_BORDER} pixels of noise, drawn evenly from the same "
        "values by seed 0."
    )
    train, test = (train_x, plain.train_y), (test_x, plain.test_y)
    return assemble("noisy-digits", train, test, plain.classes, note, (1257, 540))


def _among_noise(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    count, channels, height, width = x.shape
    shape = (count, channels, height + 2 * _BORDER, width + 2 * _BORDER)
    around = rng.integers(0, 17, shape, dtype=np.uint8)
    around[..., _BORDER:-_BORDER, _BORDER:-_BORDER] = x
    return around


_FASHION_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# As downloaded, as torchvision keeps them, and as in the repository of the data.
_FASHION_PLACES = (".", "FashionMNIST/raw", "raw", "fashion-mnist", "data/fashion")
_FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def fashion_mnist(root: Path) -> Images:
    """Fashion-MNIST from its four IDX files, plain or gzipped."""
    paths = _fashion_paths(folder(root))
    train, test = (_idx_part(*paths[i : i + 2]) for i in (0, 2))
    note = "Fashion-MNIST of Xiao, Rasul and Vollgraf (2017), MIT licence."
    return assemble("fashion-mnist", train, test, _FASHION_CLASSES, note, (60000, 10000))


def _fashion_paths(root: Path) -> list[Path]:
    """The four files, all of one folder: the first that has any of them."""
    wanted = [(name, f"{name}.gz") for name in _FASHION_FILES]
    places = [root / place for place in _FASHION_PLACES]
    place = next((p for p in places if any(first_file(p, names) for names in wanted)), None)
    if place is None:
        raise InputError(
            f"data_dir = {str(root)!r} holds no {_FASHION_FILES[0]!r}, plain or .gz, nor do its "
            f"folders {', '.join(_FASHION_PLACES[1:])}; expected the four IDX files of "
            "Fashion-MNIST (get them from github.com/zalandoresearch/fashion-mnist)"
        )
    found = [first_file(place, names) for names in wanted]
    missing = [name for name, path in zip(_FASHION_FILES, found, strict=True) if path is None]
    if missing:
        raise InputError(
            f"{str(place)!r} lacks {', '.join(missing)}, plain or .gz; expected the four IDX files "
            "of Fashion-MNIST side by side (get the missing ones too)"
        )
    return [path for path in found if path is not None]


def _idx_part(images: Path, labels: Path) -> Part:
    x = _idx(images, (28, 28))[:, None]
    y = _idx(labels, ())
    with reading(labels, f"one label of 0 to {len(_FASHION_CLASSES) - 1} for each image"):
        if len(y) != len(x):
            raise ValueError(f"it has {len(y)} labels for {len(x)} images of {images.name}")
        return x, check_labels(y, len(_FASHION_CLASSES))


def _idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Items of this shape from an IDX file: magic, sizes (big-endian uint32), then bytes."""
    magic = 0x0800 + 1 + len(shape)  # 08 says bytes; the last digit counts the sizes
    kind = f"IDX bytes of shape (N{''.join(f', {size}' for size in shape)})"
    with reading(path, kind), opened(path) as file:
        header = file.read(8 + 4 * len(shape))
        if len(header) < 8 + 4 * len(shape):
            raise ValueError(f"it ends after {len(header)} bytes, within its header")
        met, count, *sizes = np.frombuffer(header, ">u4").tolist()
        if met != magic:
            raise ValueError(f"its magic number is {met:#010x}, not {magic:#010x}")
        if tuple(sizes) != shape:
            raise ValueError(f"its items have shape {tuple(sizes)}")
        body = file.read()
        if len(body) != count * math.prod(shape):
            raise ValueError(f"it has {len(body)} bytes for {count} items of shape {shape}")
        return np.frombuffer(bytearray(body), np.uint8).reshape(-1, *shape)
