"""Memory and time of a compression, foretold by those of a few of the points."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from structmat.compress.entries.run import takes
from structmat.sources.kernel_matrix import KernelMatrix

#: Numbers of points of the two trials.
TRIALS = (1024, 2048)


@dataclass(frozen=True)
class Forecast:
    """Expected size and time of a compression.

    Attributes
    ----------
    stored : int
        Bytes of the contents of the result.
    seconds : float
        Time on this machine.
    entries : int
        Entries of the matrix that are evaluated.
    """

    stored: int
    seconds: float
    entries: int


def forecast(source: KernelMatrix, kind: str, compress: Any, **goal: Any) -> Forecast | None:
    """Foretell a compression by `compress` of 1024 and 2048 of the points; None for few points.

    Storage and entries of each row grow with the logarithm of the number of rows, and time with
    the entries. The first trial also loads what is compiled.
    """
    n = min(source.shape)
    if n < 2 * TRIALS[1] or not takes(source, kind):
        return None
    stored, entries, seconds = [], [], 0.0
    for count in TRIALS:
        some = np.linspace(0, n - 1, count).astype(np.int64)
        part = source.at(some, some)
        started = time.perf_counter()
        found = compress(part, kind, **goal, progress=False)
        seconds = time.perf_counter() - started
        stored.append(found.storage / count)
        entries.append(found.entries / count)
    steps = math.log2(max(source.shape) / TRIALS[1])
    rows = sum(source.shape) / 2
    each = [max(last + steps * (last - first), last) for first, last in (stored, entries)]
    size = np.dtype(source.dtype).itemsize
    if goal.get("budget") is not None:
        each[0] = goal["budget"] * source.shape[1]
    total = seconds * (each[1] * rows) / max(entries[1] * TRIALS[1], 1)
    return Forecast(int(each[0] * rows * size), total, int(each[1] * rows))
