"""Layouts of a sparse factor: how its packed contents lie in memory for a kernel.

panels   dense columns of a factor, for BLAS, and the patterns of all structures
tiles    dense rectangles of one size, for the matrix units of a GPU
"""
