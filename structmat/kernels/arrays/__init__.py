"""Kernels made of other libraries' products: BLAS, PyTorch and SciPy.

panels         dense panels, in the array API alone: the reference of all kernels
torch_panels   the same on PyTorch, with gradients
batches        a bounded number of batched products, in the array API, for devices
torch_batches  the same on PyTorch, with gradients
csr            compressed sparse rows of SciPy
monarch        products by Monarch matrices
rectangles     rectangles of a rank or dense, in NumPy
dense          factors and matrices as dense arrays
"""
