"""HTML of a matrix for notebooks: a table of facts beside a picture of its blocks."""

import math
from collections.abc import Mapping
from html import escape

import numpy as np

from structmat import _array
from structmat._coverage import coverage
from structmat.matrix import StructuredMatrix

#: Pixels a side of the picture at most.
_PIXELS = 96
#: Length of the longer side on the page, in CSS pixels.
_SIDE = 160
#: Shades between one block on an entry and the most.
_SHADES = 5
#: A matrix of more entries is drawn only if its kind knows its blocks.
_DENSE_ENTRIES = 2**20


def matrix_html(A: StructuredMatrix) -> str:
    """A table of the facts of a matrix, with the picture of its blocks, as HTML.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> "<svg" in matrix_html(A) and "LowRank" in matrix_html(A)
    True
    """
    m, n = A.shape
    facts = {
        "shape": f"{m} x {n}",
        "kind": A.kind,
        "dtype": str(A.dtype),
        "library": f"{_array.backend_name(A.xp)}, {A.device}",
        "cost": f"{A.cost:,} ({A.relative_cost:.2%} of dense)",
        "storage": f"{A.storage:,} ({A.relative_storage:.2%} of dense)",
    }
    table = facts_html(type(A).__name__, facts)
    return f'<div style="display:flex;gap:1em;align-items:center">{table}{blocks_svg(A)}</div>'


def facts_html(title: str, facts: Mapping[str, str]) -> str:
    """A table of names and values, as HTML.

    Examples
    --------
    >>> "<td" in facts_html("Matrix", {"shape": "3 x 2"})
    True
    """
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"


def blocks_svg(A: StructuredMatrix) -> str:
    """Picture of the blocks of a matrix as one inline ``<svg>`` element.

    An entry is the darker the more rank-one blocks cover it. A large matrix of a kind
    without blocks is an empty frame, since its entries would have to be computed.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> blocks_svg(structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))).count("<path")
    1
    """
    count = coverage(A, _PIXELS, most_entries=_DENSE_ENTRIES)
    high, wide = count.shape
    most = max(int(count.max(initial=0)), 1)
    shade = np.ceil(count * min(most, _SHADES) / most).astype(np.int64)
    levels = min(most, _SHADES)
    paths = "".join(_path(shade == level, level / levels) for level in range(1, levels + 1))
    (m, n), scale = A.shape, _SIDE / max(*A.shape, 1)
    width, height = (max(round(size * scale), 8) for size in (n, m))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {wide} {high}" preserveAspectRatio="none" shape-rendering="crispEdges" '
        f'style="outline:1px solid #888;color:#0072B2">'
        f"<title>{escape(f'{type(A).__name__} {m}x{n}')}</title>{paths}</svg>"
    )


def _path(mask: np.ndarray, strength: float) -> str:
    """Pixels of a mask as one path of horizontal bars; empty if there are none."""
    edge = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, starts), (_, ends) = np.nonzero(edge == 1), np.nonzero(edge == -1)
    if not rows.size:
        return ""
    bars = "".join(
        f"M{start} {row}h{end - start}v1h{start - end}z"
        for row, start, end in zip(rows, starts, ends, strict=True)
    )
    return f'<path fill="currentColor" fill-opacity="{math.sqrt(strength):.2f}" d="{bars}"/>'
