"""The concrete matrices, one final class a file.

adjoints              matrices that are each other's adjoints, part by part
dense                 `Dense`
permutation           `Permutation`
diagonal              `Identity` and `Diagonal`
low_rank              `LowRank`
block_sparse          `BlockSparse`
block_low_rank        `BlockLowRank`
monarch               `Monarch`
gblr                  `GBLR`
hermitian             T + T^H of any structure, and U D U^H of low rank
hierarchical          `Hierarchical`
hierarchical_checks   its blocks, orders and contents checked
hierarchical_entries  its entries: single ones, all of them, their norm
from_sparse           a sparse matrix of SciPy as one of these
inner_products        norms of sums with simple terms, and of sparse factors
distributed           entries of products of sums, term by term
lazy                  sums, products, multiples and adjoints that no structure holds exactly
ordered               products of a matrix between orders of its rows and columns
kronecker             Kronecker products, applied factor by factor
grid                  matrices of matrices, and blocks that are zero
foreign               operators of other libraries as terms and factors
complex_parts         real and imaginary parts
sums                  sums that grow, and sums of two kinds
orders                permutations around a matrix: how they meet, and what passes through them
"""

from structmat.matrices.block_low_rank import BlockLowRank as BlockLowRank
from structmat.matrices.block_sparse import BlockSparse as BlockSparse
from structmat.matrices.dense import Dense as Dense
from structmat.matrices.diagonal import Diagonal as Diagonal
from structmat.matrices.diagonal import Identity as Identity
from structmat.matrices.foreign import ForeignOperator as ForeignOperator
from structmat.matrices.foreign import from_operator as from_operator
from structmat.matrices.foreign import is_operator as is_operator
from structmat.matrices.from_sparse import from_sparse as from_sparse
from structmat.matrices.gblr import GBLR as GBLR
from structmat.matrices.grid import Grid as Grid
from structmat.matrices.hermitian import HermitianLowRank as HermitianLowRank
from structmat.matrices.hermitian import Mirrored as Mirrored
from structmat.matrices.hierarchical import Hierarchical as Hierarchical
from structmat.matrices.kronecker import Kronecker as Kronecker
from structmat.matrices.lazy import Adjoint as Adjoint
from structmat.matrices.lazy import Product as Product
from structmat.matrices.lazy import Scaled as Scaled
from structmat.matrices.lazy import Sum as Sum
from structmat.matrices.lazy import split_orders as split_orders
from structmat.matrices.low_rank import LowRank as LowRank
from structmat.matrices.monarch import Monarch as Monarch
from structmat.matrices.orders import in_orders as in_orders
from structmat.matrices.orders import same_orders as same_orders
from structmat.matrices.permutation import Permutation as Permutation
from structmat.matrices.sums import joined as joined
