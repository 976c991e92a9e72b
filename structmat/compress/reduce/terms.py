"""Terms of an expression: rectangles between orders, or matrices that stay as they are."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from structmat.compress.reduce.boxes import Boxes
from structmat.compress.reduce.common import (
    added,
    full_grid,
    is_alike,
    unfolded,
)
from structmat.compress.reduce.runs import boxes_of_runs, collapsed, grouped, joined
from structmat.intervals import IntArray
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
    def is_low_rank(self) -> bool:
        """True for one rectangle of low rank, whose factors take any orders in."""
        return self.form in ("low_rank", "hermitian_low_rank")

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
    orders = _no_orders(A.shape)
    return [settled(term) for term in _merged(_parsed(A, orders, opened))]


def settled(term: Term) -> Term:
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
    term = Term(form, boxes, A, orders)
    return [reordered(term, _no_orders(A.shape)) if term.is_low_rank else term]


def _no_orders(shape: tuple[int, ...]) -> Orders:
    return np.arange(shape[0]), np.arange(shape[1])


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
    matrix, boxes = term.matrix * alpha, term.boxes
    if boxes is None:
        return replace(term, matrix=matrix)
    if complex(alpha).imag:
        whole = replace(unfolded(boxes).scaled(alpha), extra=0)
        return replace(term, form=_general(term.form), boxes=whole, matrix=matrix)
    return replace(term, boxes=boxes.scaled(complex(alpha).real), matrix=matrix)


def _general(form: str) -> str:
    """The form of a term that is no longer Hermitian."""
    return "low_rank" if form == "hermitian_low_rank" else form


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
        return as_runs([a, b])
    if not is_alike(a.boxes, b.boxes):
        return None
    boxes, form = collapsed(added([a.boxes, b.boxes])), a.form
    if a.form != b.form:
        form = "hierarchical" if "hierarchical" in (a.form, b.form) else "tiles"
        form = "low_rank" if a.is_low_rank and b.is_low_rank else form
        boxes = replace(boxes, extra=0)
    return replace(a, form=form, boxes=boxes)


def reordered(term: Term, orders: Orders) -> Term:
    """A term of low rank between other orders, which its factors take in."""
    boxes, own = term.boxes, term.orders
    assert boxes is not None
    rank = boxes.table[:, 4].sum()
    u, v = (
        flat.reshape(rank, after.size)[:, np.argsort(before)[after]].ravel()
        for flat, before, after in zip((boxes.u, boxes.v), own, orders, strict=True)
    )
    boxes, form = replace(boxes, u=u, v=v), term.form
    if not (np.array_equal(*own) and np.array_equal(*orders)):
        boxes, form = replace(boxes, extra=0), _general(form)
    return replace(term, form=form, boxes=boxes, orders=orders)


def as_runs(terms: list[Term]) -> Term:
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
