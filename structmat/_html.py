"""HTML of a matrix for notebooks: facts, a picture of its blocks, and the tree of its operands."""

import math
from collections import deque

import numpy as np

from structmat import _array
from structmat._coverage import coverage
from structmat._markup import Markup, amount, card, element
from structmat.matrix import StructuredMatrix

#: Pixels a side of the picture at most.
_PIXELS = 96
#: Length of the longer side on the page, in CSS pixels: of one picture, and of many in a table.
_SIDE, SMALL = 160, 96
#: Shades between one block on an entry and the most.
_SHADES = 5
#: A matrix of more entries is drawn only if its kind knows its blocks.
_DENSE_ENTRIES = 2**20
#: Operands that a tree shows, in all and below one of them.
_MOST_OPERANDS, _MOST_BELOW = 24, 6
#: A blue that stands out from white and from black; a page may set another one.
_BLUE = "var(--structmat-blocks, #1f86c9)"

_Place = tuple[int, ...]


def matrix_html(A: StructuredMatrix) -> Markup:
    """The facts of a matrix beside the picture of its blocks, and its operands if it has any.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> "<svg" in matrix_html(A) and "LowRank" in matrix_html(A)
    True
    """
    shown = card(type(A).__name__, matrix_facts(A), [blocks_svg(A)])
    return element("div", shown, operands_html(A)) if A.children else shown


def matrix_facts(A: StructuredMatrix) -> dict[str, str]:
    """Shape, kind, dtype, place, cost and storage of a matrix, as texts by name."""
    m, n = A.shape
    return {
        "shape": f"{m} x {n}",
        "kind": A.kind,
        "dtype": str(A.dtype),
        "library": f"{_array.backend_name(A.xp)}, {A.device}",
        "cost": amount(A.cost, m * n),
        "storage": amount(A.storage, m * n),
    }


def operands_html(A: StructuredMatrix) -> Markup:
    """The operands of a lazy matrix and theirs, as a tree of bounded size; empty without any.

    The operands nearest to the matrix come first. Left-out ones are counted.

    Examples
    --------
    >>> import structmat
    >>> D = structmat.Diagonal([1.0, 2.0])
    >>> operands_html(D + structmat.Permutation([1, 0])).count("<li>")
    2
    """
    shown: dict[_Place, list[StructuredMatrix]] = {}
    waiting: deque[tuple[_Place, StructuredMatrix]] = deque([((), A)])
    room = _MOST_OPERANDS
    while waiting:
        place, B = waiting.popleft()
        shown[place] = list(B.children[: min(room, _MOST_BELOW)])
        room -= len(shown[place])
        waiting += [((*place, i), child) for i, child in enumerate(shown[place])]
    return _branch((), A, shown)


def _branch(
    place: _Place, A: StructuredMatrix, shown: dict[_Place, list[StructuredMatrix]]
) -> Markup:
    """A list of the operands that are shown below one place of the tree."""
    if not A.children:
        return Markup()
    lines = [
        element("li", _line(child), _branch((*place, i), child, shown))
        for i, child in enumerate(shown[place])
    ]
    left = len(A.children) - len(lines)
    lines += [element("li", f"… {left} more")] if left else []
    return element("ul", *lines, style="margin:0.2em 0;padding-left:1.4em;list-style:disc")


def _line(A: StructuredMatrix) -> Markup:
    m, n = A.shape
    facts = f" {m} x {n}, {A.kind}: cost {A.cost:,}, storage {A.storage:,}"
    return Markup(element("strong", type(A).__name__) + element("span", facts))


def blocks_svg(
    A: StructuredMatrix, title: str = "", *, side: int = _SIDE, pixels: int = _PIXELS
) -> Markup:
    """Picture of the blocks of a matrix as one inline ``<svg>`` element.

    An entry is the darker the more rank-one blocks cover it. A large matrix of a kind
    without blocks is an empty frame, since its entries would have to be computed.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> blocks_svg(structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))).count("<path")
    1
    """
    count = coverage(A, pixels, most_entries=_DENSE_ENTRIES)
    high, wide = count.shape
    most = max(int(count.max(initial=0)), 1)
    levels = min(most, _SHADES)
    shade = np.ceil(count * levels / most).astype(np.int64)
    paths = [_path(shade == level, level / levels) for level in range(1, levels + 1)]
    (m, n), scale = A.shape, side / max(*A.shape, 1)
    width, height = (max(round(size * scale), 8) for size in (n, m))
    return element(
        "svg",
        element("title", title or f"{type(A).__name__} {m}x{n}"),
        *paths,
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        width=str(width),
        height=str(height),
        viewBox=f"0 0 {wide} {high}",
        preserveAspectRatio="none",
        shape_rendering="crispEdges",
        style=f"max-width:100%;height:auto;aspect-ratio:{width}/{height};"
        f"outline:1px solid #888;color:{_BLUE}",
    )


def _path(mask: np.ndarray, strength: float) -> Markup:
    """Pixels of a mask as one path of horizontal bars; empty if there are none."""
    edge = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, starts), (_, ends) = np.nonzero(edge == 1), np.nonzero(edge == -1)
    if not rows.size:
        return Markup()
    bars = "".join(
        f"M{start} {row}h{end - start}v1h{start - end}z"
        for row, start, end in zip(rows, starts, ends, strict=True)
    )
    return element("path", fill="currentColor", fill_opacity=f"{math.sqrt(strength):.2f}", d=bars)
