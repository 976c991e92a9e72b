"""Products with lines of packed contents on PyTorch, by one operator, for few vectors.

The operator `structmat::lines` takes vectors through all factors of a matrix, in Triton on a GPU
and by plain operations elsewhere. It reads packed contents where they stand: nothing is filled,
so a compiled layer reads each scalar once as well, and memory holds the contents and the pieces.
Its gradient by the vectors is the operator again, by the factors in reverse.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat._derivatives import (
    is_plain,
    is_recorded,
    is_transformed,
    is_translated,
    recorded_gradients,
)
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.lines import LineLayout, lines_of, strip_lines
from structmat.kernels.layouts.strips import Strips
from structmat.kernels.triton.operators import uses_triton

#: Tensors and sizes of one factor in the lists of the operator.
_PARTS, _SIZES = 8, 6
#: What a product does with the operand beside the factors: nothing; joins it to the numbers
#: between them; adds the numbers that belong to it.
ALONE, JOINED, ADDED = range(3)

Product = Callable[[Tensor, Tensor, Tensor | None, list[Tensor], list[int], torch.dtype], Tensor]


class LineFactor:
    """Lines of a sparse factor on a device, as lists for the operator."""

    def __init__(self, layout: LineLayout, device: torch.device | str) -> None:
        windows, pieces = layout.windows()
        arrays = [layout.begin, layout.base, layout.line, layout.first, layout.length]
        arrays += [layout.scale, windows, pieces]
        self.parts = [torch.from_numpy(a.astype(np.int32)).to(device) for a in arrays]
        stored = int(layout.length.sum())
        self._sizes = [layout.lines, layout.along, layout.mean, stored, layout.grain]

    def sizes(self, *, along: bool) -> list[int]:
        """Sizes for a sum along the lines, or across them."""
        return [int(along), *self._sizes]


class LineStructure:
    """The factors of A = R [C^H; I] as lines, in the order of a product by A."""

    def __init__(self, structure: FactorStructure, totals: list[int]) -> None:
        strips = Strips.of(structure)
        self.single = -1 if strips is None else strips.side
        if strips is not None:
            layouts, by_rows = [strip_lines(strips)], [self.single == 0]
        else:
            both = [lines_of(p, t) for p, t in zip(structure.patterns, totals, strict=True)]
            # A sum over the rows of C is along its columns; one over columns of R, along its rows.
            layouts, by_rows = [layout for layout, _ in both], [not both[0][1]]
            if len(both) == 2:
                layouts.reverse()
                by_rows = [both[1][1], *by_rows]
        factors = [LineFactor(layout, structure.device) for layout in layouts]
        self.parts = [part for factor in factors for part in factor.parts]
        pairs = list(zip(factors, by_rows, strict=True))
        back = [s for factor, along in pairs[::-1] for s in factor.sizes(along=not along)]
        beside = structure.through and len(factors) == 2
        self.forward = [JOINED if beside else ALONE]
        self.forward += [s for factor, along in pairs for s in factor.sizes(along=along)]
        self.adjoint = [ADDED if beside else ALONE, *back]


class TorchLines:
    """A matrix bound to lines: real contents on torch, where they stand."""

    def __init__(self, structure: LineStructure, contents: list[Tensor]) -> None:
        self._structure, none = structure, contents[0].new_empty(0)
        if structure.single >= 0:
            self._scale, first = contents[structure.single], contents[1 - structure.single]
            self._contents = first, none
        else:
            # In the order of the factors.
            first, *second = contents[::-1]
            self._contents, self._scale = (first, *(second or [none])), none

    def multiply(self, x: Tensor, *, by_columns: bool = False) -> Tensor:
        """A x: (n, k) to (m, k), in memory column after column."""
        parts = self._structure.parts
        return _multiply(x.T, *self._contents, self._scale, parts, self._structure.forward).T

    def multiply_adjoint(self, y: Tensor, *, by_columns: bool = False) -> Tensor:
        """A^T y: (m, k) to (n, k), in memory column after column."""
        given = reverse(*self._contents, self._structure.parts)
        *contents, parts = given
        return _multiply(y.T, *contents, self._scale, parts, self._structure.adjoint).T


def torch_lines(structure: FactorStructure, contents: list[Tensor]) -> TorchLines:
    """A matrix as lines that hold these packed contents."""
    totals = [c.shape[0] for c in contents]
    return TorchLines(structure.kept("lines", lambda: LineStructure(structure, totals)), contents)


def reverse(
    first: Tensor, second: Tensor, parts: Sequence[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Contents and parts of the factors in reverse."""
    if len(parts) == _PARTS:
        return first, second, list(parts)
    return second, first, [*parts[_PARTS:], *parts[:_PARTS]]


def reversed_sizes(sizes: Sequence[int]) -> list[int]:
    """Sizes of the product by the transpose."""
    beside, *rest = sizes
    groups = [rest[i : i + _SIZES] for i in range(0, len(rest), _SIZES)]
    back = [s for along, *others in groups[::-1] for s in (1 - along, *others)]
    return [(ALONE, ADDED, JOINED)[beside], *back]


def _multiply(x: Tensor, *rest: Any) -> Tensor:
    # Where torch follows nothing, the way through its dispatcher is spared.
    if uses_triton(x) and is_plain(x, *rest[:3]):
        return _lines(x, *rest)
    if is_transformed(x, *rest[:3]) or is_translated():
        return _plain_lines(x, *rest)
    result: Tensor = torch.ops.structmat.lines(x, *rest)
    return result


def _chain(
    dot: Product,
    add: Product,
    x: Tensor,
    first: Tensor,
    second: Tensor,
    scale: Tensor,
    parts: Sequence[Tensor],
    sizes: Sequence[int],
) -> Tensor:
    """Vectors through all factors; numbers between two of them stay in float32."""
    beside, along, *own = sizes[: 1 + _SIZES]
    product = dot if along else add
    factor = scale if scale.shape[0] else None
    if len(parts) == _PARTS:
        return product(x, first, factor, list(parts), own, x.dtype)
    wide = torch.promote_types(x.dtype, torch.float32)
    z = product(x, first, None, list(parts[:_PARTS]), own, wide)
    along, *own = sizes[1 + _SIZES :]
    product, rest = dot if along else add, list(parts[_PARTS:])
    if beside == JOINED:
        return product(torch.cat([z, x.to(wide)], 1), second, None, rest, own, x.dtype)
    if beside == ALONE:
        return product(z, second, None, rest, own, x.dtype)
    count = own[0] if not along else own[1]
    y = product(z[:, :count], second, None, rest, own, wide)
    return (y + z[:, count:]).to(x.dtype)


def _places(parts: list[Tensor], along: int, total: int) -> list[Tensor]:
    """Line, position, place in the contents and index of scale of each stored scalar."""
    _, base, line, first, length, owner, _, _ = parts
    of = torch.repeat_interleave(length, output_size=total)
    step = torch.arange(total, device=of.device) - (length.cumsum(0) - length)[of]
    return [line[of].long(), (first[of] + step) % max(along, 1), base[of] + step, owner[of].long()]


def _plain(
    x: Tensor,
    contents: Tensor,
    scale: Tensor | None,
    parts: list[Tensor],
    sizes: list[int],
    dtype: torch.dtype,
    *,
    dot: bool,
) -> Tensor:
    lines, along, _, stored, _ = sizes
    line, at, place, owner = _places(parts, along, stored)
    wide = torch.promote_types(x.dtype, torch.float32)
    values = contents[place].to(wide)
    if scale is not None:
        values = values * scale[owner].to(wide)
    source, target, size = (at, line, lines) if dot else (line, at, along)
    products = x[:, source].to(wide) * values
    y = products.new_zeros(x.shape[0], size).index_add(1, target, products)
    return y.to(dtype)


#: The operator by operations of torch alone, for other devices, transforms and gradients.
_plain_lines = partial(_chain, partial(_plain, dot=True), partial(_plain, dot=False))


def _lines(
    x: Tensor,
    first: Tensor,
    second: Tensor,
    scale: Tensor,
    parts: list[Tensor],
    sizes: list[int],
) -> Tensor:
    if not uses_triton(x):
        return _plain_lines(x, first, second, scale, parts, sizes).contiguous()
    from structmat.kernels.triton.line_kernels import add, dot

    return _chain(dot, add, x, first, second, scale, parts, sizes)


def _fake(x: Tensor, first: Tensor, second: Tensor, *rest: Any) -> Tensor:
    along, lines, positions, *_ = rest[-1][-_SIZES:]
    return x.new_empty(x.shape[0], lines if along else positions)


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, first, second, scale, ctx.parts, ctx.sizes = inputs
    ctx.save_for_backward(x, first, second, scale)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, first, second, scale = ctx.saved_tensors
    needed = ctx.needs_input_grad[:4]
    if any(needed[1:]) or is_recorded(grad):

        def product(x: Tensor, first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
            return _plain_lines(x, first, second, scale, ctx.parts, ctx.sizes)

        found = recorded_gradients(product, (x, first, second, scale), needed, grad)
    else:
        *contents, parts = reverse(first, second, ctx.parts)
        by_x = _multiply(grad, *contents, scale, parts, reversed_sizes(ctx.sizes))
        found = [by_x, None, None, None]
    return *found, [None] * len(ctx.parts), None


_library = torch.library.Library("structmat", "FRAGMENT")
_library.define(
    "lines(Tensor x, Tensor first, Tensor second, Tensor scale, Tensor[] parts, int[] sizes)"
    " -> Tensor"
)
_library.impl("lines", _lines, "CompositeExplicitAutograd")
torch.library.register_fake("structmat::lines", _fake, lib=_library)
torch.library.register_autograd("structmat::lines", _backward, setup_context=_context, lib=_library)
