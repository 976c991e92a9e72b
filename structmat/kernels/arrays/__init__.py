"""Kernels made of other libraries' products: BLAS, PyTorch and SciPy.

panels         dense panels, in the array API alone: the reference of all kernels
torch_panels   the same on PyTorch, with gradients
torch_batches  a bounded number of batched products on PyTorch, for devices
csr            compressed sparse rows of SciPy
monarch        products by Monarch matrices
dense          factors and matrices as dense arrays
"""
