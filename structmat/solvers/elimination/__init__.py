"""Eliminations: LU and Cholesky of sparse matrices, and of matrices of tiles that stay low rank.

factorization    the `Factorization` that solves by factors
arranged         factors of a matrix whose rows and columns were scaled and reordered
scaling          scales by powers of two
inverse_norm     size of an inverse, by a few solves
sparse_form      structured matrices as sparse arrays of SciPy
sparse_plan      the order of a sparse matrix, and the way that pays
sparse_factors   banded factors by LAPACK, others by SuperLU
tile_form        structured matrices as square matrices of tiles
tile_arithmetic  products, sums and truncation of tiles
tile_scaling     tiles with rows and columns of similar sizes
tile_plan        the order of tiles, and a forecast
pivots           diagonal tiles taken apart
tile_loops       the elimination
tile_factors     tiles to factors: tolerances, and fallbacks
"""
