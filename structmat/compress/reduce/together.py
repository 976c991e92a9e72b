"""Terms of a sum reduced together, and factors of products one by one."""

import math
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

from structmat.compress.goal import Goal
from structmat.compress.reduce.boxes import Boxes, Spectra, decomposed
from structmat.compress.reduce.choice import chosen, values_of
from structmat.compress.reduce.rebuild import placed, rebuilt
from structmat.compress.reduce.runs import as_gblr, boxes_of_runs, collapsed, joined
from structmat.compress.reduce.terms import Term, terms_of
from structmat.intervals import offsets
from structmat.kernels.layouts.rectangles import DENSE
from structmat.matrices import Mirrored, Product, Sum
from structmat.matrices.hierarchical_entries import frobenius_norm
from structmat.matrix import StructuredMatrix

#: Roundings that a decomposition may leave in a rectangle, as shares of its factors' norms.
ROUNDINGS = 16


class Reduced(NamedTuple):
    """A matrix of less cost, and what was left out."""

    matrix: StructuredMatrix
    #: Matrices whose sum was left out, and an upper bound of its norm.
    dropped: list[StructuredMatrix]
    most: float
    #: Norm of the roundings.
    rounding: float
    #: True if what was left out has the norm `most`.
    is_exact: bool


def reduced(
    terms: list[Term], *, cap: int | None = None, error: float = 0.0, tol: float = 0.0
) -> Reduced:
    """Terms reduced together to a cap, or to an absolute error (`tol` is that of factors)."""
    with_boxes = [term for term in terms if term.boxes is not None]
    others = [term for term in terms if term.boxes is None]
    total = sum(term.matrix.cost for term in others)
    whole = sum(term.boxes.cost for term in with_boxes if term.boxes is not None) + total
    share = None if cap is None else min(1.0, cap / max(whole, 1))
    rest = [_placed(_factors_reduced(term.matrix, share, tol), term) for term in others]
    fixed = sum(part.matrix.cost for part in rest)
    spectra = [decomposed(term.boxes) for term in with_boxes if term.boxes is not None]
    goal = Goal(max_error=error) if cap is None else Goal(max_cost=max(cap - fixed, 0))
    choice = chosen(values_of(spectra), goal)
    made, most, rounding = [part.matrix for part in rest], 0.0, 0.0
    dropped: list[StructuredMatrix] = []
    begin = offsets(np.asarray([part.count.size for part in spectra]))
    for k, (term, part) in enumerate(zip(with_boxes, spectra, strict=True)):
        rank = choice.rank[begin[k] : begin[k + 1]]
        left = part.dropped(rank)
        kept = part.kept(rank)
        made.append(
            rebuilt(term, _rejoined(kept) if term.form == "gblr" else kept, term.matrix.dtype)
        )
        eps = float(np.finfo(term.matrix.dtype).eps)
        rounding = math.hypot(rounding, ROUNDINGS * eps * _changed(part, rank))
        if len(left.table):
            form = "gblr" if term.form == "gblr" else "hierarchical"
            wide = np.result_type(term.matrix.dtype, np.float64)
            dropped.append(rebuilt(replace(term, form=form), left, wide))
            most += _most(left)
    is_exact = len(dropped) <= 1 and all(term.form != "gblr" for term in with_boxes)
    for other in rest:
        dropped += other.dropped
        most += other.most
        rounding = math.hypot(rounding, other.rounding)
        is_exact &= not other.dropped
    return Reduced(reduce(add, made), dropped, most, rounding, is_exact)


def _rejoined(boxes: Boxes) -> Boxes:
    """The same blocks of a GBLR matrix, joined until that saves nothing more.

    Lower ranks have other runs, and the lines of a dense rectangle may touch other blocks.
    """
    while True:
        lines = joined(collapsed(boxes_of_runs(as_gblr(boxes, boxes.u.dtype))))
        if {*map(tuple, lines.table.tolist())} == {*map(tuple, boxes.table.tolist())}:
            return boxes
        part = decomposed(lines)
        found = part.kept(chosen(values_of([part]), Goal(max_error=0.0)).rank)
        if found.cost >= boxes.cost:
            return boxes
        boxes = found


def _placed(part: Reduced, term: Term) -> Reduced:
    """A reduced matrix, and what it leaves out, between the orders of its term."""
    dropped = [placed(matrix, term) for matrix in part.dropped]
    return part._replace(matrix=placed(part.matrix, term), dropped=dropped)


def _changed(part: Spectra, rank: Any) -> float:
    """Norm of the terms of all rectangles that were decomposed or filled in, and kept."""
    as_it_was = part.boxes.of.is_dense & (rank == DENSE)
    return float(np.linalg.norm(part.scale[(rank != 0) & ~as_it_was]))


def _most(left: Boxes) -> float:
    """Upper bound of the norm of rectangles: the norm where they do not overlap."""
    if not left.cyclic:
        return float(frobenius_norm(left.of, (left.u, left.v, left.dense)))
    part = decomposed(left)
    return float(np.sqrt(np.bincount(part.owner, part.energy)).sum())


def _factors_reduced(A: StructuredMatrix, share: float | None, tol: float) -> Reduced:
    """Factors of a product, or the half of T + T^H, reduced; other matrices as they are.

    They are reduced to a share of their cost, or to a relative error.
    """
    if isinstance(A, Mirrored):
        half = _alone(A.children[0], share, tol / 2)[0]
        if half.matrix is A.children[0]:
            return Reduced(A, [], 0.0, 0.0, True)
        left = [Mirrored(matrix) for matrix in half.dropped]
        return Reduced(Mirrored(half.matrix), left, 2 * half.most, 2 * half.rounding, False)
    if not isinstance(A, Product):
        return Reduced(A, [], 0.0, 0.0, True)
    count = len(A.children)
    # A Hermitian product reads the same from both ends.
    own = (count + 1) // 2 if A.hermitian else count
    found = [_alone(child, share, tol / (2 * count)) for child in A.children[:own]]
    for part, size in found[: count - own][::-1]:
        turned = [matrix.H for matrix in part.dropped]
        found.append((part._replace(matrix=part.matrix.H, dropped=turned), size))
    made = [part.matrix for part, _ in found]
    if all(one is other for one, other in zip(made, A.children, strict=True)):
        return Reduced(A, [], 0.0, 0.0, True)
    dropped: list[StructuredMatrix] = []
    for k, (part, _) in enumerate(found):
        if part.dropped:
            left_out = part.dropped[0] if len(part.dropped) == 1 else Sum(*part.dropped)
            dropped.append(Product(*made[:k], left_out, *A.children[k + 1 :]))
    # Rounding of a factor, times the norms of the others.
    sizes = math.prod(size for _, size in found)
    rounding = math.hypot(*(part.rounding / size if size else 0.0 for part, size in found))
    most = math.inf if dropped else 0.0
    return Reduced(Product(*made), dropped, most, rounding * sizes, False)


def _alone(A: StructuredMatrix, share: float | None, tol: float) -> tuple[Reduced, float]:
    """A matrix reduced by itself, the matrix itself where nothing is gained, and its norm."""
    terms, size = terms_of(A), A.norm()
    part = (
        reduced(terms, error=tol * size, tol=tol)
        if share is None
        else reduced(terms, cap=math.floor(share * A.cost))
    )
    gains = part.matrix.cost < A.cost
    return (part if gains else Reduced(A, [], 0.0, 0.0, True)), size
