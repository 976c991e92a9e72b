"""Progress of long work: a bar on a terminal, or calls of a function.

Work reports the share that is done, from 0 to 1. `reporting` turns what the user gave as
``progress`` into the function to call. Work inside other work shows no bar of its own.
"""

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from structmat.errors import InputError

#: Called with the share of the work done, from 0 to 1.
Progress = Callable[[float], object]

#: Reports nothing. A builtin, because inner loops call it.
no_progress: Progress = bool

#: Seconds before a bar appears that nobody asked for, and between two drawings of a bar.
DELAY, PAUSE = 3.0, 0.1
#: Characters of the bar itself.
_LENGTH = 24

# True inside of work that reports already.
_inside: ContextVar[bool] = ContextVar("structmat progress", default=False)


@contextmanager
def reporting(progress: Progress | bool | None, label: str) -> Iterator[Progress]:
    """Yield the function that takes the share of the work done.

    A callable is that function. None shows a bar on a terminal once a few seconds have
    passed, unless work outside reports already; True shows a bar at once, anywhere; False
    is silent. The bar goes when the work ends.

    Raises
    ------
    InputError
        If `progress` is none of these.

    Examples
    --------
    >>> with reporting(print, "adding") as report:
    ...     report(0.5)
    0.5
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise InputError(
            f"progress = {progress!r}; expected None (a bar on a terminal), True, False, or a "
            "function of the share done"
        )
    bar = None
    if progress is True or (progress is None and not _inside.get() and _is_terminal()):
        bar = _Bar(label, DELAY if progress is None else 0.0)
    token = _inside.set(True)
    try:
        yield bar or (progress if callable(progress) else no_progress)
    finally:
        _inside.reset(token)
        if bar is not None:
            bar.erase()


def part(report: Progress, begin: float, end: float) -> Progress:
    """Progress of one part of the work, which lasts from one share of the whole to another.

    Examples
    --------
    >>> half = part(print, 0.5, 1.0)
    >>> half(0.5)
    0.75
    """
    if report is no_progress:
        return no_progress
    return lambda done: report(begin + (end - begin) * done)


def _is_terminal() -> bool:
    # Without a console, as under pythonw, there is no stream at all.
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


class _Bar:
    """A line on standard error: label, share, bar, seconds so far and to go."""

    def __init__(self, label: str, delay: float) -> None:
        self._label, self._begin = label, time.monotonic()
        self._next, self._done, self._drawn = self._begin + delay, 0.0, ""

    def __call__(self, done: float) -> None:
        # Work may try again: the bar never goes back.
        self._done = max(self._done, min(done, 1.0))
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PAUSE
            self._draw(self._line(now - self._begin))

    def _line(self, seconds: float) -> str:
        full = int(_LENGTH * self._done)
        bar = "#" * full + "-" * (_LENGTH - full)
        to_go = math.inf if self._done == 0 else seconds * (1 / self._done - 1)
        left = f", {clock(to_go)} to go" if to_go < math.inf else ""
        return f"{self._label} {100 * self._done:3.0f} % {bar} {clock(seconds)}{left}"

    def _draw(self, line: str) -> None:
        # A line that wraps could not be drawn over.
        line = line[: max(shutil.get_terminal_size().columns - 1, 1)]
        # Spaces cover what is left of a longer line, also where no escapes are understood.
        _write(f"\r{line:{len(self._drawn)}}")
        self._drawn = line

    def erase(self) -> None:
        if self._drawn:
            _write(f"\r{'':{len(self._drawn)}}\r")


def _write(text: str) -> None:
    """Write to standard error; a stream that is gone ends no computation."""
    stream: Any = sys.stderr
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError, AttributeError):
        pass


def clock(seconds: float) -> str:
    """Seconds for a reader: 42 s, 3:07 min, 2:05 h.

    Examples
    --------
    >>> clock(42.3), clock(187), clock(7500)
    ('42 s', '3:07 min', '2:05 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole // 60 % 60:02} h"
