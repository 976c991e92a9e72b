"""Bytes that products move, counted from the ranges of parts and the places where they lie."""

from collections import Counter
from collections.abc import Sequence

from structmat.distributed.part import Outline, Range
from structmat.distributed.product import TOGETHER, Way, even_bounds, overlapping

#: A piece of a product: the worker that holds it, and its rows.
Held = tuple[str | None, Range]


def rows_moved(outlines: Sequence[Outline], places: Sequence[str | None], n: int) -> int:
    """Rows of vectors that a product A x moves, of columns of n rows in x.

    Each chunk of x goes once to every worker that reads rows of it. Pieces of A x are added up
    where most of their rows are, and the sum goes to the machine of the client.

    Examples
    --------
    >>> import structmat
    >>> from structmat.distributed.part import Part
    >>> outline = Part((0, 2), (0, 2), structmat.Permutation([1, 0])).outline
    >>> rows_moved([outline], ["one"], 2), rows_moved([outline, outline], ["one", "two"], 2)
    (4, 8)
    """
    bounds = even_bounds(n)
    reads = {
        (place, chunk)
        for outline, place in zip(outlines, places, strict=True)
        for chunk in range(*overlapping(bounds, Way.PLAIN.ranges(outline)[0]))
    }
    moved = sum(bounds[chunk + 1] - bounds[chunk] for _, chunk in reads)
    pieces = [(place, outline.rows) for outline, place in zip(outlines, places, strict=True)]
    while len(pieces) > 1:
        groups = [pieces[i : i + TOGETHER] for i in range(0, len(pieces), TOGETHER)]
        sums = [_added(group) for group in groups]
        moved += sum(rows for _, rows in sums)
        pieces = [piece for piece, _ in sums]
    return moved + sum(b - a for _, (a, b) in pieces)


def _added(pieces: list[Held]) -> tuple[Held, int]:
    """The sum of pieces where most of their rows are, and the rows that move there."""
    rows: Counter[str | None] = Counter()
    for place, (a, b) in pieces:
        rows[place] += b - a
    (most, stay), *_ = rows.most_common(1)
    hull = min(a for _, (a, _) in pieces), max(b for _, (_, b) in pieces)
    return (most, hull), rows.total() - stay
