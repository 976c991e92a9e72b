"""
A network finds its structure
=============================

Handwritten digits lie in the middle of noise, and a network learns which of its entries it needs.
You will see a layer before, during and after the learning, the pixels that it came to read, and its
accuracy and multiplications beside those of the same network left dense.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from structmat import plot
from structmat.nn import Anneal, Config, convert_, cost, freeze_

digits, y = (torch.tensor(part) for part in load_digits(return_X_y=True))
torch.manual_seed(0)
x, order = torch.randint(0, 17, (len(y), 16, 16)).float(), torch.randperm(len(y))
x[:, 4:12, 4:12] = digits.reshape(-1, 8, 8).float()
x, y, stages = (x.flatten(1) / 8 - 1)[order], y[order], []


# %%
# ``Anneal`` works after each step of the optimizer: it takes entries away until the layers meet the
# budget, a hundredth of their multiplications, at six tenths of the steps.
def trained(budget=None):
    hidden = [nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    model = nn.Sequential(*hidden, nn.Linear(512, 10))
    if budget is not None:
        convert_(model, Config(budget=budget), lambda name, _: name != "4")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if budget is not None:
        Anneal(model, optimizer, budget, total_steps=400, orders=False)
    for _ in range(40):
        stages.append(model[0].weight.detach() != 0)
        for batch in torch.randperm(1257).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    right = model(x[1257:]).argmax(1) == y[1257:]  # of the 540 digits left over
    return model.eval(), f"{100 * right.float().mean().item():.1f} %"


(_, plain), (learned, reached) = trained(), trained(budget=0.01)
freeze_(learned)  # packed layers, which store and multiply their blocks only
print(own := cost(learned, x[:1]))

# %%
# Above, the first layer: entries in use at the start and after twelve epochs, and its blocks at the
# end. Below, a picture, the mean of all pictures, and how many of the 512 units read each pixel.
blocks, (picture, mean) = learned[0].to_matrix(), (x[0] + 1, x.mean(0) + 1)
reads = (blocks.to_dense() != 0).sum(0)
figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
for place, shown in zip(axes[0], (stages[40], stages[52]), strict=False):
    place.imshow(shown, vmin=0, aspect="auto", interpolation="nearest")
plot.structure(blocks, axes[0, 2])
for place, shown in zip(axes[1], (picture, mean, reads), strict=True):
    place.imshow(shown.reshape(16, 16), vmin=0)
plt.show()

# %%
share = 100 * reads.reshape(16, 16)[4:12, 4:12].sum() / reads.sum()
print(
    f"Seen: with {100 * own.structured.relative_cost:.3g} % of the multiplications, learned "
    f"layers\nreach {reached} and dense ones {plain}; the middle, a quarter of the picture,\n"
    f"takes {share:.0f} % of what the first layer reads."
)
