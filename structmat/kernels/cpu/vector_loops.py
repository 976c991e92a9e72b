"""Compiled products of row groups with one vector, at the speed of memory.

Here a row group is as high as a vector register, and a cell, the group's part of one
column, is one register of stored scalars, aligned. Each cell is read once, in the order of
memory, with four bytes for the number (or the register of the operand) that it multiplies.
There is no work per run, no remainder, and no wrap-around: a run becomes cells.

Serial, without the interpreter's lock; `structmat.kernels.cpu.vectors` shares row groups and
columns out among threads.
"""

from functools import partial
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from structmat.kernels.cpu.llvm import VECTOR_BYTES, Builder, address_of, compiled, constant

#: Cells whose sums run side by side.
_SUMS = 4
#: Cells between the one that is read and the one that is fetched from memory meanwhile.
_CELLS_AHEAD = 16
#: Bytes of all cells above which they come from memory; fewer are in a cache.
_CACHE_BYTES = 6_000_000


def register_rows(dtype: np.dtype) -> int:
    """Rows of a row group: the numbers in a register."""
    return VECTOR_BYTES // dtype.itemsize


def _cell_kernel(cells: Any, arguments: int, body: Any, *constants: Any) -> Any:
    """A kernel whose arguments are the array of cells, integers, and constants."""
    signature = types.void(cells, *[types.intp] * arguments, *constants)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        build = Builder(builder, signature.args[0].dtype)
        array = context.make_array(signature.args[0])(context, builder, args[0])
        body(build, builder.ptrtoint(array.data, args[1].type), *args[1 : arguments + 1])
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


def _sum_rows(build: Builder, _: Any, source: Any, target: Any) -> None:
    """Sums of as many vectors as a vector has lanes, one after another in one vector."""
    lanes = build.lanes
    rows = [build.load(build.at(source, r * lanes), aligned=True) for r in range(lanes)]
    build.store(build.sums(rows), target)


def _times_lanes(build: Builder, i: Any) -> Any:
    return build.ir.mul(i, build.integer(build.lanes))


@intrinsic
def _spread(
    typing: Any, cells: Any, column: Any, low: Any, high: Any, z: Any, target: Any, ahead: Any
) -> Any:  # fmt: skip
    """Write one row group of the result: its cells times their numbers of z."""
    return _cell_kernel(cells, 5, partial(_spread_group, ahead=constant(ahead)), ahead)


@intrinsic
def _collect(
    typing: Any, cells: Any, group: Any, low: Any, high: Any, y: Any, target: Any, ahead: Any
) -> Any:  # fmt: skip
    """Write a vector whose lanes add up to one column's product with y."""
    return _cell_kernel(cells, 5, partial(_collect_column, ahead=constant(ahead)), ahead)


@intrinsic
def _row_sums(typing: Any, cells: Any, source: Any, target: Any) -> Any:
    """Write the sums of vectors; `cells` gives the type alone."""
    return _cell_kernel(cells, 2, _sum_rows)


@compiled
def spread_vector(ptr, column, cells, z, y, first, last):
    """Write row groups `first` to `last` of S z to y, shape (groups * lanes,).

    Cells lie group after group, as in `structmat.kernels.cpu.row_groups.RowGroups`.
    """
    index, source, target = address_of(column), address_of(z), address_of(y)
    step = y.itemsize * cells.shape[1]
    far = cells.nbytes > _CACHE_BYTES
    for s in range(first, last):
        low, high, place = ptr[s], ptr[s + 1], target + s * step
        if far:
            _spread(cells, index, low, high, source, place, _CELLS_AHEAD)
        else:
            _spread(cells, index, low, high, source, place, 0)


@compiled
def collect_vector(ptr, group, cells, places, y, z, first, last):
    """Write entries `first` to `last` of z = S^T y.

    Cells lie column after column; `group` is the row group of each. `places` are those of
    all rows once row groups are padded; an empty array means the identity.
    """
    lanes, size = cells.shape[1], z.itemsize
    # As many columns at a time as make one vector of sums; then y, padded and aligned.
    block, length = lanes * lanes, places[-1] + 1 if places.size else y.size
    memory = np.zeros(block + length + 4 * lanes, z.dtype)
    shift = (-address_of(memory) % (lanes * size)) // size
    operand = memory[shift + block + lanes :]
    if places.size:
        for i in range(y.size):
            operand[places[i]] = y[i]
    else:
        operand[: y.size] = y
    begin, ready = address_of(memory) + shift * size, address_of(operand)
    index, target = address_of(group), address_of(z)
    far = cells.nbytes > _CACHE_BYTES
    for k in range(first, last, lanes):
        count = min(lanes, last - k)
        for r in range(count):
            place = begin + r * lanes * size
            low, high = ptr[k + r], ptr[k + r + 1]
            if far:
                _collect(cells, index, low, high, ready, place, _CELLS_AHEAD)
            else:
                _collect(cells, index, low, high, ready, place, 0)
        if count == lanes:
            _row_sums(cells, begin, target + k * size)
        else:
            _row_sums(cells, begin, begin + block * size)
            z[k:last] = memory[shift + block : shift + block + count]
