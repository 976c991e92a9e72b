"""
A trained model, compressed by what it computes
===============================================

A trained network becomes cheaper without being learned anew. You will see which kind of matrix
``advise`` recommends for its layers, how far the outputs of the network move with and without
calibration data, at four budgets, and what a short training repairs.
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
order = torch.randperm(len(y))
x, y = digits[order].float() / 8 - 1, y[order]
test, few = slice(1257, None), slice(0, 256)


def train_(model, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for batch in (batch for _ in range(epochs) for batch in torch.randperm(1257).split(64)):
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()


# %%
# A small dense network stands for yours. 256 of its examples are enough for advice.
layers = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
train_(dense := nn.Sequential(*layers), 30)
print(advise(dense, [few], lambda model, of: cross_entropy(model(x[of]), y[of]), budgets=[0.3]))


# %%
# The kind that was chosen, and tiles, which are farther from these weights. Calibration fits what a
# layer computes from its inputs in the training set, rather than its weights.
def measured(kind, budget, calibration):
    model, config = copy.deepcopy(dense), Config(kind=kind, budget=budget, start="weights")
    convert_(model, config, lambda name, _: name != "4", calibration=calibration)
    outputs = [model(x[test]).detach(), dense(x[test]).detach()]
    train_(model, 3)
    right = [(out.argmax(1) == y[test]).float().mean() for out in (outputs[0], model(x[test]))]
    return (outputs[0] - outputs[1]).norm() / outputs[1].norm(), 100 * right[0], 100 * right[1]


budgets, seen = (0.1, 0.2, 0.3, 0.4), []
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for kind, colour in {"low_rank": "C0", "block_sparse": "C1"}.items():
    for how, data, line in (("plain", None, "--"), ("calibrated", x[:1257], "-")):
        values = torch.tensor([measured(kind, budget, data) for budget in budgets]).T
        for place, row in zip(axes, values, strict=True):
            place.plot(budgets, row, line, color=colour, label=f"{kind}, {how}")
        error, at_once, trained = values[:, 2].tolist()
        seen.append(f"{kind}, {how}: {error:.2g}, {at_once:.1f} % and {trained:.1f} %")
axes[0].set(xlabel="budget", title="error of the outputs", yscale="log")
axes[1].set(xlabel="budget", title="accuracy (%)")
axes[2].set(xlabel="budget", title="accuracy after three epochs (%)")
axes[2].legend()

# %%
print("Seen: error of the outputs, accuracy at once and after three epochs, at a budget of")
print(f"{budgets[2]}: {'; '.join(seen)}.")
