"""Elements of HTML, cards for notebooks, and self-contained pages.

All text is escaped but `Markup`. A card goes into a page of somebody else: it has its style on
its elements, and no colours of its own, so that it takes those of a light or a dark notebook.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

# No script runs and nothing is fetched, whatever the text on the page says.
_HEAD = """<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
"""
_CSS = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5b6670; --line: #d8dee4;
  --paper: #ffffff; --shade: #f4f6f8; --accent: #a84300; --structmat-blocks: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #a3adb6; --line: #39424b; --paper: #14181c;
    --shade: #1e242a; --accent: #ff9a52; --structmat-blocks: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1, .lead { overflow-wrap: anywhere; }
h1 { margin: 0 0 .5rem; font-size: 1.9rem; line-height: 1.2; }
h2 { margin: 3rem 0 .75rem; font-size: 1.3rem; }
.lead { margin: 0; font-size: 1.15rem; border-left: .25rem solid var(--accent);
  padding-left: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; max-width: calc(100vw - 2.5rem); }
caption, figcaption { color: var(--soft); font-size: .875rem; padding-top: .5rem; }
th, td { padding: .4rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
thead th { vertical-align: bottom; white-space: normal; font-size: .875rem;
  border-bottom-width: 2px; }
th:first-child { text-align: left; padding-left: .25rem; }
tbody th { font-weight: 600; }
tbody tr:hover { background: var(--shade); }
td small { display: inline-block; min-width: 4.4em; margin-left: 0.4em; color: var(--soft); }
tbody th small { display: block; font-weight: 400; color: var(--soft); }
.facts { width: auto; }
.facts :is(th, td) { text-align: left; }
.facts td { white-space: normal; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0 0; }
img { display: block; width: 100%; height: auto; }
svg { display: block; }
summary { cursor: pointer; margin-bottom: .75rem; }
summary:focus-visible, .wide:focus-visible { outline: 2px solid var(--accent); }
tbody tr.total :is(th, td) { border-width: 2px 0 0; border-top: 2px solid var(--line);
  font-weight: 600; }
.bar { display: block; min-width: 5em; padding-bottom: .3rem; background:
  linear-gradient(to right, var(--structmat-blocks) var(--share), var(--line) var(--share))
  left bottom / 100% .2rem no-repeat; }
.grid { display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.grid figure { margin: 0; border: 1px solid var(--line); border-radius: .5rem;
  overflow: hidden; }
.grid figcaption { padding: .6rem .8rem; overflow-wrap: anywhere; }
.grid strong, .small figcaption span { display: block; color: var(--ink); }
.small figcaption span { font-weight: 600; }
.small figcaption small { font-size: inherit; }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(min(13rem, 100%), 1fr));
  align-items: start; }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center;
  justify-content: center; align-content: center; min-height: 12rem; padding: 1rem;
  background: var(--shade); }
@media (max-width: 40rem) {
  table { font-size: .875rem; }
  th, td { padding: .35rem .5rem; }
  tbody th { min-width: 8rem; white-space: normal; overflow-wrap: anywhere; }
}
"""


class Markup(str):
    """Text that is HTML and needs no escape."""


def amount(count: int, dense: int, of: str = " of dense") -> str:
    """A number with the share that it is of the dense matrix's.

    Examples
    --------
    >>> amount(1200, 4800), amount(1200, 4800, of="")
    ('1,200 (25.00% of dense)', '1,200 (25.00%)')
    """
    return f"{count:,} ({count / max(dense, 1):.2%}{of})"


def element(name: str, *children: str, **attributes: str) -> Markup:
    """Element; an attribute loses a trailing underscore, and others become hyphens."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"' for key, text in attributes.items()
    )
    inside = "".join(c if isinstance(c, Markup) else escape(c) for c in children)
    return Markup(f"<{name}{written}>{inside}</{name}>")


def card(title: str, facts: Mapping[str, str], pictures: Iterable[str] = ()) -> Markup:
    """Facts by name beside pictures, for a notebook; pictures are HTML.

    Examples
    --------
    >>> card("LowRank", {"shape": "3 x 2"})[:38]
    '<div style="display:flex;flex-wrap:wra'
    """
    left = "text-align:left;vertical-align:top;padding:0.1em 1em 0.1em 0"
    rows = [
        element("tr", element("th", name, style=left), element("td", value, style=left))
        for name, value in facts.items()
    ]
    name = element("caption", title, style="text-align:left;font-weight:bold;color:inherit")
    shown = element("table", name, *rows)
    flex = "display:flex;flex-wrap:wrap;align-items:center"
    side = element(
        "div", *map(Markup, pictures), style=f"{flex};gap:0.5em;flex:1 1 0;min-width:12em"
    )
    return element("div", shown, side, style=f"{flex};gap:1em")


def image(source: str, description: str, *caption: str) -> Markup:
    """Picture with a description for those who do not see it, and a caption."""
    picture = Markup(f'<img src="{escape(source)}" alt="{escape(description)}">')
    return element("figure", picture, element("figcaption", *caption))


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    total: Sequence[str] | None = None,
    class_: str = "numbers",
) -> Markup:
    """Table whose first column names the rows, with sums below; a wide table scrolls."""
    head = [element("tr", *(element("th", name, scope="col") for name in columns))]
    body = [_row(row) for row in rows]
    body += [] if total is None else [_row(total, class_="total")]
    inside = [element("caption", caption), element("thead", *head), element("tbody", *body)]
    whole = element("table", *inside, class_=class_)
    return element("div", whole, class_="wide", role="region", aria_label=caption, tabindex="0")


def _row(cells: Sequence[str], **attributes: str) -> Markup:
    first, *rest = cells
    inside = element("th", first, scope="row"), *(element("td", cell) for cell in rest)
    return element("tr", *inside, **attributes)


def section(title: str, *children: str) -> Markup:
    """Section under its heading."""
    name = title.lower().replace(" ", "-")
    return element("section", element("h2", title, id=name), *children, aria_labelledby=name)


def document(title: str, *children: str) -> str:
    """Whole page."""
    head = element("title", title) + element("style", Markup(_CSS))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{_HEAD}{head}\n</head>\n'
        f"<body>\n{element('main', *children)}\n</body>\n</html>\n"
    )
