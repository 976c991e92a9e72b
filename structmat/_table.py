"""Tables of results, as text for a terminal and as HTML for a notebook."""

from collections.abc import Sequence
from dataclasses import dataclass

from structmat._markup import Markup, element


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

    def html(self, pictures: Sequence[str] = ()) -> Markup:
        """A table element, with a picture at the end of each row; pictures are HTML."""
        head = [_heading(self.head[0]), *(_heading(text, "right") for text in self.head[1:])]
        head += [element("th", "blocks")] if pictures else []
        lines = []
        for i, row in enumerate(self.rows):
            span = len(self.head) - len(row) + 1
            cells = [_heading(row[0]), *map(_cell, row[1:-1]), _cell(row[-1], span)]
            cells += [element("td", Markup(pictures[i]), style="min-width:8em")] if pictures else []
            lines.append(element("tr", *cells))
        parts = element("thead", element("tr", *head)), element("tbody", *lines)
        notes = [element("div", element("small", note)) for note in self.notes]
        return element("div", element("table", *parts), *notes, style="overflow-x:auto")


def _heading(text: str, side: str = "left") -> Markup:
    return element("th", text, style=f"text-align:{side};padding:0.2em 0.6em")


def _cell(text: str, span: int = 1) -> Markup:
    if span == 1:
        style = "text-align:right;white-space:nowrap;padding:0.2em 0.6em"
        return element("td", text, style=style)
    return element("td", text, colspan=str(span), style="text-align:left;max-width:24em")
