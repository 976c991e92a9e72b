"""
Five structures on one matrix
=============================

Which structure suits a matrix? You will see the kernel matrix of earthquakes compressed to five
structures with the same number of multiplications: their blocks, and the error that each leaves.
"""

import matplotlib.pyplot as plt
import numpy as np

import structmat
from structmat.demo import earthquake_kernel
from structmat.kinds import kind_record
from structmat.plot import structure

K = earthquake_kernel(256)
rows = structmat.compare(K, budget=0.15, rng=0)
print(rows)

# %%
# The blocks that each kind stores, brighter where several overlap. Low rank has thin factors for
# everything; tiles lie on a grid; GBLR puts blocks where they are needed.
kinds = ("low_rank", "block_sparse", "block_low_rank", "monarch", "gblr")
chosen = {row.kind: row for row in rows if row.kind in kinds}
figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), layout="constrained")
structure([row.matrix for row in chosen.values()], ax=axes)
for place, row in zip(axes, chosen.values(), strict=True):
    place.set_title(kind_record(row.kind).label)
    place.label_outer()
plt.show()

# %%
# What is missing: the absolute error of every entry, on one scale of colours.
figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), layout="constrained")
for place, row in zip(axes, chosen.values(), strict=True):
    missing = np.abs(row.matrix.to_dense() - K)
    image = place.imshow(missing, vmin=0, vmax=0.2, cmap="magma")
    place.set_title(f"error {row.error:.3f}")
    place.set(xticks=[], yticks=[])
figure.colorbar(image, ax=axes, shrink=0.8)
plt.show()

# %%
best, next_one = sorted(chosen.values(), key=lambda row: row.error)[:2]
print(
    f"Seen: at equal cost {best.kind} leaves an error of {best.error:.1e},\n"
    f"and the next one, {next_one.kind}, one of {next_one.error:.1e}."
)
