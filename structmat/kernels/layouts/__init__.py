"""Layouts of sparse factors: places of their packed contents in memory, for the kernels.

panels           dense columns of a factor, for BLAS, and the patterns of all structures
tiles            dense rectangles of one size, for the matrix units of a GPU
placed           tiles that packed contents hold as they are
batches          dense groups of equal size, for batched products
batched          batches of all factors of a matrix
lines            stretches of packed contents, for few vectors
strips           matrices of strips as one sparse matrix
rectangles       rectangles of a rank or dense, and where entries lie among them
rectangle_index  places of entries in the contents of rectangles
factors          the structure of a matrix made of factors, which keeps their layouts
"""
