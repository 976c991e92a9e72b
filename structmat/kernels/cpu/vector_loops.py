"""Compiled products of row groups with one vector, at the speed of memory.

Here a row group is as high as a vector register, and a cell, the group's part of one
column, is one register of stored scalars, aligned. Each cell is read once, in the order of
memory, with four bytes for the number (or the register of the operand) that it multiplies.
There is no work per run, no remainder, and no wrap-around: a run becomes cells.

A factor is given by the address of a few words, its step, and multiplied piece by piece;
`structmat.kernels.cpu.vector_steps` shares the pieces out among threads.
"""

from functools import partial
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from structmat.kernels.cpu.llvm import VECTOR_BYTES, Builder, compiled, constant
from structmat.kernels.cpu.words import word

#: Words of a step: addresses of the first cell of every group (or column) and the end, of the
#: column (or group) of every cell, in int32, and of the cells; whether cells come from memory;
#: number of pieces; the address of the first group (or column) of every piece and the end;
#: the address of the place of every row once groups have one height, or 0 where it is the
#: row's own; number of rows, and that with padding.
PTR, INDEX, CELLS, FAR, PIECES, BOUNDS, PLACES, ROWS, PADDED = range(9)
#: Bytes that a thread needs to collect.
SCRATCH_BYTES = VECTOR_BYTES * (VECTOR_BYTES // 4 + 1)
#: Cells whose sums run side by side.
_SUMS = 4
#: Cells between the one that is read and the one that is fetched from memory meanwhile.
_CELLS_AHEAD = 16
#: Bytes of all cells above which they come from memory; fewer are in a cache.
CACHE_BYTES = 6_000_000


def register_rows(dtype: np.dtype) -> int:
    """Rows of a row group: the numbers in a register."""
    return VECTOR_BYTES // dtype.itemsize


def _kernel(kind: Any, arguments: int, body: Any, *constants: Any) -> Any:
    """A kernel whose arguments are a number, for its type, then integers and constants."""
    signature = types.void(kind, *[types.intp] * arguments, *constants)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        body(Builder(builder, signature.args[0]), *args[1 : arguments + 1])
        return context.get_dummy_value()

    return signature, generate


def _sum_of_cells(build: Builder, low: Any, high: Any, term: Any) -> Any:
    """Sum over all cells, where `term(i, sum)` adds cell i, in a few sums side by side."""

    def several(i: Any, sums: list[Any]) -> list[Any]:
        return [term(build.ir.add(i, build.integer(r)), s) for r, s in enumerate(sums)]

    i, sums = build.loop(low, high, _SUMS, [build.zero] * _SUMS, several)
    _, sums[:1] = build.loop(i, high, 1, sums[:1], several)
    while len(sums) > 1:
        sums = [build.ir.fadd(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]


def _cell(build: Builder, cells: Any, i: Any, ahead: int) -> Any:
    place = build.at(cells, _times_lanes(build, i))
    if ahead:
        build.prefetch(build.at(place, ahead * build.lanes))
    return build.load(place, aligned=True)


def _spread_group(
    build: Builder, cells: Any, column: Any, low: Any, high: Any, z: Any, target: Any, *, ahead: int
) -> None:
    def term(i: Any, total: Any) -> Any:
        cell = _cell(build, cells, i, ahead)
        return build.multiply_add(cell, build.spread(build.at(z, build.index(column, i))), total)

    build.store(_sum_of_cells(build, low, high, term), target)


def _collect_column(
    build: Builder, cells: Any, group: Any, low: Any, high: Any, y: Any, target: Any, *, ahead: int
) -> None:
    def term(i: Any, total: Any) -> Any:
        cell = _cell(build, cells, i, ahead)
        place = build.at(y, _times_lanes(build, build.index(group, i)))
        return build.multiply_add(cell, build.load(place, aligned=True), total)

    build.store(_sum_of_cells(build, low, high, term), target, aligned=True)


def _sum_rows(build: Builder, source: Any, target: Any) -> None:
    """Sums of as many vectors as a vector has lanes, one after another in one vector."""
    lanes = build.lanes
    rows = [build.load(build.at(source, r * lanes), aligned=True) for r in range(lanes)]
    build.store(build.sums(rows), target)


def _times_lanes(build: Builder, i: Any) -> Any:
    return build.ir.mul(i, build.integer(build.lanes))


@intrinsic
def _spread(
    typing: Any, kind: Any, cells: Any, column: Any, low: Any, high: Any, z: Any, target: Any,
    ahead: Any,
) -> Any:  # fmt: skip
    """Write one row group of the result: its cells times their numbers of z."""
    return _kernel(kind, 6, partial(_spread_group, ahead=constant(ahead)), ahead)


@intrinsic
def _collect(
    typing: Any, kind: Any, cells: Any, group: Any, low: Any, high: Any, y: Any, target: Any,
    ahead: Any,
) -> Any:  # fmt: skip
    """Write a vector whose lanes add up to one column's product with y."""
    return _kernel(kind, 6, partial(_collect_column, ahead=constant(ahead)), ahead)


@intrinsic
def _row_sums(typing: Any, kind: Any, source: Any, target: Any) -> Any:
    """Write the sums of vectors; `kind` gives the type alone."""
    return _kernel(kind, 2, _sum_rows)


@intrinsic
def size_of(typing: Any, kind: Any) -> Any:
    """Bytes of a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.intp, signature.args[0].bitwidth // 8)

    return types.intp(kind), generate


@intrinsic
def _copy_number(typing: Any, kind: Any, source: Any, target: Any) -> Any:
    """Copy a number from one address to another; `kind` gives the type alone."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = context.get_data_type(signature.args[0]).as_pointer()
        value = builder.load(builder.inttoptr(args[1], number))
        builder.store(value, builder.inttoptr(args[2], number))
        return context.get_dummy_value()

    return types.void(kind, types.intp, types.intp), generate


@compiled
def spread_piece(kind, step, piece, z, y):
    """Write the row groups of one piece of S z; `kind` is a number of the type.

    `step` is the address of a factor's `Step` by row groups, `z` and `y` those of the operand
    and of the result, whose row groups all have one height.
    """
    ptr, index, cells, far = word(step, PTR), word(step, INDEX), word(step, CELLS), word(step, FAR)
    first, last = word(word(step, BOUNDS), piece), word(word(step, BOUNDS), piece + 1)
    for s in range(first, last):
        low, high, place = word(ptr, s), word(ptr, s + 1), y + s * VECTOR_BYTES
        if far:
            _spread(kind, cells, index, low, high, z, place, _CELLS_AHEAD)
        else:
            _spread(kind, cells, index, low, high, z, place, 0)


@compiled
def collect_piece(kind, step, piece, y, z, scratch):
    """Write the entries of one piece of z = S^T y.

    `step` is the address of a factor's `Step` by columns, `y` that of the operand, aligned,
    whose row groups all have one height, and `scratch` that of `SCRATCH_BYTES`, aligned.
    """
    size = size_of(kind)
    lanes = VECTOR_BYTES // size
    ptr, index, cells, far = word(step, PTR), word(step, INDEX), word(step, CELLS), word(step, FAR)
    first, last = word(word(step, BOUNDS), piece), word(word(step, BOUNDS), piece + 1)
    # As many columns at a time as make one vector of sums.
    for k in range(first, last, lanes):
        count = min(lanes, last - k)
        for r in range(count):
            low, high, place = word(ptr, k + r), word(ptr, k + r + 1), scratch + r * VECTOR_BYTES
            if far:
                _collect(kind, cells, index, low, high, y, place, _CELLS_AHEAD)
            else:
                _collect(kind, cells, index, low, high, y, place, 0)
        if count == lanes:
            _row_sums(kind, scratch, z + k * size)
        else:
            total = scratch + lanes * VECTOR_BYTES
            _row_sums(kind, scratch, total)
            for r in range(count):
                _copy_number(kind, total + r * size, z + (k + r) * size)
