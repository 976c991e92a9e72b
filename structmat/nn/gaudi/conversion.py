"""Contents and runs of Gaudi weights from packed GBLR matrices, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.errors import InputError
from structmat.intervals import positions
from structmat.matrices import GBLR
from structmat.nn.gaudi.side import Side
from structmat.nn.gaudi.structure import GaudiStructure
from structmat.nn.sharded import whole


def check_fits(matrix: GBLR, *, rank: int, min_width: int, granularity: int) -> None:
    """Refuse a matrix whose runs a weight with these settings cannot hold."""
    if rank != 1:
        raise InputError(f"rank = {rank} from a GBLR matrix; expected 1, as it has")
    widths = [w for w in (*matrix.row_width, *matrix.col_width) if w]
    if widths and min(widths) < min_width:
        raise InputError(
            f"min_width = {min_width}, but the matrix has a run of {min(widths)}; expected at "
            "most that"
        )
    (m, n), starts = matrix.shape, (matrix.row_start, matrix.col_start)
    partial = (matrix.row_width % m, matrix.col_width % n)  # a full width always fits
    if any((array % granularity).any() for array in (*starts, *partial)):
        raise InputError(
            f"granularity = {granularity}, but the matrix has runs between its multiples; "
            "expected granularity=1"
        )


def allows(matrix: GBLR, options: Mapping[str, Any]) -> bool:
    """Tell whether a weight with these options can hold a matrix; absent ones are defaults."""
    widest = max([0, *matrix.row_width, *matrix.col_width])
    if (most := options.get("max_width")) is not None and widest > most:
        return False
    least, grain = options.get("min_width", 0), options.get("granularity", 1)
    try:
        check_fits(matrix, rank=1, min_width=least, granularity=grain)
    except InputError:
        return False
    return True


@torch.no_grad()
def unpack_(matrix: GBLR, u: Tensor, v: Tensor, structure: GaudiStructure) -> None:
    """Write a matrix into contents of rank 1, (K, 1, S), and into a structure of K blocks."""
    m, n = matrix.shape
    for name, size, contents, start, width, packed in (
        ("row", m, u, matrix.row_start, matrix.row_width, matrix.u),
        ("col", n, v, matrix.col_start, matrix.col_width, matrix.v),
    ):
        window = contents.shape[-1]
        if width.max(initial=0) > window:
            raise InputError(
                f"max_width = {window} below a {name} width of {width.max()}; expected at least "
                "that"
            )
        contents.zero_()
        block = torch.from_numpy(np.repeat(np.arange(len(width)), width))
        slot = torch.from_numpy(positions(start, width, window))
        contents[block, 0, slot] = packed.to(contents)
        getattr(structure, f"{name}_width").copy_(torch.from_numpy(width / size))
        getattr(structure, f"{name}_location").copy_(torch.from_numpy(start / size))


@torch.no_grad()
def pack(u: Tensor, v: Tensor, rows: Side, cols: Side) -> GBLR:
    """Contents (K, r, S) on their runs as a packed matrix, without blocks that lack a side."""
    alive, rank = (rows.width > 0) & (cols.width > 0), u.shape[1]
    sides = []
    for contents, side in zip([whole(u), whole(v)], (rows, cols), strict=True):
        width = side.width[alive].cpu().numpy().repeat(rank)
        start = side.start[alive].cpu().numpy().repeat(rank)
        term = np.repeat(np.arange(len(width)) * side.window, width)
        slot = term + positions(start, width, side.window)
        flat = contents[alive].reshape(-1)
        packed = flat[torch.from_numpy(slot).to(flat.device)].clone()
        sides.append((start % side.size, width, packed))
    return GBLR(*sides[0], *sides[1], shape=(rows.size, cols.size))
