"""
The same code on NumPy, PyTorch and CuPy
========================================

A matrix lives in the library of its contents. You will see one function run on arrays of NumPy, on
tensors of PyTorch, and on a GPU by CuPy and PyTorch where there is one, with equal results.
"""

import importlib.util
import time

import numpy as np
import torch

import structmat
from structmat.demo import earthquake_kernel

K = structmat.compress(earthquake_kernel(512), "block_low_rank", tol=1e-3, rng=0).matrix


# %%
# The function knows no library: products, sums, norms and solves are methods of the matrix, or
# functions of structmat.
def power(A, x, steps=20):
    """Largest eigenvalue of a symmetric matrix."""
    for _ in range(steps):
        y = A @ x
        x = y / (y @ y) ** 0.5
    return float(x @ (A @ x))


# %%
# ``to`` moves a matrix to another library, or to another device of its own.
places = {"NumPy": (K, np.ones(512))}
places["PyTorch"] = (K.to("torch"), torch.ones(512, dtype=torch.float64))
if torch.cuda.is_available():
    on_gpu = torch.ones(512, dtype=torch.float64, device="cuda")
    places["PyTorch on a GPU"] = (K.to("torch").to("cuda"), on_gpu)
if torch.cuda.is_available() and importlib.util.find_spec("cupy"):
    import cupy

    places["CuPy"] = (K.to("cupy"), cupy.ones(512))

found = {}
for name, (A, x) in places.items():
    power(A, x, steps=1)  # compiles and warms up
    begin = time.perf_counter()
    found[name] = power(A, x)
    print(f"{name}: {found[name]:.9f}, a matrix in {A.xp.__name__} on {A.device}")
if "CuPy" not in found:
    print("CuPy: left out, since no GPU with CuPy is at hand")

# %%
# Gradients flow through the contents where the library has them.
U = torch.ones(512, 2, dtype=torch.float64, requires_grad=True)
A = structmat.LowRank(U, U) + K.to("torch")
(A @ torch.ones(512, dtype=torch.float64)).sum().backward()
print("gradient of the contents:", tuple(U.grad.shape))

# %%
spread = max(found.values()) - min(found.values())
print(f"Seen: {len(found)} places, and eigenvalues that differ by {spread:.1e}.")
