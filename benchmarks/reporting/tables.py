"""Tables for the terminal and for Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.results import Row


@dataclass(frozen=True)
class Table:
    """A title, a sentence on how to read it, column headings, and rows of text."""

    title: str
    note: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """In columns, for the terminal."""
        if not self.rows:
            return f"{self.title}\n{self.note}"
        lines = [list(self.headers), *map(list, self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        return "\n".join([self.title, *padded])

    def markdown(self) -> str:
        """As a section of a page."""
        lines = [self.headers, ["---"] * len(self.headers), *self.rows]
        if not self.rows:
            return f"### {self.title}\n\n{self.note}\n"
        body = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        return f"### {self.title}\n\n{self.note}\n\n{body}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def left_out(rows: Iterable[Row], *names: str) -> str:
    """A sentence on what was skipped and why, each once; nothing if nothing was."""
    found = {
        f"{', '.join(str(row[name]) for name in names if name in row)} ({row['skipped']})": None
        for row in rows
        if "skipped" in row
    }
    return f" Left out: {'; '.join(found)}." if found else ""


def number(value: float | None, digits: int = 2) -> str:
    """A figure with so many significant digits, or a dash."""
    if value is None:
        return "–"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10**digits:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """A fraction in per cent."""
    return "–" if value is None else f"{100 * value:.3g} %"


def pivot(
    rows: Iterable[Row], index: Sequence[str], across: str, value: Any
) -> tuple[list[str], list[list[str]]]:
    """Headings and lines with one column for each value of `across`; `value` makes a cell."""
    lines: dict[tuple[Any, ...], dict[Any, str]] = {}
    columns: set[Any] = set()
    for row in rows:
        lines.setdefault(tuple(row[key] for key in index), {})[row[across]] = value(row)
        columns.add(row[across])
    order = sorted(columns)
    headers = [*index, *(f"{across} = {column}" for column in order)]
    body = [[*map(str, key), *(line.get(c, "–") for c in order)] for key, line in lines.items()]
    return headers, body
