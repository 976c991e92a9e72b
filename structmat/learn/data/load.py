"""Data to learn from: images with labels, and text, from files that you have.

Nothing is downloaded, unpacked to disk or unpickled. Each reader checks what it reads
and returns NumPy arrays.
"""

import numbers
import os
from pathlib import Path
from typing import Final, TypeAlias

from structmat.errors import InputError
from structmat.files.paths import name_of
from structmat.learn.data.cifar import cifar
from structmat.learn.data.images import Images, digits, fashion_mnist, noisy_digits
from structmat.learn.data.text import Text, text

DATASETS: Final = ("digits", "noisy-digits", "fashion-mnist", "cifar10", "cifar100", "text")
"""Names that `load_data` knows."""

Dataset: TypeAlias = Images | Text
"""Result of `load_data`."""


def load_data(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    limit: int | None = None,
) -> Dataset:
    """Read a collection of images, or a text.

    Parameters
    ----------
    name : str
        One of `DATASETS`:

        - ``digits``: 1797 images of 8x8 pixels, values 0 to 16. They come with
          scikit-learn and need no folder. The split is that of its ``train_test_split``
          with ``test_size=540, stratify=y, random_state=0``.
        - ``noisy-digits``: the same in the middle of 16x16 pixels, the others of them noise that
          says nothing; they need no folder.
        - ``fashion-mnist``: the four IDX files, plain or gzipped, in the folder or in its
          ``FashionMNIST/raw``, ``raw``, ``fashion-mnist`` or ``data/fashion``.
        - ``cifar10``, ``cifar100``: the published binary version, as archive or
          extracted, or the container ``cifar10.npz``, ``cifar100.npz``. Labels of
          CIFAR-100 are the fine ones.
        - ``text``: ``train.txt``, ``valid.txt`` and ``test.txt``, or the same after
          ``classics_`` or ``wikitext2_``, in the folder or in its ``text``; otherwise a
          single file, whose last tenth is for testing and the one before for validation,
          cut at line ends. All plain or, with ``.xz`` added, compressed.
    data_dir : path-like, optional
        Folder of the files, for all but the digits. For ``text`` also a single file, or the
        beginning of the names of three files: ``books/classics`` for
        ``books/classics_train.txt`` and its companions.
    limit : int, optional
        Bytes of training ``text`` to read, at most; a compressed file is not decompressed
        further.

    Returns
    -------
    Images or Text

    Raises
    ------
    InputError
        If the name is unknown, or files are missing.
    FileFormatError
        If a file is truncated, or not what it should be.
    MissingDependencyError
        If the form at hand needs scikit-learn or Pillow (extra ``learn``).

    Examples
    --------
    >>> from structmat.learn.data import load_data
    >>> data = load_data("digits")
    >>> data.train_x.shape, data.test_x.shape
    ((1257, 1, 8, 8), (540, 1, 8, 8))
    """
    if name not in DATASETS:
        raise InputError(f"name = {name!r}; expected one of {', '.join(DATASETS)}")
    if limit is not None:
        _check_limit(name, limit)
    if name in ("digits", "noisy-digits"):
        return digits() if name == "digits" else noisy_digits()
    if data_dir is None:
        raise InputError(
            f"data_dir = None (--data-dir); expected the folder with the files of {name} (nothing "
            "is downloaded: get them first, or use digits, which come with scikit-learn)"
        )
    root = Path(name_of(data_dir))
    if name == "text":
        return text(root, limit)
    return fashion_mnist(root) if name == "fashion-mnist" else cifar(name, root)


def _check_limit(name: str, limit: int) -> None:
    if name != "text":
        raise InputError(f"limit = {limit!r} for {name}; expected none (it goes with text only)")
    if not isinstance(limit, numbers.Integral) or limit < 1:
        raise InputError(f"limit = {limit!r}; expected a number of bytes of at least 1")
