"""Sides of tiles, and groups of outputs that share windows: what a structure is asked to have."""

import numbers
from typing import Any

from structmat.errors import InputError

#: Kinds of tiles, and of groups.
TILED_KINDS, GROUPED_KINDS = ("block_sparse", "block_low_rank"), ("gblr",)
#: Columns at whose multiples the windows of groups begin and end, at most: the side of the least
#: tile that matrix units multiply.
GRAIN = 16


def check_sides(kind: str, tile: Any, group: Any) -> None:
    """Refuse a side of tiles, or a size of groups, that a kind cannot have."""
    for name, size, kinds in (("tile", tile, TILED_KINDS), ("group", group, GROUPED_KINDS)):
        if size is None:
            continue
        whole = isinstance(size, numbers.Integral) and not isinstance(size, bool)
        if not whole or size < 1:
            raise InputError(
                f"{name} = {size!r}; expected a whole number of at least 1, such as 16, 32, 64 or "
                "128 (or None)"
            )
        if kind not in kinds:
            raise InputError(
                f"{name} = {size} with kind {kind!r}; expected kind {' or '.join(kinds)} with it "
                f"(or no {name})"
            )


def grain_of(group: int) -> int:
    """Columns at whose multiples the windows of groups begin and end.

    Examples
    --------
    >>> grain_of(4), grain_of(64)
    (4, 16)
    """
    return min(GRAIN, group)


def least_cost(kind: str, shape: tuple[int, int], tile: int | None, group: int | None) -> int:
    """Multiplications of one tile, or of the shortest window; 0 where neither has a size.

    Examples
    --------
    >>> least_cost("gblr", (256, 784), None, 64), least_cost("block_sparse", (10, 784), 64, None)
    (1024, 640)
    >>> least_cost("block_low_rank", (256, 784), 64, None)
    128
    """
    if tile is not None:
        high, wide = (min(tile, size) for size in shape)
        return min(high + wide, high * wide) if kind == "block_low_rank" else high * wide
    return 0 if group is None else min(group, shape[0]) * min(grain_of(group), shape[1])
