"""Cells of interval factors, made by a compiled loop.

Training moves runs at every step, so that cells have to be made as quickly as they are
multiplied.
"""

import numpy as np

from structmat.kernels.cpu.llvm import compiled


@compiled
def run_row_groups(start, width, first, n, height, total, whole, like):
    """The arrays of `RowGroups` for an interval factor of `n` rows, in groups of `height` rows.

    Each run's contents begin at position `first`; the position `total` stands for zero.
    Where contents are stored for the `whole` circle, the entries of a run that come around
    lie before its first ones; otherwise they follow. Entries have the dtype of the array `like`.
    """
    count = -(-n // height)
    begin = np.arange(count) * height
    rows = np.minimum(height, n - begin)
    ptr = np.zeros(count + 1, np.int64)
    for k in range(start.size):
        for piece in range(2):
            low, high = _piece(start[k], width[k], n, piece)
            for s in range(low // height, -(-high // height)):
                # A run that comes around to the group it began in has one cell there.
                if piece == 0 or s < start[k] // height:
                    ptr[s + 1] += 1
    ptr = np.cumsum(ptr)
    free = ptr[:-1].copy()
    column = np.empty(ptr[-1], np.int32)
    entries = np.full((ptr[-1], height), total, like.dtype)
    for k in range(start.size):
        own = -1
        for piece in range(2):
            low, high = _piece(start[k], width[k], n, piece)
            shift = first[k] - start[k] + (n if piece and not whole else 0)
            for s in range(low // height, -(-high // height)):
                if piece and s == start[k] // height:
                    cell = own
                else:
                    cell = free[s]
                    free[s] += 1
                    column[cell] = k
                    own = cell if own < 0 else own
                for p in range(max(low, s * height), min(high, (s + 1) * height)):
                    entries[cell, p - s * height] = shift + p
    return begin, rows, ptr, column, entries


@compiled
def _piece(start, width, n, piece):
    """The straight part of a run, or the one that came around; empty from 0 to 0."""
    if width == 0 or (piece and start + width <= n):
        return 0, 0
    return (0, start + width - n) if piece else (start, min(start + width, n))
