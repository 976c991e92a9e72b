"""Products with parts on workers: pieces of x out, sums of y back.

A sum is taken in the order of the parts, by groups of a few, so its bits depend neither on the
number of workers nor on where a task has run, or run again. Functions of pieces run on workers.
"""

from collections.abc import Hashable, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.contract.operand import multiplied
from structmat.distributed.graph import Graph
from structmat.distributed.part import Outline, Part, Parts, Range
from structmat.kernels.cpu.threads import one_thread

#: Rows of a chunk of a vector at least, and the most chunks.
CHUNK, CHUNKS = 2**18, 64
#: Pieces that one task adds up.
TOGETHER = 4


class Way(Enum):
    """A product with a matrix A, with A^H, or with A^H A where no row belongs to two parts."""

    PLAIN = "A"
    ADJOINT = "A^H"
    GRAM = "A^H A"

    def ranges(self, part: Outline) -> tuple[Range, Range]:
        """Rows of the operand that a part reads, and rows of the result that it adds to."""
        read = part.rows if self is Way.ADJOINT else part.cols
        return read, part.rows if self is Way.PLAIN else part.cols


class Piece(NamedTuple):
    """Rows of a product from a first one on, (p, k); all others are zero."""

    first: int
    rows: NDArray[Any]


class Vectors(NamedTuple):
    """Columns (n, k) in chunks of rows, by their ends and the keys of their tasks.

    A chunk is an array, or has one as its `rows`.
    """

    bounds: tuple[int, ...]
    chunks: tuple[Any, ...]

    def within(self, some: Range) -> tuple[int, tuple[Any, ...]]:
        """The chunks that hold a range of rows, and the place of its first row in them."""
        first, last = overlapping(self.bounds, some)
        return some[0] - self.bounds[first], self.chunks[first:last]


def overlapping(bounds: Sequence[int], some: Range) -> tuple[int, int]:
    """First chunk that holds rows of a range, and the end of them; at least one chunk.

    Examples
    --------
    >>> overlapping((0, 4, 8, 12), (5, 8)), overlapping((0, 4), (4, 4))
    ((1, 2), (0, 1))
    """
    count = len(bounds) - 1
    first = min(int(np.searchsorted(bounds, some[0], side="right")), count) - 1
    return first, max(int(np.searchsorted(bounds, some[1], side="left")), first + 1)


def even_bounds(n: int) -> tuple[int, ...]:
    """Ends of the chunks of n rows: a matter of n alone.

    Examples
    --------
    >>> even_bounds(400_000)
    (0, 200000, 400000)
    """
    count = min(max(-(-n // CHUNK), 1), CHUNKS)
    return tuple(n * i // count for i in range(count + 1))


def sent(graph: Graph, name: str, x: NDArray[Any]) -> Vectors:
    """Columns x (n, k) as tasks of their own, so that a lost chunk is sent again."""
    bounds = even_bounds(len(x))
    keys = [graph.add(name, [i], x[a:b]) for i, (a, b) in enumerate(pairwise(bounds))]
    return Vectors(bounds, tuple(keys))


def applied(parts: Parts, x: NDArray[Any], rows: int, way: Way) -> NDArray[Any]:
    """A product with columns (n, k) on this machine, by one graph; its result has `rows` rows."""
    graph = Graph(parts.client)
    pieces = product(graph, "multiply", parts, sent(graph, "send", x), way)
    (result,) = graph.run([graph.add("result", [], (rows_of, 0, rows, *pieces))])
    found: NDArray[Any] = result.result()
    return found


def product(
    graph: Graph, name: str, parts: Parts, x: Vectors, way: Way, *at: int
) -> list[Hashable]:
    """Keys of a few pieces whose sum is a product."""
    keys, every = [], zip(parts.futures, parts.outlines, graph.places(parts.futures), strict=True)
    for i, (part, outline, place) in enumerate(every):
        read, written = way.ranges(outline)
        first, chunks = x.within(read)
        task = (times_part, part, way, first, read[1] - read[0], written[0], *chunks)
        keys.append(graph.add(name, [*at, i], task, place))
    return _summed(graph, f"add-{name}", keys, at)


def _summed(graph: Graph, name: str, keys: list[Hashable], at: Sequence[int]) -> list[Hashable]:
    """Keys of at most `TOGETHER` pieces with the sum of many, by groups of neighbours."""
    level = 0
    while len(keys) > TOGETHER:
        groups = [keys[i : i + TOGETHER] for i in range(0, len(keys), TOGETHER)]
        keys = [graph.add(name, [*at, level, i], (added, *group)) for i, group in enumerate(groups)]
        level += 1
    return keys


def times_part(part: Part, way: Way, first: int, count: int, to: int, *chunks: Any) -> Piece:
    """The product of a part with `count` rows of the chunks, from row `first` on."""
    A, x = part.matrix, taken(first, count, *chunks)
    with one_thread():
        y = multiplied(A, x, adjoint=way is Way.ADJOINT)
        return Piece(to, multiplied(A, y, adjoint=True) if way is Way.GRAM else y)


def taken(first: int, count: int, *chunks: Any) -> NDArray[Any]:
    """Some rows of chunks that follow each other.

    Examples
    --------
    >>> taken(1, 2, np.ones((2, 1)), np.zeros((2, 1)))[:, 0]
    array([1., 0.])
    """
    rows = [getattr(chunk, "rows", chunk) for chunk in chunks]
    x = rows[0] if len(rows) == 1 else np.concatenate(rows)
    return x[first : first + count]


def added(*pieces: Piece) -> Piece:
    """The sum of pieces, one after another.

    Examples
    --------
    >>> added(Piece(2, np.ones((1, 1))), Piece(1, np.ones((2, 1)))).rows[:, 0]
    array([1., 2.])
    """
    first = min(piece.first for piece in pieces)
    last = max(piece.first + len(piece.rows) for piece in pieces)
    return Piece(first, rows_of(first, last, *pieces))


def piece_of(whole: Piece, first: int, last: int) -> Piece:
    """Rows `first` to `last` of a piece."""
    return Piece(first, rows_of(first, last, whole))


def rows_of(first: int, last: int, *pieces: Piece) -> NDArray[Any]:
    """Rows `first` to `last` of the sum of pieces, one after another.

    Examples
    --------
    >>> rows_of(0, 2, Piece(1, np.ones((2, 1))))[:, 0]
    array([0., 1.])
    """
    dtype = np.result_type(*(piece.rows for piece in pieces))
    total = np.zeros((last - first, pieces[0].rows.shape[1]), dtype)
    for begin, rows in pieces:
        low, high = max(first, begin), min(last, begin + len(rows))
        if low < high:
            total[low - first : high - first] += rows[low - begin : high - begin]
    return total
