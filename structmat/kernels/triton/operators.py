"""Operators of PyTorch for products with tiles, which compile, export and differentiate.

`structmat::tile_matmul` is x W, and `structmat::tile_outer` the part of x^T y that the tiles of W
hold. The gradients of each are the two operators again, so that they differentiate any number of
times.

On a GPU they run in Triton (16- and 32-bit floats); elsewhere, and for block diagonals of equal
full blocks, in torch's own matrix products.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from structmat._derivatives import is_batch_of_gradients, is_transformed

# A layout on a device: begin, owner, inputs, outputs, and places of tiles in packed contents.
Parts = Sequence[Tensor]
_HAS_TRITON = find_spec("triton") is not None
#: Tensors of a layout, and numbers that say how packed contents hold its tiles: the tile's sides,
#: the steps to its next row and column, and a power of two that divides places.
PARTS, STEPS = 5, 5
NO_GRADIENTS = [None] * PARTS


def _by_columns(x: Tensor) -> bool:
    return x.stride(0) == 1 and x.stride(1) != 1


def _new(x: Tensor, q: int, by_columns: bool) -> Tensor:
    """An empty (tokens, q) in the wanted order."""
    tokens = x.shape[0]
    return x.new_empty(q, tokens).T if by_columns else x.new_empty(tokens, q)


def _span(first: Tensor, side: int) -> Tensor:
    """All rows or columns: as listed, or the consecutive ones from each first."""
    if first.shape[1] > 1:
        return first
    return first + torch.arange(side, dtype=first.dtype, device=first.device)


def _read(x: Tensor, index: Tensor) -> Tensor:
    """Columns of x, zero where an index lies beyond the last: (tokens, *index.shape)."""
    tokens, p = x.shape
    flat = index.reshape(-1)
    if p == 0:
        return x.new_zeros(tokens, *index.shape)
    taken = x.index_select(1, flat.clamp(max=p - 1)).masked_fill(flat >= p, 0)
    return taken.view(tokens, *index.shape)


def _new_tiles(x: Tensor, grad: Tensor, layout: Parts, tk: int, tn: int) -> Tensor:
    return x.new_empty(layout[1].shape[0], tk, tn)


def uses_triton(x: Tensor) -> bool:
    """Tell whether Triton multiplies a tensor: by its device and dtype."""
    return x.is_cuda and x.dtype in (torch.bfloat16, torch.float16, torch.float32) and _HAS_TRITON


def times(
    x: Tensor,
    values: Tensor,
    back_values: Tensor,
    layout: Sequence[Tensor],
    back: Sequence[Tensor],
    q: int,
    by_columns: bool,
    batched: bool,
    back_batched: bool,
    steps: Sequence[int],
) -> Tensor:
    """The operator `structmat::tile_matmul`; arguments `back…` are for its gradient.

    Without `steps` the values are tiles, (t, tk, tn). With them, those of both sides one after
    the other, the values are packed contents, (total,), which hold the tiles of both.
    """
    begin, _, inputs, outputs, at = layout
    y = _new(x, q, by_columns)
    if uses_triton(x) and not (batched and not steps):
        from structmat.kernels.triton import kernels as triton_tiles

        place = (at, steps[:STEPS]) if steps else (None, ())
        triton_tiles.times(x, values.contiguous(), begin, inputs, outputs, y, *place)
        return y
    values = _tiles(values, layout, steps)
    if batched:
        return _times_batched(x, values, outputs, y)
    return _times_by_groups(x, values, layout, y)


def _index(layout: Parts, steps: Sequence[int]) -> Tensor:
    """Places of the entries of all tiles in packed contents: (t, tk, tn)."""
    at = layout[4].long()
    tk, tn, row, col, _ = steps[:STEPS]
    inner = torch.arange(tk, device=at.device)[:, None] * row
    return at[:, None, None] + inner + torch.arange(tn, device=at.device) * col


def _tiles(values: Tensor, layout: Parts, steps: Sequence[int]) -> Tensor:
    """The tiles, (t, tk, tn)."""
    if not steps:
        return values
    index = _index(layout, steps)
    return values.index_select(0, index.reshape(-1)).view(index.shape)


def _packed(tiles: Tensor, total: int, layout: Parts, steps: Sequence[int]) -> Tensor:
    """Tiles as packed contents, if their places are told."""
    if not steps:
        return tiles
    index = _index(layout, steps).reshape(-1)
    return tiles.new_zeros(total).index_copy(0, index, tiles.reshape(-1))


def _times_batched(x: Tensor, values: Tensor, outputs: Tensor, y: Tensor) -> Tensor:
    """All groups in one batched product."""
    groups, tn = outputs.shape[0], values.shape[2]
    chosen = x.unflatten(1, (groups, -1)).transpose(0, 1)
    panels = values.reshape(groups, -1, tn)
    if outputs.shape[1] == 1:
        torch.bmm(chosen, panels, out=y.unflatten(1, (groups, tn)).transpose(0, 1))
        return y
    parts = torch.bmm(chosen, panels).transpose(0, 1)
    return y.index_copy_(1, outputs.reshape(-1).long(), parts.reshape(y.shape))


def _times_by_groups(x: Tensor, values: Tensor, layout: Parts, y: Tensor) -> Tensor:
    """One product a group."""
    for tiles, rows, columns in _groups(layout, values.shape, x.shape[1], y.shape[1]):
        panel = values[tiles].reshape(-1, values.shape[2])[: rows.numel(), : columns.numel()]
        y.index_copy_(1, columns, _take(x, rows) @ panel)
    return y


def _outer(
    x: Tensor,
    grad: Tensor,
    layout: Sequence[Tensor],
    tk: int,
    tn: int,
) -> Tensor:
    """The operator `structmat::tile_outer`."""
    _, owner, inputs, outputs, _ = layout
    out = _new_tiles(x, grad, layout, tk, tn)
    if uses_triton(x):
        from structmat.kernels.triton import kernels as triton_tiles

        triton_tiles.outer(x, grad, owner, inputs, outputs, out)
        return out
    out.zero_()
    for tiles, rows, columns in _groups(layout, out.shape, x.shape[1], grad.shape[1]):
        panel = out[tiles].view(-1, tn)[: rows.numel(), : columns.numel()]
        panel.copy_(_take(x, rows).T @ _take(grad, columns))
    return out


def _groups(
    layout: Parts, tiles: Sequence[int], p: int, q: int
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Tiles of every group, and the rows and columns of W that they hold, without padding.

    Padding comes last in a group, so the rest is a corner of its panel.
    """
    begin, _, inputs, outputs, _ = layout
    _, tk, tn = tiles
    rows, columns = _span(inputs, tk), _span(outputs, tn).long()
    for group, (a, b) in enumerate(pairwise(begin.tolist())):
        index = rows[a:b].reshape(-1)
        yield slice(a, b), index[index < p], columns[group, : min(tn, q - group * tn)]


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Columns of x; a view of them where they are consecutive."""
    size = index.numel()
    if size == 0 or bool((index.diff() == 1).all()):
        first = int(index[0]) if size else 0
        return x[:, first : first + size]
    if _by_columns(x):
        return x.T.index_select(0, index).T
    return x.index_select(1, index)


def _plain_times(
    x: Tensor,
    values: Tensor,
    back_values: Tensor,
    layout: Sequence[Tensor],
    back: Sequence[Tensor],
    q: int,
    by_columns: bool,
    batched: bool,
    back_batched: bool,
    steps: Sequence[int],
) -> Tensor:
    """`structmat::tile_matmul` by operations of torch alone, for transforms and for ONNX."""
    _, owner, inputs, outputs, _ = layout
    values = _tiles(values, layout, steps)
    left, right = _span(inputs, values.shape[1]), _span(outputs, values.shape[2])[owner.long()]
    return _add_parts(x.shape[0], q, right, _read(x, left).transpose(0, 1) @ values)


def _plain_outer(x: Tensor, grad: Tensor, layout: Sequence[Tensor], tk: int, tn: int) -> Tensor:
    """`structmat::tile_outer` by operations of torch alone."""
    _, owner, inputs, outputs, _ = layout
    left, right = _span(inputs, tk), _span(outputs, tn)[owner.long()]
    return _read(x, left).permute(1, 2, 0) @ _read(grad, right).transpose(0, 1)


def choose(*tensors: Tensor) -> tuple[Any, Any]:
    """Both operators, or what stands for them under transforms."""
    plain = is_transformed(*tensors) or any(map(is_batch_of_gradients, tensors))
    return (_plain_times, _plain_outer) if plain else (_matmul, _outer_product)


def _fake_times(x: Tensor, values: Tensor, back_values: Tensor, *rest: Any) -> Tensor:
    _, _, q, by_columns, *_ = rest
    return _new(x, q, by_columns)


def _save_times(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, back_values, layout, back, _, _, *ctx.batched, ctx.steps = inputs
    ctx.save_for_backward(x, values, back_values, *layout, *back)


def _times_gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, values, back_values, *parts = ctx.saved_tensors
    layout, back, steps = parts[:PARTS], parts[PARTS:], ctx.steps
    back_values = values if steps else back_values
    sides = steps[:2] if steps else values.shape[1:]
    matmul, outer = choose(grad)
    grad_x = grad_values = grad_back = None
    if ctx.needs_input_grad[0]:
        here, there = ctx.batched
        grad_x = matmul(
            *(grad, back_values.conj(), values.conj(), back, layout),
            *(x.shape[1], _by_columns(x), there, here, [*steps[STEPS:], *steps[:STEPS]]),
        )
    # Both hold the same contents: where both ask for a gradient, the smaller one takes it all.
    if not steps and all(ctx.needs_input_grad[1:3]) and back_values.numel() < values.numel():
        grad_back = outer(grad, x.conj(), back, *back_values.shape[1:])
    elif ctx.needs_input_grad[1]:
        tiles = outer(x.conj(), grad, layout, *sides)
        grad_values = _packed(tiles, values.shape[0], layout, steps)
    # Torch takes an empty list for one of tensors.
    none = NO_GRADIENTS, NO_GRADIENTS, *[None] * 4, None if steps else []
    return grad_x, grad_values, grad_back, *none


def _save_outer(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, grad, layout, _, _ = inputs
    ctx.save_for_backward(x, grad, *layout)


def _outer_gradients(ctx: Any, tiles: Tensor) -> tuple[Any, ...]:
    """Second derivatives: tile by tile in plain torch, since the tiles of W^T are not at hand."""
    x, grad, _, owner, inputs, outputs, _ = ctx.saved_tensors
    left, right = _span(inputs, tiles.shape[1]), _span(outputs, tiles.shape[2])[owner.long()]
    grad_x = _add_parts(
        x.shape[0], x.shape[1], left, _read(grad.conj(), right).transpose(0, 1) @ tiles.mT
    )
    grad_grad = _add_parts(
        grad.shape[0], grad.shape[1], right, _read(x.conj(), left).transpose(0, 1) @ tiles
    )
    return grad_x, grad_grad, NO_GRADIENTS, None, None


def _add_parts(tokens: int, size: int, index: Tensor, parts: Tensor) -> Tensor:
    """Sum of parts, shape (t, tokens, side), at columns `index`, shape (t, side)."""
    flat = parts.permute(1, 0, 2).reshape(tokens, -1)
    at = index.reshape(-1).clamp(max=size).long()
    return flat.new_zeros(tokens, size + 1).index_add(1, at, flat)[:, :size]


def _operator(name: str, function: Any, fake: Any, backward: Any, context: Any) -> Any:
    """An operator of torch, defined without the wrappers of `custom_op`, which take host time."""
    _library.define(name + torch.library.infer_schema(function, mutates_args=()))
    _library.impl(name, function, "CompositeExplicitAutograd")
    full = f"structmat::{name}"
    torch.library.register_fake(full, fake, lib=_library)
    torch.library.register_autograd(full, backward, setup_context=context, lib=_library)
    return getattr(torch.ops.structmat, name).default


_library = torch.library.Library("structmat", "FRAGMENT")
_matmul = _operator("tile_matmul", times, _fake_times, _times_gradients, _save_times)
torch._decomp.register_decomposition(torch.ops.structmat.tile_matmul.default)(_plain_times)
_outer_product = _operator("tile_outer", _outer, _new_tiles, _outer_gradients, _save_outer)
