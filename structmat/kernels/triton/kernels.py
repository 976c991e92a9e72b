# mypy: disable-error-code="import-untyped,untyped-decorator,no-untyped-def,attr-defined"
"""Products with tiles on tensor cores, in Triton, for many rows.

`times` computes x W from the tiles of a `TileLayout` (`layouts/tiles.py`), `outer` its gradient
by the tiles. The gradient by x is `times` with the tiles of W^T. Sums are kept in float32 and
added in one order, never atomically, so results repeat bit for bit.

The floor, for `t` tiles of (tk, tn) and `tokens` rows: 2 tokens t tk tn operations, and the
bytes of x, of the tiles and of the result, each once. A Hopper chip (H200 data sheet: 989
Tflop/s in bf16, 4.8 TB/s) multiplies for long enough to hide the bytes wherever a column of x
meets more than 200 stored scalars. Reading tiles and x from the L2 cache into shared memory
is the limit before that: with ``BLOCK_M`` rows a program does BLOCK_M tn / (BLOCK_M + tn)
operations for each byte of 16-bit operands: 85 for 256 rows and 128 columns, 64 for 128 and
128, 43 for 128 and 64. Hence wide groups and many rows. Programs that run at one time share
their rows of x, so that x comes from memory once; the tiles stay in L2.

x and the result may lie row after row or column after column: kernels take strides. Reading
is fast for consecutive rows of W in the former and for listed ones in the latter.

A pair (x V) U^T is two launches. In one it would save writing and reading z = x V, 4 tokens K
bytes in 16 bits, but each program would have to keep its rows of z on chip, at most 900 columns
of 128 rows in the 227 KB of a multiprocessor, and would leave no room to read tiles ahead.
"""

from __future__ import annotations  # so that kernels can be written where Triton is missing

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from structmat.errors import InputError, MissingDependencyError
from structmat.kernels.triton.launches import figures, place_of_launches

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
Launch = dict[str, int]


def _jit(kernel: Callable[..., None]) -> Any:
    return kernel if triton is None else triton.jit(kernel)


@_jit
def times_kernel(
    x,
    values,
    begin,
    inputs,
    outputs,
    at,
    y,
    tokens,
    p,
    q,
    groups,
    v_row,
    v_col,
    x_row,
    x_col,
    y_row,
    y_col,
    TK: tl.constexpr,
    TN: tl.constexpr,
    LISTED_INPUTS: tl.constexpr,
    LISTED_OUTPUTS: tl.constexpr,
    PLACED: tl.constexpr,
    GRAIN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One group of columns of x W for BLOCK_M rows."""
    program = tl.program_id(0)
    group = program % groups
    row = (program // groups).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = row < tokens
    lane = tl.arange(0, TN)
    part = tl.arange(0, BLOCK_K)
    x_at = x + row[:, None] * x_row
    total = tl.zeros((BLOCK_M, TN), tl.float32)
    PARTS: tl.constexpr = TK // BLOCK_K
    for i in range(tl.load(begin + group) * PARTS, tl.load(begin + group + 1) * PARTS):
        place = i * BLOCK_K + part
        if LISTED_INPUTS:
            col = tl.load(inputs + place)
        else:
            first = tl.multiple_of(tl.load(inputs + i // PARTS), 16)
            col = first + i % PARTS * BLOCK_K + part
        here = tl.load(
            x_at + col[None, :].to(tl.int64) * x_col,
            mask=inside[:, None] & (col < p)[None, :],
            other=0.0,
        )
        if PLACED:
            base = tl.multiple_of(tl.load(at + i // PARTS), GRAIN)
            inner = i % PARTS * BLOCK_K + part
            tile = tl.load(values + base + inner[:, None] * v_row + lane[None, :] * v_col)
        else:
            tile = tl.load(values + place[:, None].to(tl.int64) * TN + lane[None, :])
        total = tl.dot(here, tile, total, input_precision=PRECISION)
    col = tl.load(outputs + group * TN + lane) if LISTED_OUTPUTS else group * TN + lane
    tl.store(
        y + row[:, None] * y_row + col[None, :].to(tl.int64) * y_col,
        total.to(y.dtype.element_ty),
        mask=inside[:, None] & (col < q)[None, :],
    )


@_jit
def outer_kernel(
    x,
    grad,
    owner,
    inputs,
    outputs,
    out,
    tokens,
    p,
    q,
    x_row,
    x_col,
    grad_row,
    grad_col,
    share,
    TK: tl.constexpr,
    TN: tl.constexpr,
    LISTED_INPUTS: tl.constexpr,
    LISTED_OUTPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """One tile of x^T grad, over one share of the rows."""
    tile = tl.program_id(0)
    start = tl.program_id(1) * share
    group = tl.load(owner + tile)
    part = tl.arange(0, TK)
    lane = tl.arange(0, TN)
    if LISTED_INPUTS:
        left = tl.load(inputs + tile * TK + part)
    else:
        left = tl.multiple_of(tl.load(inputs + tile), 16) + part
    right = tl.load(outputs + group * TN + lane) if LISTED_OUTPUTS else group * TN + lane
    step = tl.arange(0, BLOCK_M)
    # Rows of the transpose of x, and of grad.
    x_at = x + left[:, None].to(tl.int64) * x_col
    grad_at = grad + right[None, :].to(tl.int64) * grad_col
    total = tl.zeros((TK, TN), tl.float32)
    for first in range(start, tl.minimum(start + share, tokens), BLOCK_M):
        row = first + step
        a = tl.load(
            x_at + row[None, :].to(tl.int64) * x_row,
            mask=(left < p)[:, None] & (row < tokens)[None, :],
            other=0.0,
        )
        b = tl.load(
            grad_at + row[:, None].to(tl.int64) * grad_row,
            mask=(row < tokens)[:, None] & (right < q)[None, :],
            other=0.0,
        )
        total = tl.dot(a, b, total, input_precision=PRECISION)
    tiles = tl.num_programs(0).to(tl.int64) * tl.program_id(1) + tile
    at = (tiles * TK + part[:, None]) * TN + lane[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty))


def times_launch(
    tokens: int, groups: int, tile: tuple[int, int], itemsize: int, place: str = ""
) -> Launch:
    """Block sizes, warps and stages of `times` for a number of rows and of groups, at a place.

    Examples
    --------
    >>> times_launch(8192, 64, (64, 128), 2)
    {'BLOCK_M': 256, 'BLOCK_K': 64, 'num_warps': 8, 'num_stages': 5}
    """
    tk, tn = tile
    kind = f"times, {8 * itemsize} bits"
    # 256 rows a program read least, but only where that leaves work for every multiprocessor.
    if itemsize == 2 and tn >= 64 and -(-tokens // 256) * groups >= 2 * 132:
        kind += ", wide"
    row = figures(kind, place)
    rows = min(row.rows, max(16, 1 << (tokens - 1).bit_length()))
    warps = row.warps if rows == row.rows and row.warps else 8 if rows * tn >= 128 * 128 else 4
    return {
        "BLOCK_M": rows,
        "BLOCK_K": min(tk, row.part),
        "num_warps": warps,
        "num_stages": row.stages,
    }


def outer_launch(tile: tuple[int, int], itemsize: int, place: str = "") -> Launch:
    """Rows at a time, warps and stages of `outer`, at a place."""
    row = figures(f"outer, {8 * itemsize} bits", place)
    warps = row.warps or (8 if tile[0] * tile[1] >= 128 * 128 else 4)
    return {"BLOCK_M": row.rows, "num_warps": warps, "num_stages": row.stages}


def outer_shares(tokens: int, tiles: int) -> int:
    """Number of shares of the rows, whose sums are added afterwards.

    About four programs for each multiprocessor, so that few wait for the last, but no
    share of less than 1024 rows.

    Examples
    --------
    >>> outer_shares(8192, 160), outer_shares(8192, 4000), outer_shares(512, 8)
    (3, 1, 1)
    """
    return max(1, min(4 * 132 // tiles, tokens // 1024))


def precision() -> str:
    """Precision of float32 products: exact, unless torch is set to allow TF32."""
    # The older question fails once the newer setting, of torch 2.9, has been used.
    newer = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    exact = newer != "tf32" if newer else torch.get_float32_matmul_precision() == "highest"
    return "ieee" if exact else "tf32"


def times(
    x: Tensor,
    values: Tensor,
    begin: Tensor,
    inputs: Tensor,
    outputs: Tensor,
    y: Tensor,
    at: Tensor | None = None,
    steps: Sequence[int] = (),
) -> None:
    """Write y = x W, (tokens, q), for W in tiles: contiguous `values`, (t, tk, tn).

    The operand x, (tokens, p), is bfloat16, float16 or float32, as are the values. Strides of
    x and y are free. The rest is as in the `TileLayout`, in int32.

    With `steps` the values are packed contents, (total,), in which tile t begins at ``at[t]``:
    the tile's sides, the steps to its next row and column, and a power of two that divides all
    places and one of the steps.
    """
    (tokens, p), q = x.shape, y.shape[1]
    tk, tn, v_row, v_col, grain = steps or (*values.shape[1:], values.shape[2], 1, 1)
    _check(x)
    groups = begin.numel() - 1
    place = place_of_launches(x.device)
    launch = times_launch(tokens, groups, (tk, tn), x.element_size(), place)
    programs = groups * -(-tokens // launch["BLOCK_M"])
    _check_programs(programs, "rows of x")
    if programs:
        with torch.cuda.device_of(x):
            times_kernel[(programs,)](
                *(x, values, begin, inputs, outputs, begin if at is None else at, y),
                *(tokens, p, q, groups, v_row, v_col, *x.stride(), *y.stride()),
                *(tk, tn, inputs.shape[1] > 1, outputs.shape[1] > 1),
                PLACED=at is not None,
                GRAIN=grain,
                PRECISION=precision(),
                **launch,
            )


def outer(
    x: Tensor,
    grad: Tensor,
    owner: Tensor,
    inputs: Tensor,
    outputs: Tensor,
    out: Tensor,
) -> None:
    """Write x^T grad at the places of tiles to `out`, (t, tk, tn), which is contiguous.

    Both x, (tokens, p), and grad, (tokens, q), have one dtype, as for `times`; their strides
    are free. The rest is as in the `TileLayout`, in int32.
    """
    (tokens, p), q, (tiles, tk, tn) = x.shape, grad.shape[1], out.shape
    _check(x)
    _check_programs(max(tiles, tokens), "tiles and rows of x")
    if not tiles:
        return
    launch = outer_launch((tk, tn), x.element_size(), place_of_launches(x.device))
    shares = outer_shares(tokens, tiles)
    share = -(-tokens // (shares * launch["BLOCK_M"])) * launch["BLOCK_M"]
    sums = out if shares == 1 else out.new_empty(shares, *out.shape, dtype=torch.float32)
    with torch.cuda.device_of(x):
        outer_kernel[(tiles, shares)](
            *(x, grad, owner, inputs, outputs, sums, tokens, p, q),
            *(*x.stride(), *grad.stride(), share),
            *(tk, tn, inputs.shape[1] > 1, outputs.shape[1] > 1),
            PRECISION=precision(),
            **launch,
        )
    if shares > 1:
        out.copy_(sums.sum(0))


def _check(x: Tensor) -> None:
    if triton is None:
        raise MissingDependencyError(
            "triton is missing; the tile kernels are written in it (install a CUDA build of torch, "
            "which brings it, or: pip install triton)"
        )
    if x.dtype not in DTYPES:
        raise InputError(
            f"x has dtype {x.dtype}; expected bfloat16, float16 or float32 on tensor cores "
            "(convert it, or multiply without Triton)"
        )


def _check_programs(count: int, what: str) -> None:
    if count > 2**31 - 2**16:
        raise InputError(
            f"{count} pieces of work; expected fewer than 2**31 in one launch (multiply fewer "
            f"{what} at a time)"
        )
