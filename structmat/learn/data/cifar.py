"""CIFAR-10 and CIFAR-100: the published binary files, and a small container of strips."""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.errors import InputError
from structmat.learn.data.files import first_file, folder, opened, optional, reading
from structmat.learn.data.images import Images, Part, assemble, check_labels

# Pixels of an image along each side, and bytes of its three planes.
_SIDE = 32
_PLANES_BYTES = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class _Form:
    """Files of one of the two collections."""

    title: str
    folder: str
    archive: str
    container: str
    python: tuple[str, str]  # folder and archive of the version made of pickles
    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int  # the last of them counts
    classes: int

    @property
    def members(self) -> tuple[str, ...]:
        return *self.train, self.test, self.names


_FORMS = {
    "cifar10": _Form(
        title="CIFAR-10",
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        container="cifar10.npz",
        python=("cifar-10-batches-py", "cifar-10-python.tar.gz"),
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test="test_batch.bin",
        names="batches.meta.txt",
        label_bytes=1,
        classes=10,
    ),
    "cifar100": _Form(
        title="CIFAR-100",
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        container="cifar100.npz",
        python=("cifar-100-python", "cifar-100-python.tar.gz"),
        train=("train.bin",),
        test="test.bin",
        names="fine_label_names.txt",
        label_bytes=2,
        classes=100,
    ),
}


def cifar(name: str, root: Path) -> Images:
    """Read either collection from the first form in a folder, exact forms first."""
    form = _FORMS[name]
    for place in (folder(root) / form.folder, root):
        if first_file(place, (*form.train, form.test)):
            return _from_binary(name, place, _folder_members(place, form))
    if archive := first_file(root, (form.archive,)):
        return _from_binary(name, archive, _archive_members(archive, form))
    if container := first_file(root, (form.container,)):
        return _from_container(name, container)
    for pickled in (root, *(root / marker for marker in form.python)):
        if pickled.name in form.python and pickled.exists():
            raise InputError(
                f"{str(pickled)!r} is the Python version of {form.title}, made of pickles, "
                f"which can run code when they are read; expected {form.archive} (get the binary "
                "version from the same page)"
            )
    raise InputError(
        f"data_dir = {str(root)!r} holds none of {form.folder}/, {form.test}, {form.archive}, "
        f"{form.container}; expected {form.title} in one of these forms (get the binary version, "
        "www.cs.toronto.edu/~kriz/cifar.html)"
    )


def _note(form: _Form) -> str:
    return (
        f"{form.title} of Krizhevsky (2009), who gives no licence and asks to be cited: do not "
        "pass the images on."
    )


def _folder_members(place: Path, form: _Form) -> dict[str, bytes]:
    members = {}
    for name in form.members:
        if (place / name).is_file():
            with reading(place / name, f"a file of the binary version of {form.title}"):
                members[name] = (place / name).read_bytes()
    return members


def _archive_members(path: Path, form: _Form) -> dict[str, bytes]:
    """Read the wanted members into memory; nothing is unpacked to disk."""
    members = {}
    with (
        reading(path, f"{form.archive} as published"),
        opened(path) as file,
        tarfile.open(fileobj=file, mode="r:") as archive,
    ):
        for member in archive:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts:
                raise ValueError(f"its member {member.name!r} lies outside of the archive")
            if place.parent.name == form.folder and place.name in form.members:
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise ValueError(f"its member {member.name!r} is no plain file")
                members[place.name] = content.read()
        file.read()  # up to the checksum, which stands at the very end
    return members


def _from_binary(name: str, source: Path, members: Mapping[str, bytes]) -> Images:
    form = _FORMS[name]
    missing = [member for member in form.members if member not in members]
    if missing:
        raise InputError(
            f"{str(source)!r} lacks {', '.join(missing)}; expected all files of the binary version "
            f"of {form.title} ({form.archive})"
        )
    train, test = (
        _joined([_records(source / part, members[part], form) for part in names])
        for names in (form.train, [form.test])
    )
    with reading(source / form.names, f"{form.classes} names of classes, one on a line"):
        classes = tuple(members[form.names].decode().split())
        if len(classes) != form.classes:
            raise ValueError(f"it has {len(classes)} names")
    return assemble(name, train, test, classes, _note(form), (50000, 10000))


def _joined(parts: list[Part]) -> Part:
    """Join files to fresh arrays, which can be written to."""
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _records(path: Path, content: bytes, form: _Form) -> Part:
    """Images and labels of one file: records of label bytes, then red, green and blue planes."""
    size = form.label_bytes + _PLANES_BYTES
    with reading(path, f"records of {size} bytes with labels of 0 to {form.classes - 1}"):
        if len(content) % size:
            raise ValueError(f"it has {len(content)} bytes, which is no whole number of records")
        records = np.frombuffer(content, np.uint8).reshape(-1, size)
        labels = check_labels(records[:, form.label_bytes - 1], form.classes)
    return records[:, form.label_bytes :].reshape(-1, 3, _SIDE, _SIDE), labels


def _from_container(name: str, path: Path) -> Images:
    """The ``.npz`` container: per part, images stacked into strips, each strip a JPEG or WebP."""
    form = _FORMS[name]
    image = optional("PIL.Image", "Pillow")
    expected = f"the container of {form.title} (strips of images, offsets, labels, label_names)"
    with reading(path, expected), path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        train, test = (_container_part(archive, part, form, image) for part in ("train", "test"))
        classes = tuple(map(str, np.asarray(archive["label_names"]).ravel()))
        if len(classes) != form.classes:
            raise ValueError(f"it has {len(classes)} label_names")
        inexact = np.size(archive["test_inexact"]) if "test_inexact" in archive else 0
    note = f"{_note(form)} The training images passed through JPEG and are only nearly exact"
    note += f"; so are {inexact} of the test images." if inexact else "; the test images are exact."
    return assemble(name, train, test, classes, note, (50000, 10000))


def _container_part(archive: Mapping[str, Any], part: str, form: _Form, image: Any) -> Part:
    data, offsets, labels = (
        np.asarray(archive[f"{part}_{what}"]) for what in ("data", "off", "labels")
    )
    for array, kinds in ((data, "u"), (offsets, "iu"), (labels, "iu")):
        if array.ndim != 1 or array.dtype.kind not in kinds:
            raise ValueError(f"its {part} part holds {array.dtype} of shape {array.shape}")
    edges = offsets.tolist()
    if data.itemsize != 1 or edges[:1] != [0] or edges[-1] != len(data) or edges != sorted(edges):
        raise ValueError(f"its {part}_off does not go from 0 up to the {data.nbytes} bytes of data")
    y = check_labels(labels, form.classes)
    x = np.empty((len(y), 3, _SIDE, _SIDE), np.uint8)
    done = 0
    for begin, end in pairwise(edges):
        strip = _strip(data[begin:end].tobytes(), image, len(y) - done)
        x[done : done + len(strip)] = strip
        done += len(strip)
    if done != len(y):
        raise ValueError(f"its {part} part has {len(y)} labels for {done} images")
    return x, y


def _strip(content: bytes, image: Any, room: int) -> NDArray[np.uint8]:
    """Images (n, 3, 32, 32) of one strip; its size is checked before anything is decoded."""
    try:
        with image.open(io.BytesIO(content), formats=("JPEG", "WEBP")) as picture:
            width, height = picture.size
            fits = width == _SIDE and height % _SIDE == 0 and height <= room * _SIDE
            if picture.mode != "RGB" or not fits:
                raise ValueError(
                    f"a strip is {picture.mode} of {width}x{height} pixels where up to {room} "
                    f"images of {_SIDE}x{_SIDE} RGB are left"
                )
            pixels = np.asarray(picture)
    except image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    return pixels.reshape(-1, _SIDE, _SIDE, 3).transpose(0, 3, 1, 2)
