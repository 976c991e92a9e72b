"""The concrete matrices, one final class a file.

dense            `Dense`
permutation      `Permutation`
low_rank         `LowRank`
block_sparse     `BlockSparse`
block_low_rank   `BlockLowRank`
monarch          `Monarch`
gblr             `GBLR`
lazy             sums, products, multiples and adjoints that no structure holds exactly
"""

from structmat.matrices.block_low_rank import BlockLowRank as BlockLowRank
from structmat.matrices.block_sparse import BlockSparse as BlockSparse
from structmat.matrices.dense import Dense as Dense
from structmat.matrices.gblr import GBLR as GBLR
from structmat.matrices.lazy import Adjoint as Adjoint
from structmat.matrices.lazy import Product as Product
from structmat.matrices.lazy import Scaled as Scaled
from structmat.matrices.lazy import Sum as Sum
from structmat.matrices.low_rank import LowRank as LowRank
from structmat.matrices.monarch import Monarch as Monarch
from structmat.matrices.permutation import Permutation as Permutation
