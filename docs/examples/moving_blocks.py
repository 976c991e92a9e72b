"""
Blocks that move
================

Between two GBLR matrices lies a path of GBLR matrices: the blocks change their places and widths
step by step, and so do their contents. You will see such a path as an animation, and the number of
multiplications along it.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation

import structmat
from structmat.plot import structure


# %%
# Two matrices of three blocks each; a block has a start and a width of rows, and of columns.
def blocks(rows, cols):
    (row, height), (col, width) = np.array(rows).T, np.array(cols).T
    u, v = np.ones(height.sum()), np.ones(width.sum())
    return structmat.GBLR(row, height, u, col, width, v, shape=(60, 60))


A = blocks([(2, 30), (40, 12), (10, 8)], [(2, 10), (28, 24), (50, 8)])
B = blocks([(24, 12), (4, 34), (46, 12)], [(30, 26), (6, 10), (2, 20)])
steps = np.concatenate([np.linspace(1, 0, 16), np.linspace(0, 1, 16)])

# %%
# ``interpolate`` takes the share of the first matrix. Starts move on a circle: a block that leaves
# at one end comes in at the other.
figure, axes = plt.subplots(figsize=(4, 4), dpi=70, layout="constrained")


def draw(i):
    axes.clear()
    structure(structmat.interpolate(A, B, steps[i]), ax=axes)
    axes.set_title(f"{steps[i]:.2f} A + {1 - steps[i]:.2f} B, by blocks")


animation = FuncAnimation(figure, draw, frames=len(steps), interval=120)
plt.show()

# %%
# The cost follows the widths, so it stays between those of both ends. The sum of the matrices, by
# contrast, needs the blocks of both.
costs = [structmat.interpolate(A, B, alpha).cost for alpha in steps[:16]]
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.plot(1 - steps[:16], costs, label="by blocks")
axes.axhline((A + B).cost, color="#777777", ls="--", label="sum of the matrices")
axes.set(xlabel="share of B", ylabel="multiplications", ylim=0)
axes.legend()
plt.show()

print(f"Seen: {A.cost} multiplications for A, {B.cost} for B,")
print(f"at most {max(costs)} between them.")
