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
from structmat.compress.reduce.runs import joined
from structmat.compress.reduce.terms import Term, placed, rebuilt, terms_of
from structmat.intervals import offsets
from structmat.kernels.layouts.rectangles import DENSE
from structmat.matrices import Product, Sum
from structmat.matrices.hierarchical_entries import frobenius_norm
from structmat.matrix import StructuredMatrix

#: Roundings that a decomposition may leave in a rectangle, as shares of its factors' norms.
ROUNDINGS = 16
#: Share of the tolerance that joined rectangles may miss together.
JOINED = 0.05


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
    spectra = [_spectra(term, error) for term in with_boxes]
    goal = Goal(max_error=error) if cap is None else Goal(max_cost=max(cap - fixed, 0))
    choice = chosen(values_of(spectra), goal)
    made, most, rounding = [part.matrix for part in rest], 0.0, 0.0
    dropped: list[StructuredMatrix] = []
    begin = offsets(np.asarray([part.count.size for part in spectra]))
    for k, (term, part) in enumerate(zip(with_boxes, spectra, strict=True)):
        rank = choice.rank[begin[k] : begin[k + 1]]
        left = part.dropped(rank)
        made.append(rebuilt(term, part.kept(rank), term.matrix.dtype))
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


def _placed(part: Reduced, term: Term) -> Reduced:
    """A reduced matrix, and what it leaves out, between the orders of its term."""
    dropped = [placed(matrix, term) for matrix in part.dropped]
    return part._replace(matrix=placed(part.matrix, term), dropped=dropped)


def _spectra(term: Term, error: float) -> Spectra:
    boxes: Any = term.boxes
    if term.form == "gblr":
        boxes = joined(boxes, JOINED * error / math.sqrt(max(len(boxes.table), 1)))
    return decomposed(boxes)


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
    """A product of reduced factors, to a share of their cost or a relative error; others as is."""
    if not isinstance(A, Product):
        return Reduced(A, [], 0.0, 0.0, True)
    made: list[StructuredMatrix] = []
    dropped: list[StructuredMatrix] = []
    count, rounding = len(A.children), 0.0
    for k, child in enumerate(A.children):
        terms, size = terms_of(child), child.norm()
        part = (
            reduced(terms, error=tol / (2 * count) * size, tol=tol / (2 * count))
            if share is None
            else reduced(terms, cap=math.floor(share * child.cost))
        )
        if part.matrix.cost >= child.cost:
            part = Reduced(child, [], 0.0, 0.0, True)
        if part.dropped:
            left = part.dropped[0] if len(part.dropped) == 1 else Sum(*part.dropped)
            dropped.append(Product(*made, left, *A.children[k + 1 :]))
        made.append(part.matrix)
        rounding = math.hypot(rounding, part.rounding / size if size else 0.0)
    if all(one is other for one, other in zip(made, A.children, strict=True)):
        return Reduced(A, [], 0.0, 0.0, True)
    # Rounding of a factor, times the norms of the others.
    sizes = math.prod(child.norm() for child in A.children)
    most = math.inf if dropped else 0.0
    return Reduced(Product(*made), dropped, most, rounding * sizes, False)
