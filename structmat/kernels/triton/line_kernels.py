# mypy: disable-error-code="import-untyped,untyped-decorator,no-untyped-def,attr-defined"
"""Products with lines of packed contents, in Triton, for few vectors.

The floor for up to 16 vectors is the time to read every stored scalar once. `dot` sums along
lines: a program takes several lines, and reads consecutive scalars of each. `add` sums across
lines: a program takes a window of positions and a share of the pieces that meet it; shares are
added afterwards, in one order, so that results repeat bit for bit. Many programs, each with many
reads in flight, keep the memory busy. Sums are kept in float32.

From two vectors on `add` multiplies by matrix units, whose smallest product has 16 rows.
"""

from __future__ import annotations  # so that kernels can be written where Triton is missing

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from structmat.kernels.layouts.lines import GRAIN, WINDOW
from structmat.kernels.triton.kernels import Launch, precision

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

#: Vectors of one launch.
MOST_VECTORS = 16
#: Programs that keep all multiprocessors busy (132 on Hopper), and the pieces of one at least.
_BUSY, _LEAST_PIECES = 8 * 132, 64
#: Mean length of pieces from which on a wide read may begin before them.
_LEAST_SHIFTED = 64


def _jit(kernel: Callable[..., None]) -> Any:
    return kernel if triton is None else triton.jit(kernel)


@_jit
def dot_kernel(
    x,
    contents,
    scale,
    begin,
    base,
    first,
    length,
    owner,
    y,
    vectors,
    lines,
    along,
    whole,
    x_row,
    x_col,
    y_row,
    y_col,
    VECTORS: tl.constexpr,
    LINES: tl.constexpr,
    BLOCK: tl.constexpr,
    GRAIN: tl.constexpr,
    SHIFT: tl.constexpr,
    SCALED: tl.constexpr,
):
    """LINES numbers of VECTORS results: sums of contents times the operand along lines."""
    line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    here = line < lines
    vector = tl.program_id(1) * VECTORS + tl.arange(0, VECTORS)
    real = vector < vectors
    piece = tl.load(begin + line, mask=here, other=0)
    end = tl.load(begin + line + 1, mask=here, other=0)
    lane = tl.arange(0, BLOCK)
    x_at = x + vector[:, None, None].to(tl.int64) * x_row
    total = tl.zeros((VECTORS, LINES, BLOCK), tl.float32)
    for _ in range(tl.max(end - piece, 0)):
        alive = piece < end
        at = tl.multiple_of(tl.load(base + piece, mask=alive, other=0), GRAIN)
        start = tl.multiple_of(tl.load(first + piece, mask=alive, other=0), GRAIN)
        stop = tl.multiple_of(tl.load(length + piece, mask=alive, other=0), GRAIN)
        if SHIFT > 1:
            # Begin where a wide read can: with a few scalars of the piece before.
            skip = at % SHIFT
            at, start, stop = tl.multiple_of(at - skip, SHIFT), start - skip, stop + skip
            wide = tl.multiple_of((stop + SHIFT - 1) // SHIFT * SHIFT, SHIFT)
            beyond = tl.max(at + wide, 0) > whole
        if SCALED:
            factor = tl.load(scale + tl.load(owner + piece, mask=alive, other=0))
            factor = factor.to(tl.float32)
        for shift in range(0, tl.max(stop, 0), BLOCK):
            step = shift + lane
            inside = step[None, :] < stop[:, None]
            place = at[:, None] + step[None, :]
            if SHIFT > 1:
                near = (step[None, :] < wide[:, None]) & (place < tl.multiple_of(whole, SHIFT))
                c = tl.load(contents + place, mask=near, other=0.0)
                inside = inside & (step[None, :] >= skip[:, None])
                if beyond:
                    # The last scalars of all fill no wide read.
                    c += tl.load(contents + place, mask=inside & (place >= whole), other=0.0)
                c = tl.where(inside, c, 0.0).to(tl.float32)
            else:
                c = tl.load(contents + place, mask=inside, other=0.0).to(tl.float32)
            if SCALED:
                c = c * factor[:, None]
            col = start[:, None] + step[None, :]
            col = tl.where(col >= along, col - along, col)
            v = tl.load(
                x_at + col[None, :, :].to(tl.int64) * x_col,
                mask=real[:, None, None] & inside[None, :, :],
                other=0.0,
            )
            total += v.to(tl.float32) * c[None, :, :]
        piece += 1
    tl.store(
        y + vector[:, None].to(tl.int64) * y_row + line[None, :].to(tl.int64) * y_col,
        tl.sum(total, 2).to(y.dtype.element_ty),
        mask=real[:, None] & here[None, :],
    )


@_jit
def add_kernel(
    z,
    contents,
    scale,
    windows,
    pieces,
    base,
    first,
    length,
    owner,
    line,
    y,
    vectors,
    along,
    shares,
    z_row,
    z_col,
    y_share,
    y_row,
    y_col,
    VECTORS: tl.constexpr,
    PIECES: tl.constexpr,
    WINDOW: tl.constexpr,
    GRAIN: tl.constexpr,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """WINDOW numbers of VECTORS results: a share of the pieces, times one number each."""
    window = tl.program_id(0)
    position = window * WINDOW + tl.arange(0, WINDOW)
    here = position < along
    share = tl.program_id(1)
    vector = tl.program_id(2) * VECTORS + tl.arange(0, VECTORS)
    real = vector < vectors
    start = tl.load(windows + window)
    count = tl.load(windows + window + 1) - start
    span = (count + shares - 1) // shares
    end = start + tl.minimum(count, (share + 1) * span)
    lane = tl.arange(0, PIECES)
    z_at = z + vector[:, None].to(tl.int64) * z_row
    total = tl.zeros((VECTORS, WINDOW), tl.float32)
    for i in range(start + tl.minimum(count, share * span), end, PIECES):
        alive = i + lane < end
        piece = tl.load(pieces + i + lane, mask=alive, other=0)
        at = contents + tl.multiple_of(tl.load(base + piece, mask=alive, other=0), GRAIN)
        begins = tl.multiple_of(tl.load(first + piece, mask=alive, other=0), GRAIN)
        step = position[None, :] - begins[:, None]
        step = tl.where(step < 0, step + along, step)
        size = tl.multiple_of(tl.load(length + piece, mask=alive, other=0), GRAIN)
        inside = (step < size[:, None]) & here[None, :]
        c = tl.load(at[:, None] + step, mask=inside, other=0.0)
        of = tl.load(line + piece, mask=alive, other=0)
        known = real[:, None] & alive[None, :]
        number = tl.load(z_at + of[None, :].to(tl.int64) * z_col, mask=known, other=0.0)
        if SCALED:
            factor = tl.load(scale + tl.load(owner + piece, mask=alive, other=0))
            number = number.to(tl.float32) * factor.to(tl.float32)[None, :]
        if VECTORS == 1:
            part = tl.trans(number).to(tl.float32) * c.to(tl.float32)
            # A number that is not finite reaches its own piece alone.
            total += tl.sum(tl.where(inside, part, 0.0), 0)[None, :]
        else:
            total = tl.dot(number.to(c.dtype), c, total, input_precision=PRECISION)
    tl.store(
        y
        + share.to(tl.int64) * y_share
        + vector[:, None].to(tl.int64) * y_row
        + position[None, :].to(tl.int64) * y_col,
        total.to(y.dtype.element_ty),
        mask=real[:, None] & here[None, :],
    )


def dot_launch(vectors: int, mean: int) -> Launch:
    """Vectors, lines and scalars at a time of `dot`, for pieces of a mean length.

    A program reads 2048 scalars at a time for one vector, and fewer for several, whose sums all
    stay in registers.

    Examples
    --------
    >>> dot_launch(1, 500)
    {'VECTORS': 1, 'LINES': 4, 'BLOCK': 512, 'num_warps': 4, 'num_stages': 1}
    """
    count = min(1 << (vectors - 1).bit_length(), MOST_VECTORS)
    block = min(max(16, 1 << (mean - 1).bit_length()), 512)
    area = max(512, 2048 // count)
    lines = max(1, area // block)
    return {"VECTORS": count, "LINES": lines, "BLOCK": block, "num_warps": 4, "num_stages": 1}


def add_launch(vectors: int) -> Launch:
    """Vectors and pieces at a time of `add`.

    Examples
    --------
    >>> add_launch(3)
    {'VECTORS': 16, 'PIECES': 64, 'WINDOW': 32, 'num_warps': 4, 'num_stages': 2}
    """
    count = 1 if vectors == 1 else MOST_VECTORS
    return {"VECTORS": count, "PIECES": 64, "WINDOW": WINDOW, "num_warps": 4, "num_stages": 2}


def add_shares(windows: int, pieces: int) -> int:
    """Number of shares of each window's pieces, whose sums are added afterwards.

    Examples
    --------
    >>> add_shares(128, 128 * 600), add_shares(128, 300), add_shares(4000, 10**6)
    (9, 1, 1)
    """
    most = max(1, pieces // max(windows * _LEAST_PIECES, 1))
    return max(1, min(-(-_BUSY // max(windows, 1)), most))


def dot(
    x: Tensor,
    contents: Tensor,
    scale: Tensor | None,
    layout: list[Tensor],
    sizes: list[int],
    dtype: torch.dtype,
) -> Tensor:
    """Sums along the lines: x, (vectors, along), to (vectors, lines) of a dtype."""
    begin, base, _, first, length, owner, _, _ = layout
    lines, along, mean, _, grain = sizes
    y = x.new_empty(x.shape[0], lines, dtype=dtype)
    launch = dot_launch(max(x.shape[0], 1), mean)
    shift = GRAIN if grain == 1 and mean >= _LEAST_SHIFTED else 1
    whole = contents.shape[0] // GRAIN * GRAIN
    grid = -(-lines // launch["LINES"]), -(-x.shape[0] // launch["VECTORS"])
    if y.numel():
        with torch.cuda.device_of(x):
            dot_kernel[grid](
                *(x, contents, contents if scale is None else scale),
                *(begin, base, first, length, owner, y, x.shape[0], lines, along, whole),
                *(*x.stride(), *y.stride()),
                GRAIN=grain,
                SHIFT=shift,
                SCALED=scale is not None,
                **launch,
            )
    return y


def add(
    z: Tensor,
    contents: Tensor,
    scale: Tensor | None,
    layout: list[Tensor],
    sizes: list[int],
    dtype: torch.dtype,
) -> Tensor:
    """Sums across the lines: z, (vectors, lines), to (vectors, along) of a dtype."""
    _, base, line, first, length, owner, windows, pieces = layout
    _, along, _, _, grain = sizes
    count, vectors = windows.shape[0] - 1, z.shape[0]
    shares = add_shares(count, pieces.shape[0])
    kept = dtype if shares == 1 else torch.float32
    y = z.new_empty(shares, vectors, along, dtype=kept)
    if not y.numel():
        return y[0]
    launch = add_launch(vectors)
    grid = count, shares, -(-vectors // launch["VECTORS"])
    with torch.cuda.device_of(z):
        add_kernel[grid](
            *(z, contents, contents if scale is None else scale),
            *(windows, pieces, base, first, length, owner, line, y, vectors, along, shares),
            *(*z.stride(), *y.stride()),
            GRAIN=grain,
            SCALED=scale is not None,
            PRECISION=precision(),
            **launch,
        )
    return y[0] if shares == 1 else y.sum(0).to(dtype)
