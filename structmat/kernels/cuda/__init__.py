"""Kernels in CUDA, through CuPy.

intervals      products by the runs of GBLR matrices
intervals.cu   their source
"""
