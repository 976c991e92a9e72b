"""Text as bytes, from a few files side by side or from a single one."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from structmat.errors import FileFormatError, InputError
from structmat.learn.data.files import first_file, opened, reading

_PARTS = ("train", "valid", "test")
_WIKITEXT = "wikitext2_"
# Beginnings of file names in a folder, and a note on each set.
_SETS = {
    "": "",
    "classics_": " English books in the public domain.",
    _WIKITEXT: " WikiText-2: Wikipedia text, CC BY-SA.",
}


@dataclass(frozen=True, eq=False, repr=False)
class Text:
    r"""Text as bytes: tokens of a vocabulary of 256, in the order of the text.

    Attributes
    ----------
    name : str
        Name for `load_data`.
    train, valid, test : ndarray of uint8, shape (N,)
        The three parts, none of them empty.
    note : str
        Files read, licence and limits, to be printed with results.

    Examples
    --------
    >>> import os, tempfile
    >>> from structmat.learn.data import load_data
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "lines.txt")
    ...     with open(path, "wb") as file:
    ...         size = file.write(b"ten bytes\n" * 20)
    ...     load_data("text", path)
    <Text: 160 + 20 + 20 bytes>
    """

    name: str
    train: NDArray[np.uint8]
    valid: NDArray[np.uint8]
    test: NDArray[np.uint8]
    note: str

    def __repr__(self) -> str:
        return f"<Text: {len(self.train)} + {len(self.valid)} + {len(self.test)} bytes>"


def text(place: Path, limit: int | None) -> Text:
    """Text of a file, of a folder, or of the set of files that begin with this path."""
    if place.is_file():
        return _from_one_file(place, limit)
    if place.is_dir():
        sets = [(at, begin) for at in (place, place / "text") for begin in _SETS]
    else:
        sets = [(place.parent, f"{place.name}_")]
    for at, begin in sets:
        paths = {part: first_file(at, _names(begin, part)) for part in _PARTS}
        if any(paths.values()):
            return _from_set(at, begin, paths, limit)
    if not place.is_dir():
        raise InputError(
            f"data_dir = {str(place)!r}; expected a folder, a text file, or the path that the "
            "names of three files begin with (check its spelling)"
        )
    single = sorted([*place.glob("*.txt"), *place.glob("*.txt.xz")])
    if len(single) == 1:
        return _from_one_file(single[0], limit)
    held = f"{len(single)} other texts" if single else "no text"
    raise InputError(
        f"data_dir = {str(place)!r} holds {held}; expected train.txt, valid.txt and test.txt, the "
        "same names after 'classics_' or 'wikitext2_', or one .txt file, each plain or .xz (give "
        "the path of one file to have it split)"
    )


def _names(begin: str, part: str) -> tuple[str, str]:
    return f"{begin}{part}.txt", f"{begin}{part}.txt.xz"


def _from_set(at: Path, begin: str, paths: dict[str, Path | None], limit: int | None) -> Text:
    """Read three files; WikiText-2, whose training file is hard to get, needs only two."""
    missing = [part for part, path in paths.items() if path is None]
    untrained = begin == _WIKITEXT and missing == ["train"]
    if missing and not untrained:
        names = ", ".join(_names(begin, part)[0] for part in missing)
        raise InputError(
            f"{str(at)!r} lacks {names}, plain or .xz; expected the training, validation and test "
            "text side by side (or give one file as data_dir to have it split)"
        )
    found = [path for path in paths.values() if path is not None]
    note = f"Text of {', '.join(path.name for path in found)}.{_SETS.get(begin, '')}"
    if untrained:
        note += " Without its training file: trained on nine tenths of the validation file."
        parts = [*_split(found[0], _read(found[0]), 9), _read(found[1])]
    else:
        parts = [_read(found[0], limit), *(_read(path) for path in found[1:])]
    return _assemble(parts, note, limit)


def _from_one_file(path: Path, limit: int | None) -> Text:
    note = f"Text of {path.name}: the last tenth for testing, the one before for validation."
    return _assemble(_split(path, _read(path), 8, 9), note, limit)


def _assemble(parts: Iterable[bytes], note: str, limit: int | None) -> Text:
    """`Text` of three parts, the first of them cut to the limit."""
    train, valid, test = parts
    train = train[:limit]
    if len(train) == limit:
        note += f" Training on {limit} bytes of it only."
    # The arrays of a bytearray can be written to.
    arrays = [np.frombuffer(bytearray(part), np.uint8) for part in (train, valid, test)]
    return Text("text", arrays[0], arrays[1], arrays[2], note)


def _read(path: Path, limit: int | None = None) -> bytes:
    """Read a file, or its first bytes without decompressing the rest."""
    with reading(path, "text, plain or compressed by xz"), opened(path) as file:
        content = file.read(-1 if limit is None else limit)
        if not content:
            raise ValueError("it is empty")
        return content


def _split(path: Path, content: bytes, *tenths: int) -> list[bytes]:
    """Cut a text after the last line end within each number of tenths."""
    ends = [content.rfind(b"\n", 0, len(content) * tenth // 10) + 1 for tenth in tenths]
    edges = [0, *ends, len(content)]
    parts = [content[begin:end] for begin, end in pairwise(edges)]
    if not all(parts):
        lines = content.count(b"\n")
        raise FileFormatError(
            f"{str(path)!r} has {len(content)} bytes and {lines} line ends, too few to split it; "
            "expected text of many lines (give training, validation and test text as three files)"
        )
    return parts
