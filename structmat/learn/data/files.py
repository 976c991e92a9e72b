"""Search and reading of data files; errors name the file that is missing or damaged."""

import gzip
import importlib
import lzma
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from structmat.errors import FileFormatError, InputError, MissingDependencyError
from structmat.io import UNREADABLE


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turn errors of a reader into one that names the file and its expected format."""
    try:
        yield
    except (*UNREADABLE, lzma.LZMAError, tarfile.TarError) as error:
        reason = str(error) or type(error).__name__
        raise FileFormatError(
            f"{str(path)!r} cannot be read ({reason}); expected {expected} (fetch the file again)"
        ) from None


def folder(path: Path) -> Path:
    """Return the path if it is a folder."""
    if not path.is_dir():
        raise InputError(f"data_dir = {str(path)!r}; expected a folder that exists")
    return path


def first_file(place: Path, names: Iterable[str]) -> Path | None:
    """The first of these names that is a file in a folder."""
    return next((place / name for name in names if (place / name).is_file()), None)


def opened(path: Path) -> IO[bytes] | gzip.GzipFile | lzma.LZMAFile:
    """Open a file to read bytes, decompressed if its name ends in .gz or .xz."""
    if path.suffix == ".gz":
        return gzip.open(path)
    return lzma.open(path) if path.suffix == ".xz" else path.open("rb")


def optional(module: str, package: str) -> Any:
    """Import a module of a package that only some data need."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingDependencyError(
            f"{package} is not installed; install it with pip install 'structmat[learn]'"
        ) from None
