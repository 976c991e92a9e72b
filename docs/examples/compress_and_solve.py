"""
Compress a kernel matrix, and solve with it
===========================================

A Gaussian process with thousands of points needs solves with the kernel matrix of all of them. You
will see the matrix compressed to a few per cent of its entries, factored, and a prediction made,
each step with its error.
"""

import matplotlib.pyplot as plt
import numpy as np

import structmat
from structmat.plot import structure

rng = np.random.default_rng(0)
points = rng.random((5000, 2))
K = structmat.KernelMatrix(points, "matern32", length=0.2)

# %%
# Nothing has been evaluated yet. ``compress`` looks at some of the entries, and measures the error
# on others.
found = structmat.compress(K, "hierarchical", tol=1e-4, rng=0)
A = found.matrix
print(A)
print(f"error {found.error:.1e}, from {100 * found.entries / 5000**2:.1f} % of the entries")

figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
structure(A, ax=axes)
axes.set_title("Each rectangle is a block of low rank")
plt.show()

# %%
# A factorization serves many right-hand sides, and gives the log-determinant too. Values at the
# points, with noise of deviation 0.1, make weights, and weights make a prediction anywhere.
truth = np.sin(9 * points[:, 0]) * np.cos(7 * points[:, 1])
values = truth + 0.1 * rng.standard_normal(len(points))
F = structmat.factorize(A, shift=0.01)
solution = F.solution(values)
print(F)
print(f"residual {solution.residual:.1e}, log-determinant {F.logdet().logabsdet:.1f}")

# %%
side = np.linspace(0, 1, 80)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
predicted = structmat.KernelMatrix(grid, "matern32", points, length=0.2) @ solution.x
error = predicted - np.sin(9 * grid[:, 0]) * np.cos(7 * grid[:, 1])

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for place, shown, title in zip(axes, (predicted, error), ("Prediction", "Error"), strict=True):
    image = place.imshow(shown.reshape(80, 80), origin="lower", extent=(0, 1, 0, 1))
    figure.colorbar(image, ax=place)
    place.set_title(title)
plt.show()

print(
    f"Seen: {100 * A.relative_cost:.1f} % of the multiplications, and an error of\n"
    f"{np.sqrt(np.mean(error**2)):.3f} in predictions from values whose noise is 0.1."
)
