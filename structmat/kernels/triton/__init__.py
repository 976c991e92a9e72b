"""Kernels for the matrix units of a GPU, in Triton.

kernels        the Triton kernels for tiles and their launches
launches       their block sizes by shape, shipped or measured
operators      products with tiles as PyTorch operators
torch_op       sparse matrices in tiles on PyTorch
factor         factors in tiles
line_kernels   the Triton kernels for few vectors and their launches
lines          products with stored lines as a PyTorch operator
"""
