"""Tables of results, as text for a terminal and as HTML for a notebook."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """A heading, rows of cells, and remarks below.

    The first column is aligned left, the others right. A row of two cells has a remark
    in place of its figures.

    Examples
    --------
    >>> table = Table(("kind", "cost"), [("gblr", "0.2"), ("low_rank", "none")], ["of m n"])
    >>> print(table.text())
    kind      cost
    --------------
    gblr       0.2
    low_rank  none
    of m n
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Lines of a fixed width."""
        full = [self.head, *(row for row in self.rows if len(row) == len(self.head))]
        widths = [max(map(len, column)) for column in zip(*full, strict=True)]
        widths[0] = max(widths[0], *(len(row[0]) for row in self.rows), 0)

        def line(cells: Sequence[str]) -> str:
            first = f"{cells[0]:<{widths[0]}}"
            if len(cells) < len(self.head):
                return "  ".join([first, *cells[1:]])
            rest = zip(cells[1:], widths[1:], strict=True)
            return "  ".join([first, *(f"{cell:>{width}}" for cell, width in rest)])

        head = line(self.head)
        return "\n".join([head, "-" * len(head), *map(line, self.rows), *self.notes])

    def html(self, pictures: Sequence[str] = ()) -> str:
        """A table element, with a picture at the end of each row; pictures are HTML."""
        head = _heading(self.head[0]) + "".join(_heading(text, "right") for text in self.head[1:])
        head += "<th>blocks</th>" if pictures else ""
        lines = []
        for i, row in enumerate(self.rows):
            span = len(self.head) - len(row) + 1
            cells = _heading(row[0]) + "".join(_cell(text) for text in row[1:-1])
            cells += _cell(row[-1], span) + (f"<td>{pictures[i]}</td>" if pictures else "")
            lines.append(f"<tr>{cells}</tr>")
        notes = "".join(f"<div><small>{escape(note)}</small></div>" for note in self.notes)
        return (
            f"<div><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
            f"{notes}</div>"
        )


def _heading(text: str, side: str = "left") -> str:
    return f'<th style="text-align:{side}">{escape(text)}</th>'


def _cell(text: str, span: int = 1) -> str:
    if span == 1:
        return f'<td style="text-align:right">{escape(text)}</td>'
    return f'<td colspan="{span}" style="text-align:left;max-width:24em">{escape(text)}</td>'
