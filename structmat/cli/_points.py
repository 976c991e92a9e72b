"""Points and kernels on the command line: options, and what a compression is expected to take."""

import argparse
import math
import os
import sys
from typing import Any

import numpy as np

import structmat
from structmat.cli._common import number
from structmat.compress.entries.forecast import forecast
from structmat.errors import InputError
from structmat.sources.named_kernels import NAMES


def add_kernel(command: argparse.ArgumentParser) -> None:
    """Add the options of a kernel to a command."""
    command.add_argument(
        "--kernel", choices=NAMES, help="the file holds points, a row each: compress this kernel"
    )
    command.add_argument(
        "--length", type=_positive, help="length of the kernel, in the unit of the points"
    )
    command.add_argument("--wavenumber", type=_positive, help="wavenumber of helmholtz")


def _positive(text: str) -> float:
    return number(text, "a positive number", lambda x: 0 < x < math.inf)


def has_kernel(options: argparse.Namespace) -> bool:
    """True if the file holds points; options that need a kernel are refused without one."""
    for name in ("length", "wavenumber"):
        if options.kernel is None and getattr(options, name) is not None:
            raise InputError(f"--{name} goes with --kernel; expected one of {', '.join(NAMES)}")
    if options.wavenumber is not None and options.kernel != "helmholtz":
        raise InputError(
            f"--wavenumber with --kernel {options.kernel}; expected it left out: helmholtz alone "
            "has one"
        )
    return options.kernel is not None


def kernel_matrix(points: Any, options: argparse.Namespace) -> structmat.KernelMatrix:
    """The kernel matrix of the points in a file."""
    if not isinstance(points, np.ndarray):
        raise InputError(
            f"{options.file!r} holds a {type(points).__qualname__}; expected points (n, d)"
        )
    given = {"length": options.length, "wavenumber": options.wavenumber}
    parameters = {name: value for name, value in given.items() if value is not None}
    return structmat.KernelMatrix(points, options.kernel, **parameters)


def announced(source: structmat.KernelMatrix, kind: str, goal: dict[str, Any]) -> dict[str, Any]:
    """Say on standard error what the compression will take; the same as figures."""
    found = forecast(source, kind, structmat.compress, **goal)
    if found is None:
        return {}
    memory = _memory()
    share = 100 * found.entries / math.prod(source.shape)
    line = (
        f"expected: {_bytes(found.stored)} for the matrix, {found.seconds:.2g} s, "
        f"{share:.2g} % of the entries"
    )
    if memory is not None and found.stored > memory:
        line += f"; this machine has {_bytes(memory)} of memory"
    print(line, file=sys.stderr, flush=True)
    return {"expected_bytes": found.stored, "expected_seconds": found.seconds}


def _bytes(count: int) -> str:
    """Bytes for a reader.

    Examples
    --------
    >>> _bytes(3 * 2**20), _bytes(3 * 2**29)
    ('3 MiB', '1.5 GiB')
    """
    power = 3 if count >= 2**30 else 2
    return f"{count / 2 ** (10 * power):.3g} {'MiB' if power == 2 else 'GiB'}"


def _memory() -> int | None:
    """Bytes of memory of this machine, where it tells."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
