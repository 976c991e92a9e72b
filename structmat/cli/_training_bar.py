"""Progress of an experiment: a bar on a terminal, a line for each training elsewhere."""

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from structmat._progress import clock
from structmat.cli._common import terminal_bar


@contextmanager
def training_bar() -> Any:
    """Yield a function of label, share done and loss that shows them, with the time to go."""
    form = "{percentage:3.0f} % {bar} {elapsed}, {remaining} to go  {desc}"
    with terminal_bar(total=1.0, bar_format=form) as bar:

        def advance(label: str, done: float, loss: float) -> None:
            bar.set_description_str(f"{label}: loss {loss:.3f}", refresh=False)
            bar.update(done - bar.n)

        yield _line_by_line() if bar is None else advance


def _line_by_line() -> Callable[[str, float, float], None]:
    last, begin, first = "", 0.0, 0.0

    def advance(label: str, done: float, _loss: float) -> None:
        nonlocal last, begin, first
        if not last:  # of an experiment that may go on where another one ended
            begin, first = time.monotonic(), done
        if label != last:
            print(f"{100 * done:3.0f} %{to_go(done)}  {label}", file=sys.stderr, flush=True)
        last = label

    def to_go(done: float) -> str:
        if done <= first:
            return ""
        rest = (1 - done) * (time.monotonic() - begin) / (done - first)
        return f", {clock(rest)} to go"

    return advance
