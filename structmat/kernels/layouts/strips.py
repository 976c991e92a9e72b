"""Matrices of strips, whose blocks are all one sample wide on a side, as one sparse matrix.

Two factors would write the numbers between them and read them again. The single samples of one
side are multiplied into the contents of the other instead.
"""

from dataclasses import dataclass

import numpy as np

from structmat._array import Array, conj, integers, taken
from structmat.intervals import IntArray, positions
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import RunPattern
from structmat.kernels.layouts.tiles import run_order


@dataclass(frozen=True, eq=False)
class Strips:
    """Strips of a matrix A, (m, n): each a run along one of its rows or columns.

    Attributes
    ----------
    side : int
        Side on which the strips are one sample wide: 0 for strips along rows of A.
    line : ndarray of int
        The row of each strip, or its column.
    runs : RunPattern
        The runs of the strips on the other side.
    repeats : array of int
        Length of each strip, on the device.
    """

    structure: FactorStructure
    side: int
    line: IntArray
    runs: RunPattern
    repeats: Array

    @classmethod
    def of(cls, structure: FactorStructure) -> "Strips | None":
        """The strips of a matrix; None for one of other blocks."""
        row, col = structure.row, structure.col
        if not (isinstance(row, RunPattern) and isinstance(col, RunPattern)):
            return None
        for side, (single, other) in enumerate(((row, col), (col, row))):
            if single.width.size and (single.width == 1).all():
                repeats = integers(other.width, structure.xp, structure.device)
                return cls(structure, side, single.start, other, repeats)
        return None

    @classmethod
    def apart(cls, structure: FactorStructure) -> "Strips | None":
        """The strips of a matrix if no two of them share an entry, which one matrix can hold."""

        def found() -> Strips | None:
            strips = cls.of(structure)
            if strips is None:
                return None
            across, along = strips.places
            entries = np.sort(across * strips.runs.n + along)
            return strips if (entries[1:] != entries[:-1]).all() else None

        return structure.kept("strips apart", found)

    @property
    def places(self) -> tuple[IntArray, IntArray]:
        """Line of each packed scalar, and position along it."""
        runs = self.runs
        along = positions(runs.start, runs.width, runs.n)
        return np.repeat(self.line, runs.width), along

    @property
    def coordinates(self) -> tuple[IntArray, IntArray]:
        """Row and column of each packed scalar in A."""
        across, along = self.places
        return (across, along) if self.side == 0 else (along, across)

    @property
    def order(self) -> IntArray | None:
        """An order of all lines in which neighbours meet the same positions, if lines are single.

        None where a line has several strips.
        """
        lines = self.structure.shape[self.side]
        if np.unique(self.line).size < self.line.size:
            return None
        ordered = self.line[run_order(self.runs.start, self.runs.width, self.runs.n)]
        return np.concatenate([ordered, np.setdiff1d(np.arange(lines), ordered)])

    def merged(self, contents: list[Array]) -> Array:
        """Contents of the sparse matrix, from those of both sides: two operations."""
        single, other = contents[self.side], contents[1 - self.side]
        single = self._repeated(single, other.shape[0])
        u, v = (single, other) if self.side == 0 else (other, single)
        return u * conj(v, self.structure.xp)

    def _repeated(self, single: Array, total: int) -> Array:
        """Each single sample as often as its strip is long."""
        if self.structure.library == "torch":  # an index would be as large as the contents
            return single.repeat_interleave(self.repeats, output_size=total)
        xp, device = self.structure.xp, self.structure.device
        owner = np.repeat(np.arange(self.line.size), self.runs.width)
        return taken(single, integers(owner, xp, device), xp, axis=0)
