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
    batches = (batch for _ in range(epochs) for batch in torch.randperm(1257).split(64))
    for batch in batches:
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()


# %%
# A small dense network stands for yours. A few hundred examples are enough for advice.
hidden = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
train_(dense := nn.Sequential(*hidden, nn.Linear(256, 10)), 30)
few = [range(256)]
print(advise(dense, few, lambda net, i: cross_entropy(net(x[i]), y[i]), budgets=[0.3]))


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


budgets, seen = (0.1, 0.2, 0.3, 0.4), {}
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for kind, colour in {"low_rank": "C0", "block_sparse": "C1"}.items():
    for label, line, data in ((kind, "--", None), (f"{kind}, calibrated", "-", x[:1257])):
        seen[label] = torch.tensor([measured(kind, budget, data) for budget in budgets])
        for place, values in zip(axes, seen[label].T, strict=True):
            place.plot(budgets, values, line, color=colour, label=label)
titles = ("error of the outputs", "accuracy (%)", "accuracy, three epochs later (%)")
for place, title in zip(axes, titles, strict=True):
    place.set(title=title, xlabel="budget")
axes[0].legend()
plt.show()

# %%
# A smaller error need not be a higher accuracy, least of all after a training.
print("Seen at a budget of 0.3: error, accuracy, and accuracy three epochs later are")
for label, values in seen.items():
    print("{}: {:.2g}, {:.1f} % and {:.1f} %".format(label, *values[2]))
