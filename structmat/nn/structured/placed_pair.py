"""Dense weights of sums of blocks: one product of two dense factors, and what needs none.

A block that is one sample wide on a side has entries of single products, which are put in their
places in the weight. Wider blocks are put in their places in two dense factors.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from structmat import binding
from structmat.intervals import IntArray, offsets
from structmat.kernels.layouts.batches import coordinates
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import RunPattern
from structmat.matrices import split_orders
from structmat.matrix import StructuredMatrix

#: Columns of both factors, at most, over the smaller side of the weight. The product of n columns
#: takes the time of n vectors, and the factors twice the memory of the weight.
_MOST_TERMS = 1.0


class PairPlacement(NamedTuple):
    """Places of the contents u, v of a matrix A = R C^T + D, on one device.

    Attributes
    ----------
    row, col : Tensor of int64
        Positions of contents in the flattened factors R, (m, K), and C, (n, K); one past their
        end for those of D.
    terms : int
        K.
    single : tuple of Tensor, or None
        Of the entries of D, of which no two share a place: the content of u, the content of v,
        and the position in the flattened weight.
    """

    row: Tensor
    col: Tensor
    terms: int
    single: tuple[Tensor, Tensor, Tensor] | None

    def dense(self, matrix: StructuredMatrix) -> Tensor:
        """The weight (m, n) of a matrix of this structure, from its contents."""
        m, n = matrix.shape
        u, v = (array.reshape(-1) for array in binding.leaves(split_orders(matrix)[1])[:2])
        alone = None
        if self.single is not None:
            of_u, of_v, at = self.single
            # Gradients of contents in many entries are sums, for which half precision is too rough.
            wide = torch.promote_types(u.dtype, torch.float32)
            values = u.to(wide).index_select(0, of_u) * v.to(wide).index_select(0, of_v)
            values = values.to(u.dtype)
            alone = values.new_zeros(m * n).scatter(0, at, values).view(m, n)
            if not self.terms:
                return alone
        left, right = (
            _placed(values, at, size, self.terms)
            for values, at, size in ((u, self.row, m), (v, self.col, n))
        )
        return left @ right.T if alone is None else torch.addmm(alone, left, right.T)


def _placed(values: Tensor, at: Tensor, size: int, terms: int) -> Tensor:
    """A dense factor (size, K) with contents at flattened positions, those beyond it left out."""
    empty = values.new_zeros(size * terms + 1)
    return empty.scatter(0, at, values)[: size * terms].view(size, terms)


def pair_placement(
    matrix: StructuredMatrix,
    inner: StructuredMatrix,
    structure: FactorStructure,
    orders: Sequence[IntArray | None],
) -> PairPlacement | None:
    """Places of the contents of `matrix`, which is `inner` with this structure in other orders.

    None where the factors would have too many columns, or contents lie beyond an edge.
    """
    if structure.through or structure.col is None:
        return None
    shape, patterns = matrix.shape, (structure.row, structure.col)
    contents = binding.leaves(inner)[:2]
    lines = [None if orders[0] is None else np.argsort(orders[0]), orders[1]]
    places = [coordinates(p, c.numel()) for p, c in zip(patterns, contents, strict=True)]
    if any((at >= size).any() for (at, _), size in zip(places, shape, strict=True)):
        return None
    ats = [at if order is None else order[at] for (at, _), order in zip(places, lines, strict=True)]
    column, single = np.arange(structure.middle), None
    if isinstance(structure.row, RunPattern) and isinstance(structure.col, RunPattern):
        single, alone = _single(structure.row, structure.col, ats, shape)
        column = np.where(alone, -1, np.cumsum(~alone) - 1)
    terms = int((column >= 0).sum())
    if terms > _MOST_TERMS * min(shape):
        return None
    device, flat = matrix.device, []
    for at, (_, term), size in zip(ats, places, shape, strict=True):
        of = column[term]
        flat.append(torch.from_numpy(np.where(of < 0, size * terms, at * terms + of)).to(device))
    return PairPlacement(
        flat[0],
        flat[1],
        terms,
        None if single is None else tuple(torch.from_numpy(x).to(device) for x in single),
    )


def _single(
    row: RunPattern, col: RunPattern, ats: Sequence[IntArray], shape: tuple[int, int]
) -> tuple[tuple[IntArray, IntArray, IntArray] | None, np.ndarray]:
    """Contents and positions of single products, and the blocks that consist of them."""
    widths, begins = [row.width, col.width], [offsets(p.width)[:-1] for p in (row, col)]
    narrow = np.flatnonzero(np.minimum(*widths) == 1)
    owner = np.repeat(narrow, np.maximum(*widths)[narrow])
    step = np.arange(owner.size) - np.repeat(
        offsets(np.maximum(*widths)[narrow])[:-1], np.maximum(*widths)[narrow]
    )
    of = [
        begin[owner] + np.minimum(step, w[owner] - 1)
        for begin, w in zip(begins, widths, strict=True)
    ]
    position = ats[0][of[0]] * shape[1] + ats[1][of[1]]
    # Blocks that meet one before them are summed by the factors.
    order = np.argsort(position, kind="stable")
    met = owner[order[1:][position[order[1:]] == position[order[:-1]]]]
    alone = np.minimum(*widths) < 2
    alone[met] = False
    kept = alone[owner]
    if not kept.any():
        return None, alone
    return (of[0][kept].astype(np.int32), of[1][kept].astype(np.int32), position[kept]), alone
