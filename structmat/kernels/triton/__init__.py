"""Kernels for the matrix units of a GPU, in Triton.

kernels    the Triton kernels and their launches
torch_op   products with tiles as PyTorch operators
factor     factors in tiles
"""
