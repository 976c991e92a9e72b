"""Compiled products of rectangles with column groups, which registers hold.

A rectangle is a few lines of numbers at a time: columns of U or V, or rows of dense entries.
Lines gather rows of the operand, each into a row of sums that stays in registers, or scatter such
rows to rows of the result. In float32 and float64.

Serial, without the interpreter's lock; `structmat.kernels.cpu.rectangles` shares rectangles out
among threads.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from structmat.kernels.cpu.llvm import Builder, address_of, compiled, constant
from structmat.kernels.cpu.words import hold
from structmat.kernels.layouts.rectangles import DENSE

#: Lines at a time, and registers of a row: their sums, a row and a number fit into 16 registers.
LINES, VECTORS = 4, 2


@intrinsic
def _gather(
    typing: Any, lines: Any, kind: Any, factors: Any, stride: Any, count: Any, source: Any,
    target: Any, step: Any,
) -> Any:  # fmt: skip
    """Add to row l of the target: line l of the factors times rows of the source.

    `kind` is an array of the type. `factors`, `source` and `target` are addresses, `stride` the
    numbers from line to line, `count` those of a line, and `step` those from row to row.
    """
    size = constant(lines)
    signature = types.void(lines, kind, *[types.intp] * 6)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, _, factors, stride, count, source, target, step = args
        build = Builder(builder, signature.args[1].dtype)
        begins = [build.at(factors, builder.mul(stride, build.integer(l))) for l in range(size)]
        rows = [build.at(target, builder.mul(step, build.integer(l))) for l in range(size)]
        places = [[build.at(row, v * build.lanes) for v in range(VECTORS)] for row in rows]

        def body(j: Any, sums: list[Any]) -> list[Any]:
            row = build.at(source, builder.mul(step, j))
            x = [build.load(build.at(row, v * build.lanes)) for v in range(VECTORS)]
            found = []
            for l in range(size):
                factor = build.spread(build.at(begins[l], j))
                own = sums[l * VECTORS : (l + 1) * VECTORS]
                pairs = zip(x, own, strict=True)
                found += [build.multiply_add(factor, a, total) for a, total in pairs]
            return found

        start = [build.load(place) for row in places for place in row]
        _, sums = build.loop(build.integer(0), count, 1, start, body)
        for place, total in zip((p for row in places for p in row), sums, strict=True):
            build.store(total, place)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _scatter(
    typing: Any, lines: Any, kind: Any, factors: Any, stride: Any, count: Any, source: Any,
    target: Any, step: Any,
) -> Any:  # fmt: skip
    """Add to row j of the target: the numbers j of all lines times rows of the source."""
    size = constant(lines)
    signature = types.void(lines, kind, *[types.intp] * 6)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, _, factors, stride, count, source, target, step = args
        build = Builder(builder, signature.args[1].dtype)
        begins = [build.at(factors, builder.mul(stride, build.integer(l))) for l in range(size)]
        rows = [build.at(source, builder.mul(step, build.integer(l))) for l in range(size)]
        z = [[build.load(build.at(row, v * build.lanes)) for v in range(VECTORS)] for row in rows]

        def body(j: Any, carried: list[Any]) -> list[Any]:
            row = build.at(target, builder.mul(step, j))
            places = [build.at(row, v * build.lanes) for v in range(VECTORS)]
            y = [build.load(place) for place in places]
            for l in range(size):
                factor = build.spread(build.at(begins[l], j))
                y = [build.multiply_add(factor, a, b) for a, b in zip(z[l], y, strict=True)]
            for place, total in zip(places, y, strict=True):
                build.store(total, place)
            return carried

        build.loop(build.integer(0), count, 1, [], body)
        return context.get_dummy_value()

    return signature, generate


@compiled
def _gather_all(kind, factors, lines, stride, count, source, target, step):
    """Gather by any number of lines."""
    item, l = kind.itemsize, 0
    while l + LINES <= lines:
        _gather(LINES, kind, factors + l * stride * item, stride, count, source,
                target + l * step * item, step)  # fmt: skip
        l += LINES
    while l < lines:
        _gather(1, kind, factors + l * stride * item, stride, count, source,
                target + l * step * item, step)  # fmt: skip
        l += 1


@compiled
def _scatter_all(kind, factors, lines, stride, count, source, target, step):
    """Scatter by any number of lines."""
    item, l = kind.itemsize, 0
    while l + LINES <= lines:
        _scatter(LINES, kind, factors + l * stride * item, stride, count,
                 source + l * step * item, target, step)  # fmt: skip
        l += LINES
    while l < lines:
        _scatter(1, kind, factors + l * stride * item, stride, count,
                 source + l * step * item, target, step)  # fmt: skip
        l += 1


@compiled
def add_panel(table, begins, contents, triangular, first, last, forwards, backwards, x, y, low):
    """Add the products of rectangles with a column group x, (n, w), to y, (rows, w).

    w numbers fill `VECTORS` registers. The other parameters are those of `add_vector`.
    """
    u, v, dense = contents
    in_u, in_v, in_dense = begins
    step, item, most = x.shape[1], x.itemsize, 0
    for b in range(first, last):
        most = max(most, table[b, 4])
    z = np.empty((max(most, 1), step), x.dtype)
    to, operand, result = address_of(z), address_of(x), address_of(y)
    for b in range(first, last):
        top, p, left, q, rank = table[b, 0], table[b, 1], table[b, 2], table[b, 3], table[b, 4]
        x_top, x_left = operand + top * step * item, operand + left * step * item
        y_top, y_left = result + (top - low) * step * item, result + (left - low) * step * item
        if rank != DENSE:
            one, two = address_of(u) + in_u[b] * item, address_of(v) + in_v[b] * item
            if forwards:
                z[:rank] = 0
                _gather_all(x, two, rank, q, q, x_left, to, step)
                _scatter_all(x, one, rank, p, p, to, y_top, step)
            if backwards:
                z[:rank] = 0
                _gather_all(x, one, rank, p, p, x_top, to, step)
                _scatter_all(x, two, rank, q, q, to, y_left, step)
            continue
        entries = address_of(dense) + in_dense[b] * item
        if not triangular[b]:
            if forwards:
                _gather_all(x, entries, p, q, q, x_left, y_top, step)
            if backwards:
                _scatter_all(x, entries, p, q, q, x_top, y_left, step)
            continue
        for i in range(p):
            # A row up to the diagonal, and its mirror image short of it.
            there = i * step * item
            _gather(1, x, entries, 0, i + 1, x_left, y_top + there, step)
            _scatter(1, x, entries, 0, i, x_left + there, y_top, step)
            entries += (i + 1) * item
    hold(z)
