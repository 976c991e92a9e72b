"""Compiled copies between buffers and arrays in either order of memory.

A buffer holds some columns of an array, row after row. From an array that lies in memory
column after column the copy is a transpose, done in square blocks of registers: number by
number it would cost as much as a product by a thin structure.
"""

from typing import Any

from numba import types
from numba.extending import intrinsic

from structmat.kernels.cpu.llvm import Builder, address_of, compiled


@intrinsic
def _transpose(
    typing: Any, buffer: Any, source: Any, source_step: Any, target: Any, target_step: Any
) -> Any:
    """Transpose a square block of registers; `buffer` gives the type, steps are in bytes."""
    signature = types.void(buffer, *[types.intp] * 4)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, source, source_step, target, target_step = args
        build = Builder(builder, signature.args[0].dtype)
        lanes = build.lanes

        def line(first: Any, step: Any, r: int) -> Any:
            return builder.add(first, builder.mul(step, build.integer(r)))

        rows = [build.load(line(source, source_step, r)) for r in range(lanes)]
        # Exchange the off-diagonal halves of ever larger square blocks.
        size = 1
        while size < lanes:
            low = [l if not l & size else lanes + l - size for l in range(lanes)]
            high = [l + size if not l & size else lanes + l for l in range(lanes)]
            for r in range(lanes):
                if not r & size:
                    a, b = rows[r], rows[r + size]
                    rows[r], rows[r + size] = build.shuffle(a, b, low), build.shuffle(a, b, high)
            size *= 2
        for r, row in enumerate(rows):
            build.store(row, line(target, target_step, r))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _copy_register(typing: Any, buffer: Any, source: Any, target: Any) -> Any:
    """Copy as many numbers as a register holds; `buffer` gives the type."""
    signature = types.void(buffer, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        build = Builder(builder, signature.args[0].dtype)
        build.store(build.load(args[1]), args[2])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _copy_number(typing: Any, buffer: Any, source: Any, target: Any) -> Any:
    """Copy one number; `buffer` gives the type."""
    signature = types.void(buffer, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, source, target = args
        scalar = context.get_data_type(signature.args[0].dtype).as_pointer()
        builder.store(
            builder.load(builder.inttoptr(source, scalar)), builder.inttoptr(target, scalar)
        )
        return context.get_dummy_value()

    return signature, generate


@compiled
def _copy(kind, source, row, column, target, target_row, target_column, rows, columns, lanes):
    """Copy between addresses, steps in bytes; `kind` is an array of the type.

    Whole blocks are transposed in registers where one side lies row after row and the other
    column after column; where both lie row after row, whole registers are copied.
    """
    size = kind.itemsize
    across = column != size and row == size and target_column == size
    along = column == size and target_row == size and target_column != size
    level = column == size and target_column == size
    full_rows = rows // lanes * lanes if across or along else rows if level else 0
    full_columns = columns // lanes * lanes
    if level:
        for i in range(rows):
            for j in range(0, full_columns, lanes):
                shift = j * size
                _copy_register(kind, source + i * row + shift, target + i * target_row + shift)
    for i in range(0, 0 if level else full_rows, lanes):
        for j in range(0, full_columns, lanes):
            begin, end = source + i * row + j * column, target + i * target_row + j * target_column
            if across:
                _transpose(kind, begin, column, end, target_row)
            else:
                _transpose(kind, begin, row, end, target_column)
    for i in range(rows):
        for j in range(full_columns if i < full_rows else 0, columns):
            _copy_number(
                kind,
                source + i * row + j * column,
                target + i * target_row + j * target_column,
            )


@compiled
def load_columns(source, row, column, rows, columns, buffer, lanes):
    """Fill a buffer from the array at an address; the rest of the buffer becomes zero.

    Steps of the array, `row` and `column`, are in bytes; a register holds `lanes` numbers.
    """
    buffer[rows:] = 0
    buffer[:, columns:] = 0
    size = buffer.itemsize
    step = buffer.shape[1] * size
    _copy(buffer, source, row, column, address_of(buffer), step, size, rows, columns, lanes)


@compiled
def store_columns(buffer, target, row, column, rows, columns, lanes):
    """Copy a buffer's first rows and columns to the array at an address."""
    size = buffer.itemsize
    step = buffer.shape[1] * size
    _copy(buffer, address_of(buffer), step, size, target, row, column, rows, columns, lanes)
