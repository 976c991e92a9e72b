"""Compiled products of single vectors with entries in slices of rows.

A register holds one entry of each row of a slice. It meets the numbers of the operand at the
entries' columns, gathered by one instruction where the processor has it.

Serial, without the interpreter's lock.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from structmat.kernels.cpu.llvm import VECTOR_BYTES, Builder, address_of, compiled
from structmat.kernels.cpu.words import word

#: Words that say where slices lie: addresses of the first register of every slice and the end,
#: of the rows in their order, of the columns and of the values; slices, and rows.
PTR, ORDER, COLUMN, VALUE, SLICES, ROWS = range(6)


@intrinsic
def _sum_slice(
    typing: Any, kind: Any, values: Any, places: Any, low: Any, high: Any, source: Any, sums: Any
) -> Any:
    """Write the sums of a slice's rows: registers from `low` to `high`, times the source.

    `kind` is an array of the type; `values`, `places`, `source` and `sums` are addresses.
    """
    signature = types.void(kind, *[types.intp] * 6)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, values, places, low, high, source, target = args
        build = Builder(builder, signature.args[0].dtype)

        def several(i: Any, found: list[Any]) -> list[Any]:
            added = []
            for r, total in enumerate(found):
                first = builder.mul(builder.add(i, build.integer(r)), build.integer(build.lanes))
                listed = builder.add(places, builder.mul(first, build.integer(4)))
                numbers = build.gather(source, listed)
                factors = build.load(build.at(values, first))
                added.append(build.multiply_add(factors, numbers, total))
            return added

        # Two registers at a time, so that no sum waits for its last term.
        i, sums = build.loop(low, high, 2, [build.zero] * 2, several)
        _, first = build.loop(i, high, 1, sums[:1], several)
        build.store(builder.fadd(first[0], sums[1]), target)
        return context.get_dummy_value()

    return signature, generate


@compiled
def multiply_slices(slices, start, x, y):
    """Write A x + start to y for every vector of x, (k, n), and y, (k, m).

    `slices` is the address of the words that say where the slices lie. The numbers in `start`,
    (m,), are added.
    """
    lanes = VECTOR_BYTES // y.itemsize
    sums, rows = np.empty(lanes, y.dtype), word(slices, ROWS)
    for k in range(len(x)):
        source, target = address_of(x[k]), y[k]
        for s in range(word(slices, SLICES)):
            low, high = word(word(slices, PTR), s), word(word(slices, PTR), s + 1)
            values, columns = word(slices, VALUE), word(slices, COLUMN)
            _sum_slice(y, values, columns, low, high, source, address_of(sums))
            for lane in range(min(lanes, rows - s * lanes)):
                row = word(word(slices, ORDER), s * lanes + lane)
                target[row] = sums[lane] + start[row]
