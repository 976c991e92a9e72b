"""Compiled products of row groups with many columns, at the speed of the multipliers.

A row group is `ROWS` rows of a sparse factor, with the columns that it touches; a column
group is some columns of the operand, each row of them as wide as `vectors` registers. The
sums of a row group and a column group, `ROWS` times `vectors` registers, stay in the
processor from the first touched column to the last, so that memory is read once for every
`ROWS` multiplications of a vector. The operand needs no packing, and padding is `ROWS` - 1
rows a run on average, half at either end.

Serial, without the interpreter's lock; `structmat.kernels.cpu.columns` shares column groups
out among threads.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import literally, types
from numba.extending import intrinsic

from structmat.kernels.cpu.llvm import (
    REGISTERS,
    VECTOR_BYTES,
    Builder,
    address_of,
    compiled,
    constant,
)

#: Rows of a row group: sums for `VECTORS` registers of each, their operands and a factor fill them.
ROWS = 6
#: Entries of a cell of a gradient: a power of two, which the sums of several rows fill.
GRADIENT_ROWS = 8
#: Registers that a row of a column group may take, and fewer for narrow groups.
VECTORS = (4, 2, 1) if REGISTERS == 32 else (2, 1)


@lru_cache(maxsize=256)
def column_group(columns: int, dtype: np.dtype) -> tuple[int, int]:
    """Registers a row, and columns, of the next group where this many columns remain."""
    lanes = VECTOR_BYTES // dtype.itemsize
    fitting = [v for v in VECTORS if v * lanes >= columns]
    vectors = fitting[-1] if fitting else VECTORS[0]
    return vectors, vectors * lanes


class _Groups(NamedTuple):
    """A row group and a column group in the code of a kernel; addresses are integers."""

    build: Builder
    vectors: int
    cells: Any
    column: Any
    #: The first cell and the end.
    span: tuple[Any, Any]
    middle: Any
    #: Rows of the outer array that belong to the row group.
    lines: list[Any]

    def cell(self, i: Any, rows: int) -> Any:
        """Address of cell i where cells have this many rows."""
        return self.build.at(self.cells, self.build.ir.mul(i, self.build.integer(rows)))

    def middle_row(self, i: Any) -> Any:
        """Address of the row of the middle that cell i belongs to."""
        build = self.build
        width = build.integer(self.vectors * build.lanes)
        return build.at(self.middle, build.ir.mul(build.index(self.column, i), width))

    def places(self, address: Any) -> list[Any]:
        """Addresses of the registers of a row."""
        return [self.build.at(address, j * self.build.lanes) for j in range(self.vectors)]

    def load(self, address: Any, *, aligned: bool) -> list[Any]:
        """The registers of a row."""
        return [self.build.load(place, aligned=aligned) for place in self.places(address)]

    def over_cells(self, carried: list[Any], step: Callable[[Any, list[Any]], list[Any]]) -> Any:
        """Run `step` for every cell; return the last carried vectors."""
        return self.build.loop(*self.span, 1, carried, step)[1]


def _gather_group(groups: _Groups) -> None:
    """Write the rows of a row group: its cells times the rows of the middle."""
    build, vectors = groups.build, groups.vectors

    def step(i: Any, sums: list[Any]) -> list[Any]:
        cell, row = groups.cell(i, ROWS), groups.load(groups.middle_row(i), aligned=True)
        return [
            build.multiply_add(build.spread(build.at(cell, t)), row[j], sums[t * vectors + j])
            for t in range(ROWS)
            for j in range(vectors)
        ]

    sums = groups.over_cells([build.zero] * (ROWS * vectors), step)
    places = [place for line in groups.lines for place in groups.places(line)]
    for total, place in zip(sums, places, strict=True):
        build.store(total, place)


def _scatter_group(groups: _Groups) -> None:
    """Add to rows of the middle: the cells of a row group times its rows."""
    build = groups.build
    rows = [groups.load(line, aligned=False) for line in groups.lines]

    def step(i: Any, _: list[Any]) -> list[Any]:
        cell, target = groups.cell(i, ROWS), groups.middle_row(i)
        sums = groups.load(target, aligned=True)
        for t, row in enumerate(rows):
            one = build.spread(build.at(cell, t))
            sums = [build.multiply_add(one, x, total) for x, total in zip(row, sums, strict=True)]
        for total, place in zip(sums, groups.places(target), strict=True):
            build.store(total, place, aligned=True)
        return []

    groups.over_cells([], step)


def _outer_group(groups: _Groups) -> None:
    """Add to the cells of a row group: its rows times the rows of the middle, summed up."""
    build = groups.build
    rows = [groups.load(line, aligned=False) for line in groups.lines]

    def step(i: Any, _: list[Any]) -> list[Any]:
        other = groups.load(groups.middle_row(i), aligned=True)
        sums = []
        for row in rows:
            total = build.zero
            for x, y in zip(row, other, strict=True):
                total = build.multiply_add(x, y, total)
            sums.append(total)
        padding = [build.zero] * (GRADIENT_ROWS - ROWS)
        build.add_sums([*sums, *padding], groups.cell(i, GRADIENT_ROWS))
        return []

    groups.over_cells([], step)


#: Positions of the bodies of kernels in `_BODIES`.
_GATHER, _SCATTER, _OUTER = range(3)
_BODIES = (_gather_group, _scatter_group, _outer_group)


@intrinsic
def _multiply_group(
    typing: Any, body: Any, vectors: Any, cells: Any, column: Any, low: Any, high: Any,
    middle: Any, outer: Any, stride: Any, rows: Any, spare: Any,
) -> Any:  # fmt: skip
    """Multiply one row group and one column group by one of `_BODIES`.

    The cells are an array, for its type and address. The others are addresses and integers:
    the cells' columns, the first cell and the end, the middle, the outer array, the bytes
    from row to row of it, its number of rows, and a spare row in place of those that it
    lacks.
    """
    write, count = _BODIES[constant(body)], constant(vectors)
    signature = types.void(body, vectors, cells, *[types.intp] * 8)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, _, cells, column, low, high, middle, outer, stride, rows, spare = args
        build = Builder(builder, signature.args[2].dtype)
        array = context.make_array(signature.args[2])(context, builder, cells)
        cells = builder.ptrtoint(array.data, low.type)
        lines = []
        for t in range(ROWS):
            there = builder.icmp_signed("<", build.integer(t), rows)
            line = builder.add(outer, builder.mul(stride, build.integer(t)))
            lines.append(builder.select(there, line, spare))
        write(_Groups(build, count, cells, column, (low, high), middle, lines))
        return context.get_dummy_value()

    return signature, generate


@compiled
def _multiply_groups(body, begin, rows, ptr, column, cells, middle, outer, stride, vectors):
    """Multiply every row group and one column group; `body` is a constant."""
    body = literally(body)
    width, address, index = middle.shape[1], address_of(middle), address_of(column)
    spare = address + (middle.shape[0] - 1) * width * middle.itemsize
    for s in range(begin.size):
        low, high, first, count = ptr[s], ptr[s + 1], outer + begin[s] * stride, rows[s]
        if vectors == 4:
            _multiply_group(body, 4, cells, index, low, high, address, first, stride, count, spare)
        elif vectors == 2:
            _multiply_group(body, 2, cells, index, low, high, address, first, stride, count, spare)
        else:
            _multiply_group(body, 1, cells, index, low, high, address, first, stride, count, spare)


@compiled
def spread_columns(begin, rows, ptr, column, cells, middle, outer, stride, vectors):
    """Write S z for one column group, at the address `outer` with `stride` bytes from row to row.

    The row groups are as in `structmat.kernels.cpu.row_groups.RowGroups`. The column group
    of z, `middle`, of shape (columns + 1, vectors * lanes), is aligned; its last row is
    overwritten.
    """
    _multiply_groups(_GATHER, begin, rows, ptr, column, cells, middle, outer, stride, vectors)


@compiled
def collect_columns(begin, rows, ptr, column, cells, middle, outer, stride, vectors):
    """Write S^T y for one column group into `middle`; parameters as for `spread_columns`."""
    middle[:] = 0
    _multiply_groups(_SCATTER, begin, rows, ptr, column, cells, middle, outer, stride, vectors)


@compiled
def outer_columns(begin, rows, ptr, column, cells, middle, outer, stride, vectors):
    """Add the products of the rows of a column group with those of `middle` at every cell.

    Parameters as for `spread_columns`, except that `cells`, of `GRADIENT_ROWS` entries each,
    are written; entries beyond the rows of a row group are undefined.
    """
    _multiply_groups(_OUTER, begin, rows, ptr, column, cells, middle, outer, stride, vectors)
