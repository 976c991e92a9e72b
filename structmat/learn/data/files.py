"""Search and reading of data files; errors name the file that is missing or damaged."""

import gzip
import importlib
import lzma
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from structmat.errors import InputError, MissingDependencyError
from structmat.files.foreign import foreign


def reading(path: Path, expected: str) -> AbstractContextManager[None]:
    """Turn errors of a reader into one that names the file and its expected format."""
    return foreign(str(path), f"expected {expected} (fetch the file again)")


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
