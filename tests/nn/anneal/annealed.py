"""Small networks that learn their structure, in each stage of a training, by kind and layer."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from structmat.nn import AnnealWeight, Config, PackedLinear, convert_
from structmat.nn.anneal.projected import in_given_order
from structmat.nn.anneal.projectors import Options, project

#: GBLR in the given order of rows and columns, and in another one.
KINDS = ("gblr", "ordered gblr", "block_sparse", "block_low_rank", "low_rank")
#: Dense; row runs under a wide cap; blocks on their union; contents of blocks.
STAGES = ("dense", "support", "blocks", "factored")
LAYERS = ("linear", "convolution", "taps", "packed", "shared", "attention")
TABLE = list(itertools.product(KINDS, STAGES, LAYERS))
#: Every kind in every stage, and every layer with some of them.
FEW = [
    (kind, stage, LAYERS[(i + 2 * j) % len(LAYERS)])
    for i, kind in enumerate(KINDS)
    for j, stage in enumerate(STAGES)
]
BUDGET = 0.1
_SHARES = {"support": 3.2 * BUDGET, "blocks": 2 * BUDGET, "factored": BUDGET + 1e-9}

every_stage = pytest.mark.parametrize(
    ("kind", "stage", "layer"),
    [pytest.param(*c, marks=() if c in FEW else pytest.mark.slow) for c in TABLE],
)
stages = pytest.mark.parametrize(("kind", "stage"), list(itertools.product(KINDS, STAGES)))


def rotated(*names):
    """Cells of kinds, stages and names: one name for each kind and stage, and the rest slow."""
    cells = list(itertools.product(enumerate(KINDS), enumerate(STAGES), enumerate(names)))
    return [
        pytest.param(kind, stage, name, marks=() if (i + j) % len(names) == k else pytest.mark.slow)
        for (i, kind), (j, stage), (k, name) in cells
    ]


class Twins(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(20, 20), nn.Linear(20, 20)
        self.right.weight = self.left.weight

    def forward(self, x):
        return self.right(torch.tanh(self.left(x)))


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(20, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


MAKERS = {
    "linear": lambda: nn.Linear(64, 56),
    "convolution": lambda: nn.Conv2d(8, 12, 3, padding=1),
    "taps": lambda: nn.Conv2d(12, 16, (1, 2)),
    "packed": lambda: nn.Linear(20, 48, bias=False),
    "shared": Twins,
    "attention": Attends,
}


def dense(layer, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(MAKERS[layer]())


def converted(kind, layer="linear", seed=0):
    """A network that begins to learn."""
    model = dense(layer, seed)
    config = Config(
        budget=BUDGET,
        kind=kind.split()[-1],
        learn=True,
        min_features=8,
        conv="taps" if layer == "taps" else "matrix",
        parts=lambda *_: 3 if layer == "packed" else 1,
    )
    convert_(model, config, generator=torch.Generator().manual_seed(seed))
    assert isinstance(model[0], PackedLinear) == (layer == "packed")
    return model


def weights_of(model):
    return [m for m in model.modules() if isinstance(m, AnnealWeight)]


def advance_(model, kind, stage, seed=0):
    """Project all weights, as a rule does, up to a stage of the training."""
    first = weights_of(model)[0]
    if stage == "factored" and first.cost > _SHARES["blocks"] * np.prod(first.shape):
        advance_(model, kind, "blocks", seed)  # where the last pursuit begins
    for i, weight in enumerate(weights_of(model) if stage != "dense" else []):
        cap = int(_SHARES[stage] * np.prod(weight.shape))
        weight.take_(projected(weight, kind, cap, seed + i), factored=stage == "factored")
    return model


def projected(weight, kind, cap, seed=0):
    W, last, end = weight.values().float().numpy(), weight.present(), weight.cap
    name = kind.split()[-1]
    if name == kind:
        return project(kind, W, cap, end, last, Options(orders=False))
    rng = np.random.default_rng(seed)
    rows, cols = (rng.permutation(size) for size in W.shape)
    inside = replace(last, row_order=None, col_order=None, matrix=None)
    found = project(name, W[rows][:, cols], cap, end, inside, Options(orders=False))
    support = in_given_order(found.support, rows, cols)
    return replace(found, row_order=rows, col_order=cols, support=support)


def learned(kind, stage, layer="linear", seed=0):
    """A network in a stage of its training; structure and values follow from the seed."""
    return advance_(converted(kind, layer, seed), kind, stage, seed)


def inputs(layer, count=3):
    g = torch.Generator().manual_seed(7)
    sizes = {"linear": 64, "convolution": 8, "taps": 12}
    if layer in ("convolution", "taps"):
        return torch.randn(count, sizes[layer], 5, 4, generator=g)
    return torch.randn(count, 4, sizes.get(layer, 20), generator=g)
