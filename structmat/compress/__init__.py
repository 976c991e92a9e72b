"""Compression: approximate a matrix by a structured one, under a budget or a tolerance.

front            `compress`
comparison       `compare`
arguments        their arguments, checked
contained        the best of a kind's own fit and those of the kinds that it contains
results          results, which print as tables
goal             a cap on the cost or a bound on the error
estimate         errors from samples, with the probability of their bounds
operators        matrices known by their products, checked and counted
range            bases of what an operator reaches, which grow
measure          errors, measured or estimated
source           inputs, checked; norms and measured errors
inner            errors from inner products, without n products
tiles            tile sizes, stacks of tiles, the choice among sizes
low_rank         the truncated SVD
block_sparse     the tiles of most energy
block_low_rank   ranks shared out by energy per multiplication
hermitian        fits of Hermitian matrices that store one half
monarch          the projection onto Monarch matrices
gblr             a portfolio of searches for rank-one blocks
hierarchical     fits by entries of rectangles of all sizes
products         fits of operators by products alone
entries          fits and errors of sources, by blocks of their entries
reduce           rectangles of matrices that have a structure already, decomposed and joined
recompress       `recompress`
"""

from structmat.compress.comparison import compare
from structmat.compress.front import compress
from structmat.compress.recompress import recompress
from structmat.compress.results import Comparison, CompressionResult
from structmat.compress.source import DENSE_ENTRIES as DENSE_ENTRIES

__all__ = ["Comparison", "CompressionResult", "compare", "compress", "recompress"]
