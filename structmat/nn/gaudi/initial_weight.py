"""A Gaudi weight's beginning from its options: runs, windows, contents; all checked."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from structmat.errors import InputError
from structmat.nn.gaudi import initial_runs as starts
from structmat.nn.gaudi.initial_runs import Runs

#: Contents are kept on whole circles up to this many numbers; beyond, on windows.
WHOLE_CIRCLES = 2**22
#: Grains that a window has room for at least.
_ROOM = 8


def whole_number(value: object, name: str, least: int) -> int:
    """A whole number of at least so much, or an error.

    Examples
    --------
    >>> whole_number(3, "rank", 1)
    3
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} = {value!r}; expected a whole number of at least {least}")
    return value


def first_runs(
    shape: tuple[int, int],
    *,
    num_blocks: int | None,
    rank: int,
    granularity: int,
    budget: float,
    width_init: str | float,
    location_init: str | float,
    generator: torch.Generator | None,
) -> Runs:
    """Runs of all blocks, at a cost or by a rule; options are those of `GaudiWeight`."""
    if width_init in starts.COVERS:
        if num_blocks is not None:
            raise InputError(
                f"num_blocks = {num_blocks} with {width_init}; expected None (the budget sets the "
                'number of blocks; choose width_init="splr" to set it yourself)'
            )
        cost = budget * math.prod(shape)
        if width_init == "grid":
            return starts.grid_runs(shape, cost, rank=rank, granularity=granularity)
        if rank > 1:
            raise InputError(
                f"rank = {rank} with strips; expected 1, as a strip one sample wide has no more "
                '(choose width_init="grid" for blocks of higher rank)'
            )
        return starts.strip_runs(shape, cost, granularity=granularity)
    count = min(shape) if num_blocks is None else whole_number(num_blocks, "num_blocks", 0)
    return starts.rule_runs(
        shape, count, width_init, location_init, generator, granularity=granularity
    )


def windows(
    shape: tuple[int, int],
    runs: Runs,
    *,
    rank: int,
    granularity: int,
    min_width: int,
    max_width: int | None,
) -> tuple[int, int]:
    """Samples of contents that a block holds on either side: its greatest widths."""
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
        large = len(width) * rank * sum(shape) > WHOLE_CIRCLES
        if max_width is None and large:
            widest = max(round(float(width.max()) * n), min_width)
            limit = min(n, max(-(-3 * widest // granularity), _ROOM) * granularity)
        limits.append(limit)
    return limits[0], limits[1]


def first_contents(
    shape: tuple[int, int],
    runs: Runs,
    *,
    rank: int,
    lengths: tuple[int, int],
    rule: str | Callable[[Tensor], object],
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Row and column contents on their windows."""
    if rule == "normal":
        return starts.random_contents(shape, runs, rank, lengths, generator)
    if isinstance(rule, str) and rule != "svd":
        raise InputError(f'content_init = {rule!r}; expected "normal", "svd" or a function')
    if lengths != shape:
        raise InputError(
            f"content_init by singular pairs with contents limited to {lengths} samples; "
            f'expected whole circles (max_width={max(shape)}), or "normal"'
        )
    fill: Any = rule if callable(rule) else None
    return starts.svd_contents(shape, len(runs.row_width), rank, generator, fill)
