"""Tables of text for the terminal and for Markdown, made of rows of results."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results import Row
from structmat.kinds import kind_record

#: A cell of a row: the value under a key as text, or what a function makes of the row.
Cell = str | Callable[[Row], str]


@dataclass(frozen=True)
class Table:
    """A title, a sentence on how to read it, column headings, and rows of text.

    Cells may be bold, in Markdown's two asterisks.
    """

    title: str
    note: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Columns for the terminal, which shows nothing in bold."""
        if not self.rows:
            return f"{self.title}\n{self.note}"
        lines = [[cell.replace("**", "") for cell in row] for row in (self.headers, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        return "\n".join([self.title, *padded])

    def markdown(self) -> str:
        """Section of a page."""
        return f"### {self.title}\n\n{self.body()}"

    def body(self) -> str:
        """Sentence on how to read it and the cells, for a page."""
        if not self.rows:
            return f"{self.note}\n"
        lines = [self.headers, ["---"] * len(self.headers), *self.rows]
        cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
        body = "\n".join(f"| {' | '.join(line)} |" for line in cells)
        return f"{self.note}\n\n{body}\n"


def folded(title: str, text: str, stamp: str = "") -> str:
    """Part of a page that is closed until the reader opens it; `text` has no headings.

    `stamp` has the date and the commit of its figures.
    """
    shown = f"{title} <small>· {stamp}</small>" if stamp else title
    return f"<details>\n<summary>{shown}</summary>\n\n{text}\n</details>\n"


def listing(title: str, note: str, columns: Mapping[str, Cell], rows: Iterable[Row]) -> Table:
    """Table of one line a row."""
    lines = [[_shown(row, cell) for cell in columns.values()] for row in rows]
    return Table(title, note, list(columns), lines)


def pivot(
    title: str,
    note: str,
    index: Mapping[str, Cell],
    across: tuple[str, str],
    value: Callable[[Row], str],
    rows: Iterable[Row],
) -> Table:
    """Table of one line for each index, and one column for each value across.

    `across` names a key of the rows, and the column's heading with a place for its value;
    `value` makes a cell of a row.
    """
    key, heading = across
    lines: dict[tuple[str, ...], dict[float | str, str]] = {}
    for row in rows:
        line = tuple(_shown(row, cell) for cell in index.values())
        lines.setdefault(line, {})[row[key]] = value(row)
    order = sorted({column for cells in lines.values() for column in cells})
    body = [[*line, *(cells.get(c, "–") for c in order)] for line, cells in lines.items()]
    return Table(title, note, [*index, *(heading.format(c) for c in order)], body)


def _shown(row: Row, cell: Cell) -> str:
    return str(row[cell]) if isinstance(cell, str) else cell(row)


def left_out(rows: Iterable[Row], *names: str) -> str:
    """Sentence on the rows that were skipped and why, each once; empty if none was."""
    found = {
        f"{', '.join(str(row[name]) for name in names if name in row)} ({row['skipped']})": None
        for row in rows
        if "skipped" in row
    }
    return f" Left out: {'; '.join(found)}." if found else ""


def number(value: float | None, digits: int = 2) -> str:
    """Figure with this number of significant digits, or a dash."""
    if value is None:
        return "–"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10**digits:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """Fraction in per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.3g} %"


def budget(row: Row) -> str:
    """Budget of a row in per cent."""
    return percent(row["budget"])


def structure(row: Row) -> str:
    """Kind of a row, in words."""
    return kind_record(row["kind"]).label
