"""ALDS with one subspace a layer and with several, on a small trained network."""

import itertools
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn

from benchmarks.models.alds import alds_subspaces, convert_to_subspaces_
from benchmarks.results import Row, short

#: Budgets, and numbers of groups to choose from.
BUDGETS, GROUPS = (0.1, 0.25, 0.5), ((1,), (1, 2, 4, 8))
#: Passes, vectors in a step, and learning rate of the network's training.
PASSES, BATCH, RATE = 40, 128, 2e-3
#: Digits that are held out, the last ones of the data set.
HELD_OUT = 540


def subspaces(budgets: Sequence[float] = BUDGETS, passes: int = PASSES, seed: int = 0) -> list[Row]:
    """Bound on the error, and accuracy before further training, by the choice of groups."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return [{"what": "alds", "skipped": "scikit-learn, whose digits these are, is missing"}]
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    network = _trained(x[:-HELD_OUT], y[:-HELD_OUT], passes, seed)
    weights = {name: network.get_submodule(name).weight.detach() for name in ("0", "2")}
    rows = []
    for budget, groups in itertools.product(budgets, GROUPS):
        chosen = alds_subspaces(weights, dict.fromkeys(weights, 1), budget, groups=groups)
        cut = deepcopy(network)
        convert_to_subspaces_(cut, chosen)
        errors = [
            torch.linalg.matrix_norm(W - cut.get_submodule(name).weight.detach(), 2)
            / torch.linalg.matrix_norm(W, 2)
            for name, W in weights.items()
        ]
        rows.append(
            {"what": "alds", "budget": budget, "groups": list(groups)}
            | {"chosen": [list(chosen[name]) for name in weights]}
            | {"error": short(float(max(errors)))}
            | {"accuracy": short(_accuracy(cut, x[-HELD_OUT:], y[-HELD_OUT:]))}
            | {"dense": short(_accuracy(network, x[-HELD_OUT:], y[-HELD_OUT:]))}
        )
    return rows


def _trained(x: torch.Tensor, y: torch.Tensor, passes: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    for _ in range(passes):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


@torch.no_grad()
def _accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float((network(x).argmax(1) == y).float().mean())
