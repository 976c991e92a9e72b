"""Runs, content windows and contents of a Gaudi weight before training, from its options."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from structmat.errors import InputError
from structmat.nn.gaudi.initial_runs import (
    COST_RULES,
    grid_rank,
    grid_runs,
    rule_runs,
    strip_runs,
)
from structmat.nn.gaudi.structure import Runs

#: Scalars of contents up to which whole circles are stored; beyond, windows.
WHOLE_CIRCLE_SCALARS = 2**22
#: Least length of a window in grains.
_WINDOW_GRAINS = 8


def whole_number(value: object, name: str, least: int) -> int:
    """Return a whole number of at least `least`, or raise an error."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} = {value!r}; expected a whole number of at least {least}")
    return value


class InitialWeight(NamedTuple):
    """Rank of all blocks, windows of contents on both sides, runs, and contents (K, r, S)."""

    rank: int
    windows: tuple[int, int]
    runs: Runs
    u: Tensor
    v: Tensor


def initial_weight(
    shape: tuple[int, int],
    *,
    num_blocks: int | None,
    rank: int | None,
    granularity: int,
    budget: float,
    width_init: str | float,
    location_init: str | float,
    content_init: str | Callable[[Tensor], object],
    min_width: int,
    max_width: int | None,
    generator: torch.Generator | None,
) -> InitialWeight:
    """Runs at a cost or by a rule, and contents on windows; options are those of `GaudiWeight`."""
    cost = budget * math.prod(shape)
    if rank is None:
        is_grid = width_init == "grid"
        rank = grid_rank(shape, cost, granularity=granularity) if is_grid else 1
    whole_number(rank, "rank", 1)
    if width_init in COST_RULES:
        if num_blocks is not None:
            raise InputError(
                f"num_blocks = {num_blocks} with {width_init}; expected None (the budget sets the "
                'number of blocks; choose width_init="splr" to set it yourself)'
            )
        if width_init == "grid":
            runs = grid_runs(shape, cost, rank=rank, granularity=granularity)
        elif rank == 1:
            runs = strip_runs(shape, cost, granularity=granularity)
        else:
            raise InputError(
                f"rank = {rank} with strips; expected 1, as a strip one sample wide has no more "
                '(choose width_init="grid" for blocks of higher rank)'
            )
    else:
        count = min(shape) if num_blocks is None else whole_number(num_blocks, "num_blocks", 0)
        rules = (width_init, location_init)
        runs = rule_runs(shape, count, *rules, generator, granularity=granularity)
    windows = _windows(shape, runs, rank, granularity, min_width, max_width)
    return InitialWeight(
        rank, windows, runs, *_contents(shape, runs, rank, windows, content_init, generator)
    )


def _windows(
    shape: tuple[int, int],
    runs: Runs,
    rank: int,
    granularity: int,
    min_width: int,
    max_width: int | None,
) -> tuple[int, int]:
    """Samples of contents that a block holds on either side, which are its greatest widths."""
    if max_width is not None:
        whole_number(max_width, "max_width", max(min_width, granularity))
    for name, value in (("min_width", min_width), ("max_width", max_width or 0)):
        if value % granularity and value < max(shape):
            raise InputError(
                f"{name} = {value}; expected a multiple of the granularity, {granularity}"
            )
    limits = []
    for n, width in zip(shape, (runs.row_width, runs.col_width), strict=True):
        limit = n if max_width is None else min(n, max_width)
        large = len(width) * rank * sum(shape) > WHOLE_CIRCLE_SCALARS
        if max_width is None and large:
            widest = max(round(float(width.max()) * n), min_width)
            limit = min(n, max(-(-3 * widest // granularity), _WINDOW_GRAINS) * granularity)
        limits.append(limit)
    return limits[0], limits[1]


def _contents(
    shape: tuple[int, int],
    runs: Runs,
    rank: int,
    windows: tuple[int, int],
    rule: str | Callable[[Tensor], object],
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    if rule == "normal":
        return random_contents(shape, runs, rank, windows, generator)
    if isinstance(rule, str) and rule != "svd":
        raise InputError(f'content_init = {rule!r}; expected "normal", "svd" or a function')
    if windows != shape:
        raise InputError(
            f"content_init by singular pairs with contents limited to {windows} samples; "
            f'expected whole circles (max_width={max(shape)}), or "normal"'
        )
    fill = None if isinstance(rule, str) else rule
    return svd_contents(shape, len(runs.row_width), rank, generator, fill)


def random_contents(
    shape: tuple[int, int],
    runs: Runs,
    rank: int,
    windows: tuple[int, int],
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Normal contents under which the weight varies as `torch.nn.Linear` draws it.

    That variance is 1 / (3 n) on average over the entries, for any blocks. If all blocks
    are one sample wide on one side, that side begins with ones: the entries are then
    normal, rather than products of two normal numbers.
    """
    count = len(runs.row_width)
    rows, cols = torch.round(runs.row_width * shape[0]), torch.round(runs.col_width * shape[1])
    cover = rank * float((runs.row_width * runs.col_width).sum())
    if count == 0 or not (rows.all() and cols.all()):
        cover = max(cover, 1.0)  # empty blocks are yet to grow
    u, v = (torch.randn(count, rank, window, generator=generator) for window in windows)
    if count and bool((rows == 1).all()):
        return torch.ones_like(u), v * (3 * shape[1] * cover) ** -0.5
    if count and bool((cols == 1).all()):
        return u * (3 * shape[1] * cover) ** -0.5, torch.ones_like(v)
    spread = (3 * shape[1] * cover) ** -0.25
    return u * spread, v * spread


def svd_contents(
    shape: tuple[int, int],
    count: int,
    rank: int,
    generator: torch.Generator | None,
    fill: Callable[[Tensor], object] | None = None,
) -> tuple[Tensor, Tensor]:
    """Singular pairs of a dense initial weight, √S on either side, repeated in turn.

    `fill` writes a dense weight in place, `torch.nn.Linear`'s own by default.
    """
    dense = torch.empty(shape)
    if fill is None:
        bound = shape[1] ** -0.5
        dense.uniform_(-bound, bound, generator=generator)
    else:
        fill(dense)
    left, size, right = torch.linalg.svd(dense, full_matrices=False)
    pair = torch.arange(count * rank) % len(size)
    root = size.sqrt()[pair, None]
    return (
        (left.T[pair] * root).view(count, rank, shape[0]),
        (right[pair] * root).view(count, rank, shape[1]),
    )
