"""Compiled loops over windows of a vector: differences of two, and products with rows.

Windows are read where they lie: no array of windows is written first.
"""

from typing import Any

from numba import types
from numba.extending import intrinsic

from structmat.kernels.cpu.llvm import VECTOR_BYTES, Builder, address_of, compiled

#: Registers of each sum.
_SUMS = 4


@intrinsic
def _add_dots(typing: Any, kind: Any, row: Any, a: Any, b: Any, count: Any, sums: Any) -> Any:
    """Add the inner products of a row with two others to two numbers.

    `kind` is an array of the type; the others are addresses. The numbers of `count` fill whole
    groups of registers.
    """
    signature = types.void(kind, *[types.intp] * 5)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, row, a, b, count, target = args
        build = Builder(builder, signature.args[0].dtype)

        def body(i: Any, totals: list[Any]) -> list[Any]:
            found = []
            for r, total in enumerate(totals):
                place = builder.add(i, build.integer(r // 2 * build.lanes))
                other = build.load(build.at(b if r % 2 else a, place))
                found.append(build.multiply_add(build.load(build.at(row, place)), other, total))
            return found

        zeros = [build.zero] * (2 * _SUMS)
        _, totals = build.loop(build.integer(0), count, _SUMS * build.lanes, zeros, body)
        for which in range(2):
            own = totals[which::2]
            while len(own) > 1:
                own = [builder.fadd(x, y) for x, y in zip(own[::2], own[1::2], strict=True)]
            build.add_sums(own, build.at(target, which))
        return context.get_dummy_value()

    return signature, generate


@compiled
def subtract_windows(table, first, second, out):
    """Write to row k the window of a table from ``first[k]`` on, less that from ``second[k]``."""
    for k in range(len(out)):
        a, b, row = table[first[k] :], table[second[k] :], out[k]
        for j in range(len(row)):
            row[j] = a[j] - b[j]


@compiled
def dot_windows(table, first, second, rows, out):
    """Write the inner products of row k with its two windows to ``out[k]``, (K, 2)."""
    count, item = rows.shape[1], table.itemsize
    group = _SUMS * VECTOR_BYTES // item
    whole = count // group * group
    for k in range(len(rows)):
        a, b, row, sums = table[first[k] :], table[second[k] :], rows[k], out[k]
        sums[:] = 0
        _add_dots(table, address_of(row), address_of(a), address_of(b), whole, address_of(sums))
        for j in range(whole, count):
            sums[0] += row[j] * a[j]
            sums[1] += row[j] * b[j]
