"""Memory and time of a compression, foretold by those of a few of the points."""

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from structmat._progress import no_progress
from structmat.compress.contained import Bound
from structmat.compress.entries.run import FIRST_AIM, Compression, takes
from structmat.compress.entries.sampled import source_norm
from structmat.compress.hierarchical.fit import weak_is_cheaper
from structmat.kinds import find_entries_fit
from structmat.sources.kernel_matrix import KernelMatrix

#: Numbers of points of the two trials.
TRIALS = (1024, 2048)
#: Kinds whose fits choose between weak and strong admissibility.
ADMISSIBLE = ("hierarchical", "gblr")


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
    the entries. The first trial also loads what is compiled. Hierarchical trials take the
    admissibility of the whole, which a few points would not choose.
    """
    n = min(source.shape)
    if n < 2 * TRIALS[1] or not takes(source, kind):
        return None
    tol = goal.get("tol")
    weak = _is_weak(source, kind, tol) if kind in ADMISSIBLE and tol is not None else None
    stored, entries, seconds = [], [], 0.0
    for count in TRIALS:
        some = np.linspace(0, n - 1, count).astype(np.int64)
        part = source.at(some, some)
        started = time.perf_counter()
        fitted = None if weak is None or tol is None else _fitted(part, kind, tol, weak)
        if fitted is None:
            found = compress(part, kind, **goal, progress=False)
            fitted = found.storage, found.entries
        seconds = time.perf_counter() - started
        stored.append(fitted[0] / count)
        entries.append(fitted[1] / count)
    steps = math.log2(max(source.shape) / TRIALS[1])
    rows = sum(source.shape) / 2
    each = [max(last + steps * (last - first), last) for first, last in (stored, entries)]
    size = np.dtype(source.dtype).itemsize
    if goal.get("budget") is not None:
        each[0] = goal["budget"] * source.shape[1]
    total = seconds * (each[1] * rows) / max(entries[1] * TRIALS[1], 1)
    return Forecast(int(each[0] * rows * size), total, int(each[1] * rows))


def _is_weak(source: KernelMatrix, kind: str, tol: float) -> bool:
    """Tell whether the compression of the whole takes weak admissibility."""
    whole, rng = Compression(source, kind).source, np.random.default_rng(0)
    return weak_is_cheaper(whole, FIRST_AIM * tol * source_norm(whole, rng), rng)


def _fitted(part: KernelMatrix, kind: str, tol: float, weak: bool) -> tuple[int, int] | None:
    """Storage and entries of a fit of this admissibility; None where it takes another way."""
    fit: Any = find_entries_fit(kind)
    run = Compression(part, kind, partial(fit, weak=weak))
    rng = np.random.default_rng(0)
    found = None if run.forms else run.fit(Bound(tol=tol), rng, no_progress, exact=False)
    return None if found is None else (found[0].storage, run.entries)
