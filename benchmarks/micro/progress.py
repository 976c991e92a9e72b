"""Progress on a terminal, and silence in a pipe."""

import importlib
import sys
from types import TracebackType
from typing import Any, Self


class Progress:
    """Counter of steps: a tqdm bar if tqdm is installed, otherwise a line a step."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0
        self.shown = sys.stderr.isatty()
        self.bar: Any = None

    def __enter__(self) -> Self:
        if self.shown:
            try:
                tqdm = importlib.import_module("tqdm")
            except ImportError:
                return self
            self.bar = tqdm.tqdm(total=self.total, desc=self.title, file=sys.stderr)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self, text: str) -> None:
        """Show the next step."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif self.shown:
            print(f"{self.title} {self.done}/{self.total}: {text}", file=sys.stderr)
