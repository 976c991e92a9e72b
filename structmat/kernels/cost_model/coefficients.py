"""Coefficients of kernels as measured on this machine, kept in a file of the user's cache.

They stand for a place: "cpu", with the number of threads if it is more than one, or the name of
a device with a dtype, as "NVIDIA H200, float32".
"""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from structmat.errors import SaveError
from structmat.files.write import whole_file

#: Name of the device of NumPy's arrays.
CPU = "cpu"
#: Nanoseconds of each kernel, by its name, in the order of its counts.
Coefficients = Mapping[str, Sequence[float]]


def coefficients_file() -> Path:
    """Path of the file that keeps the measured coefficients."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "structmat" / f"figures-{platform.node() or 'machine'}.json"


def place_of(device: str, *, dtype: str = "", threads: int = 1) -> str:
    """The place that figures stand for: a device with a dtype, or a CPU with its threads.

    Examples
    --------
    >>> place_of("NVIDIA H200", dtype="float32"), place_of(CPU), place_of(CPU, threads=2)
    ('NVIDIA H200, float32', 'cpu', 'cpu, 2 threads')
    """
    if device != CPU:
        return f"{device}, {dtype}"
    return CPU if threads == 1 else f"{CPU}, {threads} threads"


def measured_or(shipped: Coefficients, place: str = CPU) -> Coefficients:
    """Coefficients measured at a place, or the shipped ones.

    The figures of a place count as a whole: they hold, for each kernel that ships, as many
    finite non-negative numbers as that has.
    """
    lengths = {name: len(found) for name, found in shipped.items()}
    measured = measured_at(place, lengths)
    return measured if measured.keys() == shipped.keys() else shipped


def measured_at(place: str, lengths: Mapping[str, int]) -> Coefficients:
    """Sound coefficients that were measured at a place, of kernels with these numbers of counts."""
    measured = {}
    for name, length in lengths.items():
        try:
            found = [float(x) for x in _from_file()[place][name]]
        except (ValueError, KeyError, TypeError, OverflowError):
            continue  # nothing measured, or no numbers
        # A version with other counts has other numbers of coefficients.
        if len(found) == length and all(0 <= x < math.inf for x in found):
            measured[name] = found
    return measured


@cache
def _from_file() -> dict[str, Any]:
    """The coefficients of the file by place; of earlier versions it holds those of "cpu" alone."""
    try:
        content = json.loads(coefficients_file().read_text(encoding="utf-8"))
        return {**content.get("places", {}), CPU: content.get("figures")}
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError):
        return {}


def keep(measured: Coefficients, place: str = CPU) -> Path:
    """Write the coefficients of a place to the file, and use them from now on.

    Those of other places stay in the file.

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
    places = {**_from_file(), place: dict(measured)}
    content = {"figures": places.pop(CPU, None), "places": places}
    text = json.dumps({key: found for key, found in content.items() if found}, indent=1)
    with whole_file(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    forget()
    return path


def forget() -> None:
    """Read the file again when coefficients are next asked for."""
    _from_file.cache_clear()
