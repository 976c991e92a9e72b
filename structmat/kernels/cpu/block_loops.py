"""Compiled products of rank-one blocks on listed rows and columns with many columns.

A block u v^T on rows I and columns J takes a column group of the operand X to
z = sum over J of v_j X_j, which stays in registers, and adds u_i z to row i of the result for
every row of I. Each number is multiplied once: there is no padding, and no memory between the
factors. Rows and columns are listed one by one, so that any order of them costs nothing.

A block of few entries takes longer to start than to multiply. Such blocks are entries instead,
listed row by row: the sum of a row stays in registers until it is written.

Serial, without the interpreter's lock; `structmat.kernels.cpu.blocks` shares column groups
out among threads.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from structmat.kernels.cpu.copies import load_columns, store_columns
from structmat.kernels.cpu.llvm import VECTOR_BYTES, Builder, address_of, compiled, constant

#: Bytes from row to row from which on a column group is copied before it is multiplied.
_FAR_BYTES = 1024


class _Side(NamedTuple):
    """Rows or columns of one block in the code of a kernel; addresses are integers."""

    #: Addresses of the list of places and of the contents.
    places: Any
    contents: Any
    #: The first entry of both, and the end.
    span: tuple[Any, Any]
    #: Address of the array whose rows have these places, and bytes from row to row of it.
    array: Any
    step: Any


class _Block:
    """One block and one column group, `vectors` registers wide, in the code of a kernel."""

    def __init__(self, build: Builder, vectors: int) -> None:
        self.build, self.vectors = build, vectors

    def registers(self, side: _Side, i: Any) -> list[Any]:
        """Addresses of the registers of the row that entry i of a side belongs to."""
        row = self.build.ir.mul(side.step, self.build.index(side.places, i))
        first = self.build.ir.add(side.array, row)
        return [self.build.at(first, j * self.build.lanes) for j in range(self.vectors)]

    def over(
        self,
        side: _Side,
        carried: list[Any],
        step: Callable[[Any, list[Any], list[Any]], Sequence[Any]],
    ) -> list[Any]:
        """Run `step` for every entry of a side, with the addresses of its row's registers."""

        def body(i: Any, values: list[Any]) -> Sequence[Any]:
            return step(i, self.registers(side, i), values)

        return self.build.loop(*side.span, 1, carried, body)[1]

    def gather(self, side: _Side) -> list[Any]:
        """Sum of the rows of a side, times its contents."""

        def step(i: Any, row: list[Any], sums: list[Any]) -> list[Any]:
            factor = self.build.spread(self.build.at(side.contents, i))
            pairs = zip(row, sums, strict=True)
            return [self.build.multiply_add(factor, self.build.load(x), y) for x, y in pairs]

        return self.over(side, [self.build.zero] * self.vectors, step)

    def scatter(self, side: _Side, sums: list[Any]) -> None:
        """Add a row, times the contents of a side, to the rows of it."""

        def step(i: Any, row: list[Any], values: list[Any]) -> list[Any]:
            factor = self.build.spread(self.build.at(side.contents, i))
            for place, x in zip(row, values, strict=True):
                self.build.store(self.build.multiply_add(factor, x, self.build.load(place)), place)
            return values

        self.over(side, sums, step)

    def dot(self, side: _Side, other: list[Any], gradient: Any) -> None:
        """Add to the gradient of a side's contents: its rows times another row."""
        build = self.build

        def step(i: Any, row: list[Any], values: list[Any]) -> list[Any]:
            total = build.zero
            for place, x in zip(row, values, strict=True):
                total = build.multiply_add(build.load(place), x, total)
            build.add_sums([total], build.at(gradient, i))
            return values

        self.over(side, other, step)


@intrinsic
def _multiply_block(
    typing: Any, vectors: Any, kind: Any, rows: Any, cols: Any, span: Any, source: Any, target: Any
) -> Any:
    """Add a block times the source to the target.

    `kind` is an array of the type. `rows` and `cols` are addresses of places and contents,
    `span` the first row entry, the end, the first column entry and the end; `source` and
    `target` are addresses and bytes from row to row.
    """
    count = constant(vectors)
    signature = types.void(vectors, kind, rows, cols, span, source, target)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, cols, span, source, target = (_members(builder, a) for a in args[2:])
        block = _Block(Builder(builder, signature.args[1].dtype), count)
        z = block.gather(_side(cols, span[2:], source))
        block.scatter(_side(rows, span[:2], target), z)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _sum_row(
    typing: Any, vectors: Any, kind: Any, entries: Any, low: Any, high: Any, source: Any,
    start: Any, row: Any,
) -> Any:  # fmt: skip
    """Write the row at the address `row`: entries from `low` to `high` times rows of the source.

    `kind` is an array of the type, `entries` the addresses of the entries' columns and values,
    and `source` an address and the bytes from row to row. The number at the address `start`
    is added to the row.
    """
    count = constant(vectors)
    signature = types.void(vectors, kind, entries, low, high, source, start, row)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        build = Builder(builder, signature.args[1].dtype)
        (places, values), (address, step) = (_members(builder, args[i]) for i in (2, 5))
        low, high, start, target = args[3], args[4], args[6], args[7]
        block = _Block(build, count)

        def several(i: Any, sums: list[Any]) -> list[Any]:
            found = []
            for r in range(len(sums) // count):
                entry = build.ir.add(i, build.integer(r))
                side = _Side(places, values, (low, high), address, step)
                factor = build.spread(build.at(values, entry))
                pairs = zip(block.registers(side, entry), sums[r * count :], strict=False)
                found += [build.multiply_add(factor, build.load(x), y) for x, y in pairs]
            return found

        # Two entries at a time, so that no sum waits for its last term.
        begin = [build.spread(start)] * count + [build.zero] * count
        i, sums = build.loop(low, high, 2, begin, several)
        _, first = build.loop(i, high, 1, sums[:count], several)
        for j, (a, b) in enumerate(zip(first, sums[count:], strict=True)):
            build.store(builder.fadd(a, b), build.at(target, j * build.lanes))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _block_gradients(
    typing: Any, vectors: Any, kind: Any, rows: Any, cols: Any, span: Any,
    source: Any, above: Any, target: Any, gradients: Any,
) -> Any:  # fmt: skip
    """Add a block's share to the gradients of u, of v and of the operand.

    Arguments as for `_multiply_block`; `above` is the gradient of the result, and `gradients`
    the addresses of those of u and v.
    """
    count = constant(vectors)
    signature = types.void(vectors, kind, rows, cols, span, source, above, target, gradients)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, cols, span, *places, gradients = (_members(builder, a) for a in args[2:])
        source, above, target = places
        block = _Block(Builder(builder, signature.args[1].dtype), count)
        by_rows, by_cols = _side(rows, span[:2], above), _side(cols, span[2:], source)
        z, w = block.gather(by_cols), block.gather(by_rows)
        block.dot(by_rows, z, gradients[0])
        block.dot(by_cols, w, gradients[1])
        block.scatter(_side(cols, span[2:], target), w)
        return context.get_dummy_value()

    return signature, generate


def _side(lists: list[Any], span: list[Any], array: list[Any]) -> _Side:
    (places, contents), (begin, end), (address, step) = lists, span, array
    return _Side(places, contents, (begin, end), address, step)


def _members(builder: Any, pack: Any) -> list[Any]:
    return [builder.extract_value(pack, i) for i in range(len(pack.type))]


@compiled
def multiply_columns(
    rows, u, cols, v, spans, entries, start, x, y, size, first, last, vectors, width
):
    """Write A x for the columns from `first` to `last`.

    Parameters
    ----------
    rows, cols : array of int32
        Places of the entries of `u` and of `v`.
    u, v : array
        Packed contents of the blocks.
    spans : array of int, shape (K, 4)
        First entry of `u` and end, first entry of `v` and end, of every block.
    entries : tuple of array
        What there is beside the blocks: first entry of every row and the end, and the column,
        in int32, and value of each.
    start : array
        A number for each row, added to it.
    x, y : tuple
        Numbers of operand and result in the order of memory, and bytes from row to row and from
        column to column.
    size : tuple of int
        Rows of y, rows of x.
    width : int
        Columns of a column group, a multiple of `vectors`.
    """
    X, Y, item = _buffer(u, size[1], width), _buffer(u, size[0], width), u.itemsize
    row_side, col_side = (address_of(rows), address_of(u)), (address_of(cols), address_of(v))
    ptr, column, value = entries
    operand, (result, row_bytes, column_bytes) = (address_of(x[0]), x[1], x[2]), y
    listed = address_of(column), address_of(value)
    for begin in range(first, last, width):
        count = min(width, last - begin)
        source = _loaded(operand, size[1], begin, count, X, width // vectors)
        in_place = column_bytes == item and count == width
        target = (
            (address_of(result) + begin * item, row_bytes)
            if in_place
            else (address_of(Y), width * item)
        )
        for i in range(size[0]):
            low, high, row = ptr[i], ptr[i + 1], target[0] + i * target[1]
            more = address_of(start) + i * item
            if vectors == 4:
                _sum_row(4, u, listed, low, high, source, more, row)
            elif vectors == 2:
                _sum_row(2, u, listed, low, high, source, more, row)
            else:
                _sum_row(1, u, listed, low, high, source, more, row)
        for k in range(len(spans)):
            span = spans[k, 0], spans[k, 1], spans[k, 2], spans[k, 3]
            if vectors == 4:
                _multiply_block(4, u, row_side, col_side, span, source, target)
            elif vectors == 2:
                _multiply_block(2, u, row_side, col_side, span, source, target)
            else:
                _multiply_block(1, u, row_side, col_side, span, source, target)
        if not in_place:
            place = address_of(result) + begin * column_bytes
            store_columns(Y, place, row_bytes, column_bytes, size[0], count, width // vectors)


@compiled
def gradient_columns(
    rows, u, cols, v, spans, x, above, target, size, gradients, first, last, vectors, width
):
    """Write A^T g for some columns, and add to the gradients of `u` and `v`.

    Parameters as for `multiply_columns`: `above` is g, `target` the gradient of x, and
    `gradients` are those of u and v.
    """
    m, n = size
    X, G, T, item = _buffer(u, n, width), _buffer(u, m, width), _buffer(u, n, width), u.itemsize
    row_side, col_side = (address_of(rows), address_of(u)), (address_of(cols), address_of(v))
    sums = address_of(gradients[0]), address_of(gradients[1])
    for begin in range(first, last, width):
        count = min(width, last - begin)
        source = _loaded(x, size[1], begin, count, X, width // vectors)
        upper = _loaded(above, size[0], begin, count, G, width // vectors)
        T[:] = 0
        lower = address_of(T), width * item
        for k in range(len(spans)):
            span = spans[k, 0], spans[k, 1], spans[k, 2], spans[k, 3]
            if vectors == 4:
                _block_gradients(4, u, row_side, col_side, span, source, upper, lower, sums)
            elif vectors == 2:
                _block_gradients(2, u, row_side, col_side, span, source, upper, lower, sums)
            else:
                _block_gradients(1, u, row_side, col_side, span, source, upper, lower, sums)
        if target[0]:
            begins = target[0] + begin * target[2]
            store_columns(T, begins, target[1], target[2], size[1], count, width // vectors)


@compiled
def _buffer(kind, rows, width):
    """An array (rows, width) that begins with a line of memory; `kind` is one of its type."""
    line = VECTOR_BYTES // kind.itemsize
    memory = np.empty(rows * width + line, kind.dtype)
    begin = -(address_of(memory) // kind.itemsize) % line
    return memory[begin : begin + rows * width].reshape(rows, width)


@compiled
def _loaded(array, rows, begin, count, buffer, lanes):
    """Address and step of a column group that registers can read: in place, or in a buffer."""
    address, row, column = array
    item, width = buffer.itemsize, buffer.shape[1]
    # Rows far apart share few places of a cache; a copy of a column group has them all.
    if column == item and count == width and abs(row) < _FAR_BYTES:
        return address + begin * column, row
    load_columns(address + begin * column, row, column, rows, count, buffer, lanes)
    return address_of(buffer), width * item
