"""Coefficients of kernels as measured on this machine, kept in a file of the user's cache."""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from structmat._write import whole_file
from structmat.errors import SaveError

#: Nanoseconds of each kernel, by its name, in the order of its counts.
Coefficients = Mapping[str, Sequence[float]]


def coefficients_file() -> Path:
    """Path of the file that keeps the measured coefficients."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "structmat" / f"figures-{platform.node() or 'machine'}.json"


def measured_or(shipped: Coefficients) -> Coefficients:
    """Coefficients measured on this machine, or the shipped ones.

    A file counts as a whole: it holds, for each kernel that ships, as many finite
    non-negative numbers as that has.
    """
    try:
        found = _from_file()
        measured = {name: [float(x) for x in found[name]] for name in shipped}
    except (ValueError, KeyError, TypeError, OverflowError):
        return shipped  # nothing measured, or no numbers
    # A version with other counts has other numbers of coefficients.
    whole = all(len(measured[name]) == len(shipped[name]) for name in shipped)
    sound = all(0 <= x < math.inf for found in measured.values() for x in found)
    return measured if whole and sound else shipped


@cache
def _from_file() -> Any:
    """The part of the file that holds coefficients; None without one."""
    try:
        return json.loads(coefficients_file().read_text(encoding="utf-8"))["figures"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def keep(measured: Coefficients) -> Path:
    """Write measured coefficients to the file, and use them from now on.

    Raises
    ------
    SaveError
        If the file cannot be written; the file that stood there before is untouched.
    """
    path = None
    try:
        path = coefficients_file()
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # a RuntimeError without a home folder
        raise SaveError(
            f"cannot write {str(path or 'to the home folder')!r} "
            f"({getattr(error, 'strerror', None) or error}); choose a folder that you "
            "may write to by the environment variable XDG_CACHE_HOME"
        ) from error
    text = json.dumps({"figures": measured}, indent=1)
    with whole_file(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    forget()
    return path


def forget() -> None:
    """Read the file again when coefficients are next asked for."""
    _from_file.cache_clear()
