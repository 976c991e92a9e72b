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
    layers = [nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]
    model = nn.Sequential(*layers)
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
# The first layer: entries in use at the start and after twelve epochs, and its blocks at the end;
# then a picture, and how many of the 512 units read each of its pixels.
figure, axes = plt.subplots(1, 5, figsize=(15, 3.2), layout="constrained")
reads = (learned[0].to_matrix().to_dense() != 0).sum(0).reshape(16, 16)
plot.structure(learned[0].to_matrix(), axes[2])
for i, picture in {0: stages[40], 1: stages[52], 3: x[0].reshape(16, 16) + 1, 4: reads}.items():
    axes[i].imshow(picture, vmin=0, aspect="auto", interpolation="nearest")
    axes[i].set_title(("at the start", "after 12 epochs", "", "a picture", "units that read it")[i])

# %%
print(
    f"Seen: with {100 * own.structured.relative_cost:.3g} % of the multiplications, learned layers "
    f"reach {reached} and dense ones {plain}; the middle, a quarter of the picture, takes "
    f"{100 * reads[4:12, 4:12].sum() / reads.sum():.0f} % of what the first layer reads."
)
