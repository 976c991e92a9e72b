"""Sparse factors as lines of packed contents, read where they stand.

Plain NumPy on the host: layouts are structure. Contents lie in *pieces*, stretches of one line of
a factor: of a column, as the runs of GBLR, or of a row, as those of a block or tile. A product
that sums along the lines (`dot`) takes the pieces of each line; one across them (`add`) takes the
pieces that meet a window of positions. Either reads every scalar once and no other number, and
the contents need no copy.
"""

from dataclasses import dataclass

import numpy as np

from structmat.intervals import IntArray, coarse_runs, offsets, positions
from structmat.kernels.layouts.batches import coordinates
from structmat.kernels.layouts.panels import Pattern, RunPattern
from structmat.kernels.layouts.strips import Strips

#: Positions of a window: two reads of a memory sector in 16 bits, four in 32.
WINDOW = 32
#: Multiple of all places, positions and lengths that lets a thread read 16 bytes at a time.
GRAIN = 8


@dataclass(frozen=True)
class LineLayout:
    """Pieces of the packed contents of a sparse factor, sorted by line.

    Examples
    --------
    >>> layout = run_lines(np.array([2, 0]), np.array([2, 1]), 3)
    >>> layout.base, layout.line, layout.first, layout.length
    (array([0, 2]), array([0, 1]), array([2, 0]), array([2, 1]))
    """

    #: Number of lines, and of the positions on each, a circle.
    lines: int
    along: int
    #: For each piece: its place in the contents, line, first position and length.
    base: IntArray
    line: IntArray
    first: IntArray
    length: IntArray
    #: Index of each piece among the numbers that its products are multiplied by.
    scale: IntArray

    @property
    def begin(self) -> IntArray:
        """First piece of each line, and the end of the last one."""
        return offsets(np.bincount(self.line, minlength=self.lines))

    def windows(self, window: int = WINDOW) -> tuple[IntArray, IntArray]:
        """Offsets of each window's pieces in a list, and the list, in the order of lines."""
        runs = coarse_runs(self.first, self.length, self.along, window)
        count = -(-self.along // window)
        owner = np.repeat(np.arange(self.base.size), runs[1])
        at = positions(*runs, count)
        order = np.argsort(at, kind="stable")
        return offsets(np.bincount(at, minlength=count)), owner[order]

    @property
    def grain(self) -> int:
        """`GRAIN` if it divides all places, positions and lengths, else 1."""
        places = (self.base, self.first, self.length, np.array([self.along]))
        return 1 if any((a % GRAIN).any() for a in places) else GRAIN

    @property
    def mean(self) -> int:
        """Mean length of a piece, rounded up; 1 where there is none."""
        return max(1, -(-int(self.length.sum()) // max(self.length.size, 1)))


def run_lines(
    start: IntArray, width: IntArray, n: int, *, line: IntArray | None = None, lines: int = -1
) -> LineLayout:
    """Lines of cyclic runs: run k on line k, or on `line[k]` of a number of `lines`."""
    alive = np.flatnonzero(width > 0)
    line = np.arange(width.size) if line is None else line
    alive = alive[np.argsort(line[alive], kind="stable")]
    lines = width.size if lines < 0 else lines
    base = offsets(width)[alive]
    return LineLayout(lines, n, base, line[alive], start[alive], width[alive], alive)


def row_lines(pattern: Pattern, total: int) -> LineLayout:
    """Lines of a factor that is stored by rows: stretches of consecutive columns."""
    rows, cols = coordinates(pattern, total)
    m, n = pattern.shape
    inside = np.flatnonzero((rows < m) & (cols < n))
    r, c = rows[inside], cols[inside]
    new = np.ones(inside.size, bool)
    new[1:] = (np.diff(inside) != 1) | (np.diff(r) != 0) | (np.diff(c) != 1)
    starts = np.flatnonzero(new)
    length = np.diff(np.append(starts, inside.size))
    order = np.argsort(r[starts], kind="stable")
    starts, length = starts[order], length[order]
    scale = np.arange(starts.size)
    return LineLayout(m, n, inside[starts], r[starts], c[starts], length, scale)


def lines_of(pattern: Pattern, total: int) -> tuple[LineLayout, bool]:
    """Lines of a pattern, and whether they are its columns."""
    if isinstance(pattern, RunPattern):
        return run_lines(pattern.start, pattern.width, pattern.n), True
    return row_lines(pattern, total), False


def strip_lines(strips: Strips) -> LineLayout:
    """Lines of strips, with contents of their runs, multiplied by the single samples."""
    runs, lines = strips.runs, strips.structure.shape[strips.side]
    return run_lines(runs.start, runs.width, runs.n, line=strips.line, lines=lines)
