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

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

from structmat.kernels.cpu.llvm import REGISTERS, VECTOR_BYTES, Builder, address_of, compiled

#: Rows of a row group: sums for `VECTORS` registers of each, their operands and a factor fill them.
ROWS = 6
#: Entries of a cell of a gradient: a power of two, which the sums of several rows fill.
GRADIENT_ROWS = 8
#: Registers that a row of a column group may take, and fewer for narrow groups.
VECTORS = (4, 2, 1) if REGISTERS == 32 else (2, 1)


def column_group(columns: int, dtype: np.dtype) -> tuple[int, int]:
    """Registers a row, and columns, of the next group where this many columns remain."""
    lanes = VECTOR_BYTES // dtype.itemsize
    fitting = [v for v in VECTORS if v * lanes >= columns]
    vectors = fitting[-1] if fitting else VECTORS[0]
    return vectors, vectors * lanes


def _group_kernel(vectors: Any, values: Any, body: Any) -> Any:
    """Signature and code of a kernel for one row group and one column group.

    Its arguments after the number of vectors are the cells (an array, for its type and
    address), then as addresses and integers the cells' columns, the first cell and the
    end, the middle, the outer array, the bytes from row to row of it, its number of rows,
    and a spare row in place of those that it lacks.
    """
    if not isinstance(vectors, types.IntegerLiteral):
        raise RequireLiteralValue("vectors")  # Numba asks again with the constant
    count, signature = vectors.literal_value, types.void(vectors, values, *[types.intp] * 8)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, cells, column, low, high, middle, outer, stride, rows, spare = args
        build = Builder(builder, signature.args[1].dtype)
        array = context.make_array(signature.args[1])(context, builder, cells)
        cells = builder.ptrtoint(array.data, low.type)
        lines = []
        for t in range(ROWS):
            there = builder.icmp_signed("<", build.integer(t), rows)
            line = builder.add(outer, builder.mul(stride, build.integer(t)))
            lines.append(builder.select(there, line, spare))
        body(build, count, cells, column, (low, high), middle, lines)
        return context.get_dummy_value()

    return signature, generate


def _gather_group(
    build: Builder,
    vectors: int,
    cells: Any,
    column: Any,
    span: tuple[Any, Any],
    middle: Any,
    lines: list[Any],
) -> None:
    def step(i: Any, sums: list[Any]) -> list[Any]:
        factors, operand = _cell(build, vectors, cells, column, middle, i)
        row = [build.load(build.at(operand, j * build.lanes), aligned=True) for j in range(vectors)]
        return [
            build.multiply_add(build.spread(factor), row[j], sums[t * vectors + j])
            for t, factor in enumerate(factors)
            for j in range(vectors)
        ]

    zeros = [build.zero] * (ROWS * vectors)
    _, sums = build.loop(span[0], span[1], 1, zeros, step)
    for k, total in enumerate(sums):
        t, j = divmod(k, vectors)
        build.store(total, build.at(lines[t], j * build.lanes))


def _scatter_group(
    build: Builder,
    vectors: int,
    cells: Any,
    column: Any,
    span: tuple[Any, Any],
    middle: Any,
    lines: list[Any],
) -> None:
    width = range(vectors)
    rows = [[build.load(build.at(line, j * build.lanes)) for j in width] for line in lines]

    def step(i: Any, _: list[Any]) -> list[Any]:
        factors, target = _cell(build, vectors, cells, column, middle, i)
        places = [build.at(target, j * build.lanes) for j in width]
        sums = [build.load(place, aligned=True) for place in places]
        for factor, row in zip(factors, rows, strict=True):
            one = build.spread(factor)
            sums = [build.multiply_add(one, row[j], sums[j]) for j in width]
        for total, place in zip(sums, places, strict=True):
            build.store(total, place, aligned=True)
        return []

    build.loop(span[0], span[1], 1, [], step)


def _outer_group(
    build: Builder,
    vectors: int,
    cells: Any,
    column: Any,
    span: tuple[Any, Any],
    middle: Any,
    lines: list[Any],
) -> None:
    width = range(vectors)
    rows = [[build.load(build.at(line, j * build.lanes)) for j in width] for line in lines]

    def step(i: Any, _: list[Any]) -> list[Any]:
        row = build.ir.mul(build.index(column, i), build.integer(vectors * build.lanes))
        operand = build.at(middle, row)
        other = [build.load(build.at(operand, j * build.lanes), aligned=True) for j in width]
        sums = []
        for line in rows:
            total = build.zero
            for j in width:
                total = build.multiply_add(line[j], other[j], total)
            sums.append(total)
        cell = build.at(cells, build.ir.mul(i, build.integer(GRADIENT_ROWS)))
        build.add_sums([*sums, *[build.zero] * (GRADIENT_ROWS - ROWS)], cell)
        return []

    build.loop(span[0], span[1], 1, [], step)


def _cell(
    build: Builder, vectors: int, cells: Any, column: Any, middle: Any, i: Any
) -> tuple[list[Any], Any]:
    """Addresses of the factors of cell i and of the row of the middle that it belongs to."""
    cell = build.at(cells, build.ir.mul(i, build.integer(ROWS)))
    row = build.ir.mul(build.index(column, i), build.integer(vectors * build.lanes))
    return [build.at(cell, t) for t in range(ROWS)], build.at(middle, row)


@intrinsic
def _gather(
    typing: Any, vectors: Any, cells: Any, column: Any, low: Any, high: Any, middle: Any,
    outer: Any, stride: Any, rows: Any, spare: Any,
) -> Any:  # fmt: skip
    """Write the rows of a row group: its cells times the rows of the middle."""
    return _group_kernel(vectors, cells, _gather_group)


@intrinsic
def _scatter(
    typing: Any, vectors: Any, cells: Any, column: Any, low: Any, high: Any, middle: Any,
    outer: Any, stride: Any, rows: Any, spare: Any,
) -> Any:  # fmt: skip
    """Add to rows of the middle: the cells of a row group times its rows."""
    return _group_kernel(vectors, cells, _scatter_group)


@intrinsic
def _outer(
    typing: Any, vectors: Any, cells: Any, column: Any, low: Any, high: Any, middle: Any,
    outer: Any, stride: Any, rows: Any, spare: Any,
) -> Any:  # fmt: skip
    """Add to the cells of a row group: its rows times the rows of the middle, summed up."""
    return _group_kernel(vectors, cells, _outer_group)


@compiled
def spread_columns(begin, rows, ptr, column, cells, middle, outer, stride, vectors):
    """Write S z for one column group.

    Parameters
    ----------
    begin, rows, ptr, column, cells : ndarray
        The row groups, as in `structmat.kernels.cpu.row_groups.RowGroups`.
    middle : ndarray, shape (columns + 1, vectors * lanes)
        The column group of z, aligned; its last row is overwritten.
    outer, stride : int
        Address of the column group of the result, and bytes from row to row.
    vectors : int
        Registers a row.
    """
    width, address, index = middle.shape[1], address_of(middle), address_of(column)
    spare = address + (middle.shape[0] - 1) * width * middle.itemsize
    for s in range(begin.size):
        low, high, first, count = ptr[s], ptr[s + 1], outer + begin[s] * stride, rows[s]
        if vectors == 4:
            _gather(4, cells, index, low, high, address, first, stride, count, spare)
        elif vectors == 2:
            _gather(2, cells, index, low, high, address, first, stride, count, spare)
        else:
            _gather(1, cells, index, low, high, address, first, stride, count, spare)


@compiled
def collect_columns(begin, rows, ptr, column, cells, middle, outer, stride, vectors):
    """Write S^T y for one column group into `middle`; parameters as for `spread_columns`."""
    middle[:] = 0
    width, address, index = middle.shape[1], address_of(middle), address_of(column)
    spare = address + (middle.shape[0] - 1) * width * middle.itemsize
    for s in range(begin.size):
        low, high, first, count = ptr[s], ptr[s + 1], outer + begin[s] * stride, rows[s]
        if vectors == 4:
            _scatter(4, cells, index, low, high, address, first, stride, count, spare)
        elif vectors == 2:
            _scatter(2, cells, index, low, high, address, first, stride, count, spare)
        else:
            _scatter(1, cells, index, low, high, address, first, stride, count, spare)


@compiled
def outer_columns(begin, rows, ptr, column, cells, middle, outer, stride, vectors):
    """Add the products of the rows of a column group with those of `middle` at every cell.

    Parameters as for `spread_columns`, except that `cells`, of `GRADIENT_ROWS` entries each,
    are written; entries beyond the rows of a row group are undefined.
    """
    width, address, index = middle.shape[1], address_of(middle), address_of(column)
    spare = address + (middle.shape[0] - 1) * width * middle.itemsize
    for s in range(begin.size):
        low, high, first, count = ptr[s], ptr[s + 1], outer + begin[s] * stride, rows[s]
        if vectors == 4:
            _outer(4, cells, index, low, high, address, first, stride, count, spare)
        elif vectors == 2:
            _outer(2, cells, index, low, high, address, first, stride, count, spare)
        else:
            _outer(1, cells, index, low, high, address, first, stride, count, spare)
