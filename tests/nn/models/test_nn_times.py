"""Expected times of structured layers, on the device where they are."""

import pytest
import torch
from nn_models import Attention, convnet, mlp
from test_nn_model import packed
from torch import nn

from structmat.kernels.cost_model import layers as cost_layers
from structmat.nn import Config, convert_, cost, freeze_
from structmat.nn.structured import products


def fixed(model, x, **options):
    convert_(model, Config(budget=0.2, learn=False, **options), example=x)
    return model.eval()


CASES = {
    "mlp": (mlp, torch.zeros(7, 64), {}),
    "packed": (Attention, torch.zeros(2, 5, 32), {"parts": packed}),
    "convolutions": (convnet, torch.zeros(2, 16, 8, 8), {}),
    "taps": (convnet, torch.zeros(2, 16, 8, 8), {"conv": "taps"}),
    "grouped": (mlp, torch.zeros(7, 64), {"group": 8}),
    "tiles": (mlp, torch.zeros(7, 64), {"kind": "block_sparse", "tile": 8}),
}


@pytest.mark.parametrize("case", CASES)
def test_times_are_those_that_the_layers_choose_by(case, user_cache, monkeypatch):
    build, x, options = CASES[case]
    model = fixed(build(), x, **options)
    found = cost(model, x)
    asked = []
    choose = products.dense_is_quicker

    def seen(times, count, **keywords):
        asked.append((count, choose(times, count, **keywords)))
        return asked[-1][1]

    monkeypatch.setattr(products, "dense_is_quicker", seen)
    model.eval()  # ways of products that are remembered are asked for again
    with torch.no_grad():
        model(x)
    assert found.times.place == "cpu"
    assert found.times.examples == len(x)
    assert len(found.times.rows) == len([r for r in found.rows if r.kind != "dense"])
    for row in found.times.rows:
        assert row.seconds > 0
        assert row.dense_seconds > 0
        assert row.vectors in {count for count, _ in asked}
    if case != "packed":  # whose parts choose for themselves
        assert [(r.vectors, r.takes_dense) for r in found.times.rows] == asked
    assert f"expected on cpu for {len(x)} examples: " in str(found)
    assert str(found.times).count("\n") == len(found.times.rows) + 1


def test_more_vectors_take_longer(user_cache):
    model = fixed(mlp(), torch.zeros(1, 64))
    few, many = (cost(model, torch.zeros(count, 64)).times for count in (1, 4096))
    assert many.seconds > 2 * few.seconds
    assert many.by_structure > 2 * few.by_structure
    assert many.dense_seconds > 2 * few.dense_seconds
    assert cost(model).times is None


def test_a_device_without_figures_says_so(user_cache):
    model = fixed(mlp(), torch.zeros(1, 64)).to("meta")
    found = cost(model, torch.zeros(3, 64, device="meta"))
    assert all(row.seconds is None and row.relative is None for row in found.times.rows)
    assert found.times.seconds == 0
    for text in (str(found), str(found.times)):
        assert "no times are known for meta, float32" in text
        assert "structmat calibrate --device cuda" in text


def test_a_device_with_figures_tells_its_own(user_cache, monkeypatch):
    figures = cost_layers.SHIPPED["cpu"]
    monkeypatch.setattr(cost_layers, "SHIPPED", {"meta, float32": figures})
    model = fixed(mlp(), torch.zeros(1, 64), group=8).to("meta")
    times = cost(model, torch.zeros(3, 64, device="meta")).times
    assert times.place == "meta, float32"
    assert times.seconds > 0
    assert not times.note


def test_layers_that_learn_have_no_times_before_they_are_frozen():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    convert_(model, Config(budget=0.2), lambda name, _: name == "0")
    x = torch.zeros(3, 64)
    found = cost(model, x)
    assert "expected" not in str(found)
    assert found.times.rows[0].seconds is None
    assert "layers that learn have no times before freeze_" in str(found.times)
    freeze_(model)
    assert cost(model, x).times.rows[0].seconds > 0
