"""Dense weights from the contents of blocks, by one gather and one sum a block's entry.

The positions depend on structure alone. The weight is a polynomial of its contents, computed
by plain functions of torch: derivatives of any order, transforms and graphs follow.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from structmat import binding
from structmat.intervals import IntArray, offsets, positions, ramps
from structmat.matrices import GBLR
from structmat.matrix import StructuredMatrix

#: Entries of blocks, as a multiple of those of the weight, from which products of contents
#: are formed by the matrix itself.
_MOST_ENTRIES = 2


@dataclass(frozen=True)
class Assembly:
    """Positions of the entries of all blocks, in the contents and in the weight.

    Attributes
    ----------
    left, right, at : tensor of int (E,)
        The entry `at` of the weight is the sum of the products of the contents `left` and
        `right`.
    """

    left: Tensor
    right: Tensor
    at: Tensor

    def __call__(self, contents: Tensor, shape: tuple[int, int]) -> Tensor:
        """The weight (m, n) of flat contents."""
        products = contents[self.left] * contents[self.right]
        flat = contents.new_zeros(shape[0] * shape[1]).index_add(0, self.at, products)
        return flat.view(shape)

    def to(self, device: torch.device) -> "Assembly":
        """The same on another device."""
        return Assembly(*(t.to(device) for t in (self.left, self.right, self.at)))


def flat_contents(matrix: StructuredMatrix) -> np.ndarray:
    """All contents of a matrix on NumPy in one array."""
    arrays = [np.asarray(array).ravel() for array in binding.leaves(matrix)]
    return np.concatenate(arrays) if arrays else np.zeros(0, matrix.dtype)


def assembly_of(
    matrix: StructuredMatrix, row_order: IntArray, col_order: IntArray
) -> Assembly | None:
    """Positions of a GBLR matrix of small blocks; None for other matrices."""
    if not isinstance(matrix, GBLR):
        return None
    m, n = matrix.shape
    areas = matrix.row_width * matrix.col_width
    if areas.sum() > _MOST_ENTRIES * m * n:
        return None
    block, entry = np.repeat(np.arange(len(areas)), areas), ramps(areas)
    i, j = entry // matrix.col_width[block], entry % matrix.col_width[block]
    left = offsets(matrix.row_width)[block] + i
    right = offsets(matrix.col_width)[block] + j
    rows = positions(matrix.row_start, matrix.row_width, m)[left]
    cols = positions(matrix.col_start, matrix.col_width, n)[right]
    at = row_order[rows] * n + col_order[cols]
    right = right + int(matrix.row_width.sum())
    return Assembly(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (left, right, at)))
