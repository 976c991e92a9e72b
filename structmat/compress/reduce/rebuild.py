"""Matrices of the rectangles that are left of a term, as simple as these allow."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.compress.reduce.boxes import Boxes
from structmat.compress.reduce.runs import as_gblr
from structmat.compress.reduce.terms import Term
from structmat.errors import ConversionError
from structmat.intervals import IntArray
from structmat.matrices import (
    BlockSparse,
    Dense,
    HermitianLowRank,
    Hierarchical,
    LowRank,
    Permutation,
    in_orders,
)
from structmat.matrix import StructuredMatrix
from structmat.project.svd import hermitian_part


def placed(A: StructuredMatrix, term: Term) -> StructuredMatrix:
    """A matrix in the place of that of a term, between its orders."""
    return _ordered(A, *term.orders)


def rebuilt(term: Term, boxes: Boxes, dtype: Any) -> StructuredMatrix:
    """A matrix of the rectangles that are left of a term."""
    (m, n), (rows, cols) = boxes.shape, term.orders
    if term.form == "gblr":
        return _ordered(as_gblr(boxes, dtype), rows, cols)
    u, v, dense = (flat.astype(dtype) for flat in (boxes.u, boxes.v, boxes.dense))
    if term.form == "hierarchical":
        # A symmetric matrix has one order; others of rows and columns go around it.
        inside = not boxes.symmetric or np.array_equal(rows, cols)
        orders = {"row_order": rows, "col_order": cols} if inside else {}
        whole = Hierarchical(
            boxes.table, u, v, dense, shape=(m, n), symmetric=boxes.symmetric, **orders
        )
        return whole if inside else _ordered(whole, rows, cols)
    return _ordered(_flat(term, boxes, u, v, dense), rows, cols)


def _flat(
    term: Term, boxes: Boxes, u: NDArray[Any], v: NDArray[Any], dense: NDArray[Any]
) -> StructuredMatrix:
    """Low rank, blocks or tiles, as simple as the rectangles allow."""
    (m, n), table, A = boxes.shape, boxes.table, term.matrix
    if term.form == "hermitian_low_rank" and not (table[:, 4] < 0).any():
        rank = u.size // max(m, 1)
        vectors, values = hermitian_part(u.reshape(rank, m).T, v.reshape(rank, m).T)
        kept = np.argsort(-np.abs(values), kind="stable")[:rank]
        return HermitianLowRank(vectors[:, kept].astype(u.dtype), values[kept].astype(u.dtype))
    if not len(table):
        return LowRank(np.zeros((m, 0), u.dtype), np.zeros((n, 0), u.dtype))
    if len(table) == 1 and table[0, :4].tolist() == [0, m, 0, n]:
        if table[0, 4] < 0:
            return Dense(dense.reshape(m, n))
        return LowRank(u.reshape(-1, m).T.copy(), v.reshape(-1, n).T.copy())
    if term.form == "blocks" and isinstance(A, BlockSparse) and (table[:, 4] < 0).all():
        p, q = A.block_shape
        blocks, begin = np.zeros((len(table), p, q), dense.dtype), boxes.of.begins[2]
        for k, (_, height, _, width, _) in enumerate(table.tolist()):
            blocks[k, :height, :width] = dense[begin[k] : begin[k + 1]].reshape(height, width)
        return BlockSparse(blocks, table[:, 0] // p, table[:, 2] // q, shape=(m, n))
    whole = Hierarchical(table, u, v, dense, shape=(m, n), symmetric=boxes.symmetric)
    try:
        return whole.to_kind("block_low_rank")
    except ConversionError:
        return whole


def _ordered(A: StructuredMatrix, rows: IntArray, cols: IntArray) -> StructuredMatrix:
    left, right = (
        None if np.array_equal(order, np.arange(order.size)) else Permutation(order)
        for order in (rows, cols)
    )
    return in_orders(None if left is None else left.H, A, right)
