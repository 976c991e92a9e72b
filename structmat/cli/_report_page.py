"""The pages of `structmat report`: one of a matrix, one of the layers of a network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from structmat._html import blocks_svg, matrix_facts, operands_html
from structmat._markup import Markup, document, element, section, table
from structmat.matrix import StructuredMatrix

#: Pixels a side of the picture of one matrix, and its length on the page.
_PIXELS, _SIDE = 192, 480
#: Pictures, and rows of other tensors, that a page has at most.
_MOST_PICTURES, _MOST_TENSORS = 400, 1000


@dataclass(frozen=True)
class Row:
    """One layer of a network, as the page shows it.

    Attributes
    ----------
    name : str
        Its path, with further ones behind it where it stands at several places.
    kind : str
    shape : tuple of int
    cost, storage, dense : int
        Multiplications for one vector, scalars, and either of a dense weight.
    learns : bool
        Whether its structure still learns.
    pictures : sequence of Markup
        Pictures of its blocks.

    Examples
    --------
    >>> Row("fc", "gblr", (8, 16), cost=32, storage=32, dense=128).cost
    32
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    cost: int
    storage: int
    dense: int
    learns: bool = False
    pictures: Sequence[Markup] = field(default=(), repr=False)


def matrix_page(
    name: str, A: StructuredMatrix, notes: Mapping[str, Any], file: Mapping[str, str]
) -> str:
    """The page of one matrix: its facts, its blocks, its operands, and the file.

    Examples
    --------
    >>> import structmat
    >>> page = matrix_page("swap.npz", structmat.Permutation([1, 0]), {}, {"bytes": "1,024"})
    >>> page.count("<svg"), "<script" in page
    (1, False)
    """
    facts = {**matrix_facts(A), **error_facts(notes)}
    del facts["library"]  # of every file NumPy
    error = f", with a relative error of {notes['error']:.3g}" if "error" in notes else ""
    m, n = A.shape
    lead = (
        f"A {m} x {n} matrix of kind {A.kind} that multiplies with {percent(A.cost, m * n)} of the "
        f"cost of a dense one, and stores {percent(A.storage, m * n)} of its numbers{error}."
    )
    picture = element("div", blocks_svg(A, pixels=_PIXELS, side=_SIDE), class_="pictures")
    caption = "The stronger its colour, the more blocks of rank one cover a point."
    return document(
        f"structmat report: {name}",
        element("h1", name),
        element("p", lead, class_="lead"),
        section("Facts", _facts("Cost is the number of multiplications of one matvec.", facts)),
        section("Blocks", element("figure", picture, element("figcaption", caption))),
        section("Operands", operands_html(A)) if A.children else Markup(),
        section("This file", _facts("What was read, and by which versions.", file)),
    )


def model_page(
    name: str,
    rows: Sequence[Row],
    others: Mapping[str, tuple[tuple[int, ...], str]],
    file: Mapping[str, str],
) -> str:
    """The page of a network: its structured layers with their blocks, other tensors, and the file.

    Examples
    --------
    >>> row = Row("fc", "gblr", (8, 16), cost=32, storage=64, dense=128)
    >>> "25.00" in model_page("model.safetensors", [row], {}, {"bytes": "1,024"})
    True
    """
    return document(
        f"structmat report: {name}",
        element("h1", name),
        element("p", _lead(rows), class_="lead"),
        section("Layers", _layers(rows)) if rows else Markup(),
        _pictures(rows),
        _others(others),
        section("This file", _facts("What was read, and by which versions.", file)),
    )


def error_facts(notes: Mapping[str, Any]) -> dict[str, str]:
    """The error that a file holds, as texts by name; empty for one that holds none."""
    if "error" not in notes:
        return {}
    kept = f", {notes['estimate']}" if "estimate" in notes else ""
    return {"error": f"{notes['error']:.3g} (relative, in the Frobenius norm{kept})"}


def totals(rows: Iterable[Row]) -> dict[str, int]:
    """Cost, storage and either of dense weights, summed over layers."""
    rows = list(rows)
    return {key: sum(getattr(row, key) for row in rows) for key in ("cost", "storage", "dense")}


def percent(part: int, whole: int) -> str:
    """A share in percent.

    Examples
    --------
    >>> print(percent(1, 8))
    12.50%
    """
    return f"{part / max(whole, 1):.2%}"


def _lead(rows: Sequence[Row]) -> str:
    if not rows:
        return "There is no structured layer in this file: all of its tensors are dense."
    sums, learning = totals(rows), sum(row.learns for row in rows)
    cost, storage = (percent(sums[key], sums["dense"]) for key in ("cost", "storage"))
    many = (
        f"{len(rows)} structured layers multiply" if rows[1:] else "A structured layer multiplies"
    )
    told = (
        f"{many} with {cost} of the cost of dense weights; {storage} of their numbers are stored."
    )
    return f"{told} Layers that still learn their structure: {learning}." if learning else told


def _layers(rows: Sequence[Row]) -> Markup:
    columns = ["Layer", "Multiplications", "of dense", "Scalars", "of dense"]
    cells = [[_named(row), *_sizes(row.cost, row.storage, row.dense)] for row in rows]
    sums = totals(rows)
    total = ["together", *_sizes(sums["cost"], sums["storage"], sums["dense"])]
    caption = (
        "Multiplications for one vector, and stored scalars without biases. A layer at several "
        "places counts once."
    )
    return table(caption, columns, cells, total=total if len(rows) > 1 else None)


def _named(row: Row) -> Markup:
    """Name of a layer, with its kind and its shape below."""
    learning = ", learning" if row.learns else ""
    about = f"{row.kind}{learning}, {_shape(row.shape)}"
    return Markup(element("span", row.name) + element("small", about))


def _sizes(cost: int, storage: int, dense: int) -> list[str]:
    return [f"{cost:,}", _bar(cost, dense), f"{storage:,}", _bar(storage, dense)]


def _bar(part: int, whole: int) -> Markup:
    share = min(100 * part / max(whole, 1), 100)
    return element("span", percent(part, whole), class_="bar", style=f"--share:{share:.4g}%")


def _pictures(rows: Sequence[Row]) -> Markup:
    figures, left = [], _MOST_PICTURES
    for row in rows:
        if len(row.pictures) <= left:
            left -= len(row.pictures)
            shown = element("div", *row.pictures, class_="pictures")
            figures.append(element("figure", shown, element("figcaption", _named(row))))
    if not figures:
        return Markup()
    text = "The stronger its colour, the more blocks of rank one cover a point."
    if len(figures) < len(rows):
        text += f" These are the first {len(figures)} of {len(rows)} layers."
    return section("Blocks", element("p", text), element("div", *figures, class_="grid small"))


def _others(others: Mapping[str, tuple[tuple[int, ...], str]]) -> Markup:
    if not others:
        return Markup()
    rows = [[name, _shape(shape), dtype] for name, (shape, dtype) in others.items()]
    caption = "Biases and norms, embeddings, and layers that are dense."
    if len(rows) > _MOST_TENSORS:
        caption += f" These are the first {_MOST_TENSORS:,}."
    shown = table(caption, ["Tensor", "Shape", "Dtype"], rows[:_MOST_TENSORS])
    name = f"{len(rows):,} tensors outside of structured layers"
    return section("Other tensors", element("details", element("summary", name), shown))


def _shape(shape: Sequence[int]) -> str:
    return "\u00a0x\u00a0".join(map(str, shape)) or "one number"


def _facts(caption: str, facts: Mapping[str, str]) -> Markup:
    return table(caption, ["Fact", "Value"], [list(fact) for fact in facts.items()], class_="facts")
