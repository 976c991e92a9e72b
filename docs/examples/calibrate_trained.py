"""
A trained model, compressed by what it computes
===============================================

A trained network becomes cheaper. You will see which kind of matrix ``advise`` recommends for its
layers, how far its outputs move at four budgets, with and without calibration data, and what a
short training repairs.
"""

import copy

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from structmat.nn import Config, advise, convert_

digits, y = (torch.tensor(part) for part in load_digits(return_X_y=True))
torch.manual_seed(0)
x, y = digits[order := torch.randperm(len(y))].float() / 8 - 1, y[order]


def train_(model, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for batch in (batch for _ in range(epochs) for batch in torch.randperm(1257).split(64)):
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()


# %%
# A small dense network stands for yours. A few hundred examples are enough for advice.
layers = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
train_(dense := nn.Sequential(*layers), 30)
print(advise(dense, [range(256)], lambda net, i: cross_entropy(net(x[i]), y[i]), budgets=[0.3]))


# %%
# The recommended kind, and tiles, which are farther from these weights. Calibration fits what a
# layer computes from its inputs in the training set, rather than its weights.
def measured(kind, budget, calibration):
    model, config = copy.deepcopy(dense), Config(kind=kind, budget=budget, start="weights")
    convert_(model, config, lambda name, _: name != "4", calibration=calibration)
    out, wanted = model(x[1257:]).detach(), dense(x[1257:]).detach()
    train_(model, 3)
    right = [100 * (z.argmax(1) == y[1257:]).float().mean() for z in (out, model(x[1257:]))]
    return (out - wanted).norm() / wanted.norm(), *right


figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
budgets, seen = (0.1, 0.2, 0.3, 0.4), {}
for i, label in enumerate(("low_rank", "low_rank, calibrated", "tiles", "tiles, calibrated")):
    kind, calibration = ("low_rank", "block_sparse")[i // 2], x[:1257] if i % 2 else None
    seen[label] = torch.tensor([measured(kind, budget, calibration) for budget in budgets])
    for place, values in zip(axes, seen[label].T, strict=True):
        place.plot(budgets, values, "-" if i % 2 else "--", color=f"C{i // 2}", label=label)
for place, title in zip(
    axes, ("error of outputs", "accuracy (%)", "after three epochs"), strict=True
):
    place.set(title=title, xlabel="budget")
axes[0].legend()

# %%
print("Seen at a budget of 0.3: error of the outputs, accuracy at once and after three epochs are")
print(
    "; ".join("{1:.2g}, {2:.1f} % and {3:.1f} % for {0}".format(k, *v[2]) for k, v in seen.items())
)
