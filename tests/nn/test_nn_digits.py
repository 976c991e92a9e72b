"""What learned structure reaches on handwritten digits, over five seeds.

Network 64-256-256-10, hidden layers structured, hard boxcars, true widths.
"""

import statistics

import pytest
import torch

from structmat.learn.data import load_data
from structmat.learn.tasks import is_inner, make_task
from structmat.learn.train import Settings, train
from structmat.nn import Config, GaudiLinear, convert_, cost, freeze_

SEEDS = range(5)


@pytest.fixture(scope="module")
def task():
    return make_task(load_data("digits"), "mlp", "small", Settings().batch)


def learned(task, budget, seed):
    """Accuracy of the frozen network and what share of the dense multiplications it takes."""
    torch.manual_seed(seed)
    model, generator = task.model(), torch.Generator().manual_seed(seed)
    convert_(model, Config(budget=budget), is_inner, generator=generator)
    train(task, model, Settings(), budget=budget, seed=seed)
    before = task.score(model)
    freeze_(model)
    accuracy = task.score(model)
    assert accuracy == before
    return accuracy, cost(model).structured.relative_cost


def frozen_at_random(task, budget, seed):
    """The same from the published start (splr) at that cost, which nothing moves."""
    torch.manual_seed(seed)
    model, generator = task.model(), torch.Generator().manual_seed(seed)
    for i, layer in enumerate(model.layers):
        m, n = layer.weight.shape
        model.layers[i] = GaudiLinear(
            n, m, width_init=f"splr{budget * max(m, n) / (m + n):.6f}", generator=generator,
            learn_widths=False, learn_locations=False,
        )  # fmt: skip
    train(task, model, Settings(), seed=seed)
    # The rule's whole blocks come near the budget, on either side.
    assert abs(cost(model).structured.relative_cost / budget - 1) < 0.1
    return task.score(model)


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "wanted"), [(0.1, 0.97), (0.05, 0.965)])
def test_learned_structure_on_digits(task, budget, wanted):
    accuracies, costs = zip(*(learned(task, budget, seed) for seed in SEEDS), strict=True)
    assert all(0.95 * budget <= c <= budget for c in costs)
    assert statistics.fmean(accuracies) >= wanted
    random = [frozen_at_random(task, budget, seed) for seed in SEEDS]
    assert statistics.fmean(accuracies) > statistics.fmean(random) + 0.01
