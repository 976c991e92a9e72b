"""The concrete matrices, one final class a file."""

from structmat.matrices.block_low_rank import BlockLowRank
from structmat.matrices.block_sparse import BlockSparse
from structmat.matrices.dense import Dense
from structmat.matrices.gblr import GBLR
from structmat.matrices.lazy import Adjoint, Product, Scaled, Sum
from structmat.matrices.low_rank import LowRank
from structmat.matrices.monarch import Monarch
from structmat.matrices.permutation import Permutation

__all__ = [
    "GBLR",
    "Adjoint",
    "BlockLowRank",
    "BlockSparse",
    "Dense",
    "LowRank",
    "Monarch",
    "Permutation",
    "Product",
    "Scaled",
    "Sum",
]
