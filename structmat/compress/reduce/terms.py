"""Terms of an expression: rectangles between orders, or matrices that stay as they are."""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from structmat.compress.reduce.boxes import Boxes
from structmat.compress.reduce.common import (
    added,
    can_compare,
    completed,
    finest,
    folded,
    full_grid,
    is_alike,
    on_table,
    unfolded,
)
from structmat.compress.reduce.runs import as_gblr, boxes_of_runs, collapsed, grouped, joined
from structmat.intervals import IntArray
from structmat.kernels.layouts.rectangles import DENSE
from structmat.matrices import (
    GBLR,
    Adjoint,
    BlockLowRank,
    BlockSparse,
    Dense,
    HermitianLowRank,
    Hierarchical,
    LowRank,
    Mirrored,
    Monarch,
    Product,
    Scaled,
    Sum,
    split_orders,
)
from structmat.matrices.adjoints import equal_parts
from structmat.matrix import StructuredMatrix

#: Sides of the tiles that a GBLR matrix of at most this many entries is cut into.
TILES, MOST_TILED = (32, 64), 2**22
#: Longest shorter side of a dense rectangle that is decomposed.
MOST_DENSE = 2048
Orders = tuple[IntArray, IntArray]


@dataclass(frozen=True, eq=False)
class Term:
    """A term of a sum: rectangles between orders of rows and columns, or a matrix as it is."""

    #: "low_rank", "hermitian_low_rank", "tiles", "blocks", "hierarchical" or "gblr"; "" for a
    #: matrix as it is.
    form: str
    boxes: Boxes | None
    matrix: StructuredMatrix
    orders: Orders

    @property
    def table(self) -> IntArray:
        """Rectangles onto which others may be brought: all tiles of a grid, or its own."""
        assert self.boxes is not None
        if isinstance(self.matrix, BlockLowRank):
            return full_grid(self.matrix.shape, [self.matrix.row_sizes, self.matrix.col_sizes])
        return self.boxes.table[:, :4]


def terms_of(A: StructuredMatrix, *, opened: bool = False) -> list[Term]:
    """Terms of a matrix on NumPy, those of equal structure added.

    With `opened` Monarch matrices are tiles of low rank, between orders of their own.
    """
    orders = np.arange(A.shape[0]), np.arange(A.shape[1])
    return [_settled(term) for term in _merged(_parsed(A, orders, opened))]


def _settled(term: Term) -> Term:
    """A term whose blocks are joined, if it has runs."""
    if term.boxes is None or term.form != "gblr":
        return term
    return replace(term, boxes=joined(term.boxes))


def _parsed(A: StructuredMatrix, orders: Orders, opened: bool) -> list[Term]:
    """Terms of a matrix whose row i is row `orders[0][i]` of the whole; columns likewise."""
    if isinstance(A, Sum):
        return [term for child in A.children for term in _parsed(child, orders, opened)]
    if isinstance(A, Scaled):
        alpha = A.alpha.item()
        return [_times(term, alpha) for term in _parsed(A.children[0], orders, opened)]
    if isinstance(A, Adjoint) and not isinstance(turned := A.children[0].H, Adjoint):
        return _parsed(turned, orders, opened)
    if opened and isinstance(A, Monarch):
        return _parsed(A.to_kind("block_low_rank"), orders, opened)
    if opened and isinstance(A, Adjoint) and isinstance(A.children[0], Monarch):
        return _parsed(A.to_kind("block_low_rank"), orders, opened)
    left, inner, right = split_orders(A)
    if inner is not A:
        rows = orders[0] if left is None else orders[0][left._inverse]
        cols = orders[1] if right is None else orders[1][right.p]
        return _parsed(inner, (rows, cols), opened)
    form, boxes = _boxes(A)
    if isinstance(A, Hierarchical):
        orders = orders[0][A.row_order], orders[1][A.col_order]
    return [Term(form, boxes, A, orders)]


def boxes_of(A: StructuredMatrix) -> Boxes:
    """Rectangles of one matrix of tiles, blocks or rectangles, without its orders."""
    boxes = _boxes(A)[1]
    assert boxes is not None
    return boxes


def _boxes(A: StructuredMatrix) -> tuple[str, Boxes | None]:
    """Form and rectangles of one matrix; "" and None for one that has none."""
    if isinstance(A, GBLR):
        return "gblr", collapsed(boxes_of_runs(A))
    forms: dict[type, str] = {
        LowRank: "low_rank", BlockLowRank: "tiles", BlockSparse: "blocks", Dense: "tiles",
        Hierarchical: "hierarchical", HermitianLowRank: "hermitian_low_rank",
    }  # fmt: skip
    form = forms.get(type(A), "")
    if not form or (isinstance(A, Dense) and min(A.shape) > MOST_DENSE):
        return "", None
    found: Any = A.to_kind("hierarchical")
    wide = np.result_type(A.dtype, np.float64)
    u, v, dense = (np.asarray(flat, wide) for flat in (found.u, found.v, found.dense))
    if isinstance(A, Hierarchical) and A.rectangles.cells is None:
        return "", None  # rectangles overlap
    boxes = Boxes(found.blocks, u, v, dense, A.shape, found.symmetric).in_order()
    return form, replace(collapsed(boxes), extra=int(form == "hermitian_low_rank"))


def _times(term: Term, alpha: Any) -> Term:
    """A term times a number."""
    boxes, form = term.boxes, term.form
    if boxes is None:
        return replace(term, matrix=term.matrix * alpha)
    if complex(alpha).imag:
        boxes = replace(unfolded(boxes), extra=0)
        form = "low_rank" if form == "hermitian_low_rank" else form
    else:
        alpha = complex(alpha).real
    return replace(term, form=form, boxes=boxes.scaled(alpha), matrix=term.matrix * alpha)


def _merged(terms: list[Term]) -> list[Term]:
    """Terms of one form and equal rectangles as one, multiples of one matrix as one."""
    found: list[Term] = []
    for term in terms:
        for k, other in enumerate(found):
            joint = _joint(other, term)
            if joint is not None:
                found[k] = joint
                break
        else:
            found.append(term)
    return [replace(term, matrix=_number_inside(term.matrix)) for term in found]


def _joint(a: Term, b: Term) -> Term | None:
    """The sum of two terms as one, where it is exact; None otherwise."""
    if not same_orders(a, b):
        return None
    if a.boxes is None or b.boxes is None:
        if a.boxes is not None or b.boxes is not None:
            return None
        if isinstance(a.matrix, Mirrored) and isinstance(b.matrix, Mirrored):
            return replace(a, matrix=a.matrix + b.matrix)
        return _multiple(a, b)
    if "gblr" in (a.form, b.form):
        if "hierarchical" in (a.form, b.form):
            return None
        return _as_runs([a, b])
    if not is_alike(a.boxes, b.boxes):
        return None
    boxes, form = collapsed(added([a.boxes, b.boxes])), a.form
    if a.form != b.form:
        form = "hierarchical" if "hierarchical" in (a.form, b.form) else "tiles"
        boxes = replace(boxes, extra=0)
    return replace(a, form=form, boxes=boxes)


def _as_runs(terms: list[Term]) -> Term:
    """Terms as one GBLR matrix."""
    parts = [term.boxes for term in terms if term.boxes is not None]
    wide = [replace(unfolded(part), cyclic=True, extra=0) for part in parts]
    table, u, v, dense = (
        np.concatenate([getattr(part, name) for part in wide])
        for name in ("table", "u", "v", "dense")
    )
    joint = Boxes(table, u, v, dense, wide[0].shape, cyclic=True)
    return replace(terms[0], form="gblr", boxes=collapsed(grouped(joint)))


def _multiple(a: Term, b: Term) -> Term | None:
    """Two multiples of one matrix as one; None for others."""
    alpha = ratio(b.matrix, a.matrix)
    if alpha is None:
        return None
    # The number stays outside, so that further multiples are compared with the matrix itself.
    matrix, number = _unscaled(a.matrix)
    return replace(a, matrix=Scaled(matrix, number * (1 + alpha)))


def ratio(A: StructuredMatrix, B: StructuredMatrix) -> Any:
    """The number c with A = c B, part by part and to rounding; None if there is none."""
    one, left = _unscaled(A)
    two, right = _unscaled(B)
    if type(one) is not type(two) or one.shape != two.shape or one.dtype != two.dtype:
        return None
    if equal_parts(one, two):
        return left / right if right else None
    if isinstance(one, Product) and len(one.children) == len(two.children):
        factors = [ratio(x, y) for x, y in zip(one.children, two.children, strict=True)]
        if not right or any(factor is None for factor in factors):
            return None
        return math.prod(factors) * left / right
    names = one.scaled_names
    if len(names) != 1:
        return None
    x, y = getattr(one, names[0]), getattr(two, names[0])
    if x.shape != y.shape or not y.size:
        return None
    at = np.unravel_index(np.argmax(np.abs(y)), y.shape)
    if not y[at] or not np.isfinite(y[at]):
        return None
    c = x[at] / y[at]
    if not np.abs(x - c * y).max() <= 4 * np.finfo(x.dtype).eps * abs(c) * np.abs(y).max():
        return None
    parts = {name: getattr(one, name) for name in one.data_names}
    same = one._build({**parts, names[0]: y}, one.children, one._static())
    return c * left / right if right and equal_parts(same, two) else None


def _unscaled(A: StructuredMatrix) -> tuple[StructuredMatrix, Any]:
    return (A.children[0], A.alpha.item()) if isinstance(A, Scaled) else (A, 1.0)


def _number_inside(A: StructuredMatrix) -> StructuredMatrix:
    return A.children[0] * A.alpha.item() if isinstance(A, Scaled) else A


def same_orders(a: Term, b: Term) -> bool:
    """True for terms between the same orders."""
    return all(np.array_equal(one, other) for one, other in zip(a.orders, b.orders, strict=True))


def variants(terms: list[Term]) -> list[list[Term]]:
    """The terms as they are, and those between the same orders on the rectangles of one.

    Their own rectangles are tried in turn, and the finest common ones.
    """
    groups: list[list[Term]] = []
    for term in terms:
        for group in groups:
            one = group[0].boxes is not None and term.boxes is not None
            if one and same_orders(group[0], term):
                group.append(term)
                break
        else:
            groups.append([term])
    found = [terms]
    choices = [[group, *_together(group)] for group in groups]
    if any(len(choice) > 1 for choice in choices):
        for k in range(max(map(len, choices))):
            # Each group by its k-th way, or its last one.
            picked = [choice[min(k, len(choice) - 1)] for choice in choices]
            found.append(list(itertools.chain(*picked)))
    return found[:1] + [v for v in found[1:] if v != terms]


def _together(group: list[Term]) -> list[list[Term]]:
    """A group of terms as one term, in several ways."""
    if any(term.form == "gblr" for term in group):
        runs = group[0] if len(group) == 1 else _settled(_as_runs(group))
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
