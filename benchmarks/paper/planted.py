"""Both ways to learn, and starts held, on planted matrices: one task, one budget, one optimizer."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.results import Row, short
from structmat import GBLR
from structmat.nn import Anneal, BudgetProjection, Config, SigmaSchedule, convert_, parameter_groups

#: Rows and columns, steps, vectors in a step, and learning rates.
SIDE, STEPS, BATCH, RATE, STRUCTURE_RATE = 128, 1500, 128, 3e-3, 5e-3
#: Heights and widths of the planted blocks, in turns, and their number.
SHAPES = {
    "windows": ([(1, 12)], SIDE),
    "blocks of 20×20": ([(20, 20)], 40),
    "four shapes": ([(4, 40), (40, 4), (12, 12), (24, 6)], 60),
}
#: Settings of `Config` of each way, beside the budget, and sharpness at both ends.
WAYS = {
    "Anneal": ({}, None),
    "Gaudi masks, from a grid": (
        {"learn": "gaudi", "oversize": 2.0, "options": {"width_init": "grid"}},
        (10.0, 100.0),
    ),
    "Gaudi masks, from splr": (
        {
            "learn": "gaudi",
            "options": {"width_init": "splr", "num_blocks": SIDE, "location_init": 0.0},
        },
        (1.0, 100.0),
    ),
    "strips, held": ({"learn": False}, None),
}


def planted(
    names: Sequence[str] = tuple(SHAPES), steps: int = STEPS, seeds: Sequence[int] = (0,)
) -> list[Row]:
    """Share of the energy of a planted matrix that each way misses, at the matrix's own cost."""
    rows = []
    for name in names:
        for seed in seeds:
            W, budget = teacher(name, seed)
            for way in WAYS:
                begin = time.process_time()
                missed, cost = _learned(way, W, budget, steps, seed)
                rows.append(
                    {"what": "planted", "planted": name, "seed": seed, "way": way}
                    | {"budget": short(budget), "cost": short(cost), "missed": short(missed)}
                    | {"seconds": short(time.process_time() - begin)}
                )
    return rows


def teacher(name: str, seed: int) -> tuple[Tensor, float]:
    """Planted matrix of mean square 1 / n, and its cost over the dense one."""
    rng = np.random.default_rng(seed)
    shapes, count = SHAPES[name]
    down, across = np.array([shapes[i % len(shapes)] for i in range(count)]).T
    every = name == "windows"
    rows = np.arange(SIDE) if every else rng.integers(0, SIDE, count)
    u = np.ones(down.sum()) if every else rng.standard_normal(down.sum())
    v = rng.standard_normal(across.sum())
    matrix = GBLR(rows, down, u, rng.integers(0, SIDE, count), across, v, shape=(SIDE, SIDE))
    W = torch.tensor(matrix.to_dense(), dtype=torch.float32)
    return W * (SIDE**0.5 / W.norm()), matrix.relative_cost


def _learned(way: str, W: Tensor, budget: float, steps: int, seed: int) -> tuple[float, float]:
    """Share of the energy that is missed after the training, and the cost of the layer."""
    settings, sigma = WAYS[way]
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(SIDE, SIDE, bias=False))
    generator = torch.Generator().manual_seed(seed)
    convert_(network, Config(budget=budget, min_features=1, **settings), generator=generator)
    groups = parameter_groups(
        network, lr=RATE, structure_lr=STRUCTURE_RATE, structure_betas=(0.0, 0.999)
    )
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if way == "Anneal":
        Anneal(network, optimizer, budget, steps)
    elif sigma is not None:
        BudgetProjection(network, optimizer, budget, steps)
        SigmaSchedule(network, optimizer, steps, start=sigma[0], stop=sigma[1])
    for _ in range(steps):
        x = torch.randn(BATCH, SIDE, generator=generator)
        optimizer.zero_grad()
        (network(x) - x @ W.T).square().mean().backward()
        optimizer.step()
        schedule.step()
    found = network.eval()[0].to_matrix()
    dense = found.to_dense().detach()
    return float((dense - W).square().sum() / W.square().sum()), found.relative_cost
