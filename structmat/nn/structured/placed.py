"""Dense weights from contents that are put in their places at once.

Where every entry is one content, the places are those in the weight; where entries are sums, as of
blocks that overlap, they are those in two dense factors, and the weight is one product.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from structmat import binding
from structmat.intervals import IntArray
from structmat.kernels.layouts.batches import coordinates
from structmat.kernels.layouts.strips import Strips
from structmat.matrices import split_orders
from structmat.matrix import StructuredMatrix
from structmat.nn.structured.placed_pair import PairPlacement, pair_placement

_NAME = "placement"


class Placement(NamedTuple):
    """Place of each content of a matrix in its dense weight, on one device.

    Attributes
    ----------
    at : Tensor of int64
        Position in the flattened weight; one past its end for contents beyond an edge.
    strips : Strips, optional
        The strips of a matrix whose entries are products of two contents.
    """

    at: Tensor
    strips: Strips | None

    def dense(self, matrix: StructuredMatrix) -> Tensor:
        """The weight (m, n) of a matrix of this structure, from its contents."""
        (m, n), arrays = matrix.shape, binding.leaves(split_orders(matrix)[1])
        contents = [array.reshape(-1) for array in arrays]
        if self.strips is None:
            values = contents[0]
        else:
            # Gradients of contents in many entries are sums, for which half precision is too rough.
            wide = torch.promote_types(contents[0].dtype, torch.float32)
            values = self.strips.merged([part.to(wide) for part in contents]).to(contents[0].dtype)
        empty = values.new_zeros(m * n + 1)
        return empty.scatter(0, self.at, values)[: m * n].view(m, n)

    @property
    def terms(self) -> int:
        """Products that are summed in an entry of the weight."""
        return 0


def placement(matrix: StructuredMatrix) -> Placement | PairPlacement | None:
    """Places of the contents of a matrix on torch, kept with its structure.

    None where contents have no places, or too many columns in factors: there, the weight is a
    product with the unit vectors.

    Examples
    --------
    >>> import structmat
    >>> A = structmat.BlockSparse(np.ones((1, 2, 2)), [1], [0], shape=(4, 4)).to("torch")
    >>> placement(A).at
    tensor([ 8,  9, 12, 13])
    """
    found: Placement | PairPlacement | None = binding.structural(
        matrix, _NAME, lambda: _made(matrix)
    )
    return found


def forget_placement(matrix: StructuredMatrix) -> None:
    """Drop the places, which take eight bytes a scalar, of contents that do not train."""
    binding.forget(matrix, _NAME)


def _made(matrix: StructuredMatrix) -> Placement | PairPlacement | None:
    left, inner, right = split_orders(matrix)
    structure = binding.factors(inner)
    if structure is None or any(order is not None and order.p.is_meta for order in (left, right)):
        return None
    orders = [None if order is None else _order(order.p) for order in (left, right)]
    strips = None
    if structure.col is None:
        total = sum(array.numel() for array in binding.leaves(inner))
        rows, cols = coordinates(structure.row, total)
    else:
        strips = Strips.apart(structure)
        if strips is None:
            return pair_placement(matrix, inner, structure, orders)
        rows, cols = strips.coordinates
    m, n = matrix.shape
    beyond = (rows >= m) | (cols >= n)
    rows, cols = np.where(beyond, 0, rows), np.where(beyond, 0, cols)
    if orders[0] is not None:
        rows = np.argsort(orders[0])[rows]
    if orders[1] is not None:
        cols = orders[1][cols]
    at = np.where(beyond, m * n, rows * n + cols)
    return Placement(torch.from_numpy(at).to(matrix.device), strips)


def _order(p: Tensor) -> IntArray:
    found: IntArray = p.cpu().numpy()
    return found
