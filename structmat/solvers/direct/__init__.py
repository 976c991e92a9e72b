"""Direct factorizations by structure: exact up to rounding and the truncation of tiles.

dense            LU and Cholesky of a matrix that is small enough to form
lapack           factors of small dense arrays, with their condition
simple           diagonals, permutations, multiples and adjoints
products         factors of products, orders and Monarch's, each by its own
kronecker        Kronecker products by their factors, or by eigenvectors
block_diagonal   blocks that share no rows and no columns
components       such blocks, found in a support
stacks           many small arrays of one size, together
triangular       block-triangular grids, by substitution
woodbury         a base and a product of thin factors
terms            a matrix taken apart for it
thin             products of thin factors: found, joined, made orthogonal
tiles            block-low-rank matrices and square blocks, over tiles
banded           banded matrices, and others of few entries
"""
