"""Approximation: a matrix to the structure that fits it, under a budget or a tolerance.

front            `compress`, `compare`: checks, budgets, measured errors
goal             what a fit has to respect
source           what can be compressed
measure          how far an approximation is from a matrix
svd              truncated singular value decompositions
tiles            tile sizes and strips
low_rank         the truncated SVD
block_sparse     the tiles of most energy
block_low_rank   ranks shared out by energy per multiplication
monarch          the projection onto Monarch matrices
gblr             a portfolio of searches for rank-one blocks
"""

from structmat.compress.front import Comparison, CompressionResult, compare, compress
from structmat.compress.source import DENSE_ENTRIES as DENSE_ENTRIES

__all__ = ["Comparison", "CompressionResult", "compare", "compress"]
