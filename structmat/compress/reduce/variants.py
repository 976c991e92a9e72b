"""Terms of an expression brought together in several ways, of which the best one counts."""

import itertools
from dataclasses import replace

import numpy as np

from structmat.compress.reduce.boxes import Boxes
from structmat.compress.reduce.common import (
    can_compare,
    completed,
    finest,
    folded,
    full_grid,
    on_table,
    unfolded,
)
from structmat.compress.reduce.runs import as_gblr
from structmat.compress.reduce.terms import Term, as_runs, reordered, same_orders, settled
from structmat.intervals import IntArray
from structmat.kernels.layouts.rectangles import DENSE

#: Sides of the tiles that a GBLR matrix of at most this many entries is cut into.
TILES, MOST_TILED = (32, 64), 2**22


def variants(terms: list[Term]) -> list[list[Term]]:
    """The terms as they are, and those between the same orders on the rectangles of one.

    Their own rectangles are tried in turn, and the finest common ones.
    """
    groups: list[list[Term]] = []
    for term in sorted(terms, key=lambda term: term.is_low_rank):
        with_boxes = [group for group in groups if group[0].boxes is not None]
        same = [group for group in with_boxes if same_orders(group[0], term)]
        # Low rank goes with others between any orders.
        if term.is_low_rank and with_boxes:
            group = same[0] if same else max(with_boxes, key=_cost)
            group.append(reordered(term, group[0].orders))
        elif term.boxes is not None and same:
            same[0].append(term)
        else:
            groups.append([term])
    found = [terms]
    choices = [[group, *_together(group)] for group in groups]
    for k in range(1, max(map(len, choices))):
        # Each group by its k-th way, or its last one.
        picked = [choice[min(k, len(choice) - 1)] for choice in choices]
        found.append(list(itertools.chain(*picked)))
    return found


def _cost(group: list[Term]) -> int:
    return sum(term.boxes.cost for term in group if term.boxes is not None)


def _together(group: list[Term]) -> list[list[Term]]:
    """A group of terms as one term, in several ways."""
    if any(term.form == "gblr" for term in group):
        runs = group[0] if len(group) == 1 else settled(as_runs(group))
        ways = [] if len(group) == 1 else [[runs]]
        return ways + [[tiles] for tiles in _as_tiles(runs)]
    if len(group) == 1:
        return []
    boxes = [term.boxes for term in group if term.boxes is not None]
    if not can_compare(boxes):
        return []
    whole = [unfolded(part) for part in boxes]
    tables = [replace(t, boxes=w).table for t, w in zip(group, whole, strict=True)]
    tables = [completed(table, whole) for table in [*tables, finest(whole)]]
    found = []
    for table in _unique(tables):
        joint = on_table(table, whole)
        if joint is None:
            continue
        if all(part.symmetric for part in boxes) and _is_mirrored(table):
            joint = folded(joint)
        form = "tiles" if not joint.symmetric else "hierarchical"
        found.append([replace(group[0], form=form, boxes=joint)])
    return found


def _as_tiles(term: Term) -> list[Term]:
    """A GBLR matrix of few entries as tiles of a few sizes, whatever its blocks were."""
    m, n = term.matrix.shape
    if term.boxes is None or m * n > MOST_TILED or min(m, n) < min(TILES):
        return []
    A = as_gblr(term.boxes, np.result_type(term.boxes.u, np.float64)).to_dense()
    found = []
    for side in TILES:
        sizes = [np.diff([*range(0, length, side), length]) for length in (m, n)]
        grid = full_grid((m, n), sizes)
        table = np.column_stack([grid, np.full(len(grid), DENSE)])
        entries = [A[a : a + p, b : b + q].ravel() for a, p, b, q in grid.tolist()]
        boxes = Boxes(table, A[:0, 0], A[:0, 0], np.concatenate(entries), (m, n))
        found.append(replace(term, form="tiles", boxes=boxes))
    return found


def _unique(tables: list[IntArray]) -> list[IntArray]:
    keys = {np.unique(table, axis=0).tobytes(): table for table in tables}
    return list(keys.values())


def _is_mirrored(table: IntArray) -> bool:
    """True if rectangles on the diagonal are squares, and others have mirror images."""
    other = np.unique(table[:, [2, 3, 0, 1]], axis=0)
    on = (table[:, 0] == table[:, 2]) & (table[:, 1] == table[:, 3])
    below = table[:, 0] >= table[:, 2] + table[:, 3]
    above = table[:, 2] >= table[:, 0] + table[:, 1]
    return bool((on | below | above).all()) and np.array_equal(np.unique(table, axis=0), other)
