"""Single entries of rectangles, found and evaluated in compiled loops.

Import this module where it is used: it imports Numba.
"""

import numpy as np

from structmat.intervals import IntArray
from structmat.kernels.cpu.llvm import compiled
from structmat.kernels.layouts.rectangles import Cells, Rectangles


def picked_entries(
    of: Rectangles, cells: Cells, contents: tuple[np.ndarray, ...], rows: IntArray, cols: IntArray
) -> np.ndarray:
    """Entries (rows[k], cols[k]) of rectangles that do not overlap; contents are u, v and dense."""
    rows, cols = (np.ascontiguousarray(at, np.int64) for at in (rows, cols))
    out = np.zeros(rows.size, contents[0].dtype)
    places = (cells.edges, cells.keys, cells.end, cells.number, cells.flipped)
    layout = (of.table, of.is_triangular, *of.begins)
    _pick(rows, cols, of.shape[1] + 1, *places, *layout, *contents, out)
    return out


@compiled
def _pick(
    rows, cols, wide, edges, keys, ends, number, flipped, table, triangular, in_u, in_v, in_dense,
    u, v, dense, out,
):  # fmt: skip
    for k in range(rows.size):
        base = (np.searchsorted(edges, rows[k], side="right") - 1) * wide
        at = np.searchsorted(keys, base + cols[k], side="right") - 1
        if at < 0 or keys[at] < base or cols[k] >= ends[at]:
            continue
        t, turned = number[at], flipped[at]
        i = (cols[k] if turned else rows[k]) - table[t, 0]
        j = (rows[k] if turned else cols[k]) - table[t, 2]
        p, q, rank = table[t, 1], table[t, 3], table[t, 4]
        if rank >= 0:
            value = out[k] * 0.0
            for l in range(rank):
                value += u[in_u[t] + l * p + i] * np.conj(v[in_v[t] + l * q + j])
        elif triangular[t]:
            high, low = max(i, j), min(i, j)
            value = dense[in_dense[t] + high * (high + 1) // 2 + low]
            if i == j:
                value = (value + np.conj(value)) / 2
            turned = turned != (i < j)
        else:
            value = dense[in_dense[t] + i * q + j]
        out[k] = np.conj(value) if turned else value
