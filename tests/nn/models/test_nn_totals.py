"""Totals of costs: one unit each, for dense, converted, frozen and half converted models."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from nn_models import Classifier, Idle, Twins, convnet, mlp
from torch import nn

from structmat.nn import (
    Config,
    ConversionReport,
    LayerReport,
    Total,
    convert_,
    cost,
    freeze_,
    load_model,
    save_model,
    to_dense_,
)

CONFIG = Config(kind="low_rank", budget=0.5)
LEARNED = Config(budget=0.5, learn="gaudi")
ANNEALED = Config(budget=0.5)
IMAGES = torch.zeros(2, 3, 16, 16)


def head_last(name, module):
    return name != "head"


def dense_costs(vectors):
    """Multiplications of `Classifier`, with this number of vectors in all layers but the last."""
    return vectors * (32 * 48 + 96 * 32 + 32 * 32 + 2 * 32 * 64) + 512


@pytest.mark.parametrize("config", [CONFIG, LEARNED, ANNEALED], ids=["low rank", "gaudi", "anneal"])
def test_a_total_has_one_unit(config):
    model = Classifier()
    report = convert_(model, config, head_last, example=IMAGES)
    known, unknown = cost(model, IMAGES).everything, cost(model).everything
    assert (known.counted, known.dense_cost) == (True, dense_costs(16))
    assert (unknown.counted, unknown.dense_cost) == (False, dense_costs(1))
    # The converted layers have one relative cost, so both units give nearly the same.
    share = report.total.dense_cost / known.dense_cost
    assert known.relative_cost == pytest.approx(1 - share + share * report.total.relative_cost)
    assert unknown.relative_cost == pytest.approx(known.relative_cost, abs=0.06)
    assert "multiplications an example" in str(cost(model, IMAGES))
    lines = str(cost(model)).splitlines()
    assert "multiplications an example" in next(x for x in lines if x.startswith("structured"))
    assert "multiplications a vector" in next(x for x in lines if x.startswith("together"))


def test_positions_weigh_layers_that_differ():
    model = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.Flatten(), nn.Linear(1024, 16))
    x = torch.zeros(1, 16, 8, 8)
    convert_(model, CONFIG, lambda name, _: name == "0", example=x)
    conv, fc = cost(model, x).rows
    assert (conv.positions, fc.positions) == (64, 1)
    total = cost(model).everything
    assert (total.cost, total.dense_cost) == (conv.cost + fc.cost, 2304 + 16384)
    total = cost(model, x).everything
    assert (total.cost, total.dense_cost) == (64 * conv.cost + fc.cost, 64 * 2304 + 16384)


@pytest.mark.parametrize("example", [IMAGES, None], ids=["example", "none"])
def test_the_share_of_the_model_is_said(example):
    model = Classifier()
    plan = convert_(copy.deepcopy(model), CONFIG, head_last, example=example, dry_run=True)
    report = convert_(model, CONFIG, head_last, example=example)
    whole = dense_costs(16 if example is not None else 1)
    assert report.everything.dense_cost == whole
    assert report.share == pytest.approx(1 - 512 / whole)
    assert report.share == plan.share == cost(model, example).share
    assert report.everything == cost(model, example).everything
    unit = "an example" if example is not None else "a vector"
    assert f"{report.everything.dense_cost:,} multiplications {unit}" in str(report)
    assert f"had {report.share:.2%} of the multiplications" in str(report)
    assert report.total.counted == (example is not None)
    assert f"would be converted: {plan.total}" in str(plan)


def test_two_conversions_are_not_added_in_two_units():
    model = Classifier()
    convert_(model, LEARNED, lambda name, _: "mlp" in name, example=IMAGES)
    report = convert_(model, LEARNED, lambda name, _: "attention" in name)
    assert not report.total.counted
    assert not report.everything.counted
    both = freeze_(model).total
    assert not both.counted
    assert both.dense_cost == 2 * 32 * 64 + 96 * 32 + 32 * 32
    assert cost(model).structured == both
    assert cost(model, IMAGES).structured.dense_cost == 16 * both.dense_cost
    assert to_dense_(model).total == both


@pytest.mark.parametrize("config", [CONFIG, LEARNED, ANNEALED], ids=["low rank", "gaudi", "anneal"])
def test_what_was_counted_stays_known(config, tmp_path):
    for example, counted in ((IMAGES, True), (None, False)):
        model = Classifier()
        expected = convert_(model, config, example=example).total
        save_model(tmp_path / "model", model)
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        copies.append(load_model(tmp_path / "model", Classifier()))
        for one in [model, *copies]:
            assert cost(one).structured == expected
            frozen = freeze_(one).total
            # Gaudi layers count all widths.
            assert frozen.cost < expected.cost if config is LEARNED else frozen == expected
            assert replace(frozen, cost=expected.cost) == expected
            assert expected.counted == counted


def test_shared_and_repeated_layers_count_each_call():
    class Repeated(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(32, 32)

        def forward(self, x):
            return self.fc(self.fc(self.fc(x)))

    for model, calls in ((Repeated(), [3]), (Twins(), [2, 2])):
        x = torch.zeros(4, 32)
        before = cost(model, x)
        assert [row.positions for row in before.rows] == calls
        assert before.everything.storage == 1024 * len(calls)
        # With one vector a weight, each weight counts once.
        assert cost(model).everything.dense_cost == 1024 * len(calls)
        report = convert_(model, CONFIG, example=x)
        assert [row.positions for row in report.rows] == calls
        assert report.total == cost(model, x).structured == cost(model).structured
        assert report.share == 1.0


def test_idle_layers_cost_nothing_an_example():
    model, x = Idle(), torch.zeros(2, 32)
    report = convert_(model, CONFIG, example=x)
    assert (report.everything.dense_cost, report.share) == (1024, 1.0)
    assert report.everything.dense_storage == 2048
    assert cost(model, x).everything.dense_cost == 1024


def test_what_is_not_counted_is_named():
    layers = {"rnn": nn.LSTM(32, 32), "fc": nn.Linear(32, 32), "tokens": nn.Embedding(50, 32)}
    layers |= {"line": nn.Conv1d(16, 16, 3), "norm": nn.LayerNorm(32)}
    found = cost(nn.ModuleDict(layers))
    assert found.others == ("rnn (LSTM)", "line (Conv1d)")
    assert "(not counted: rnn (LSTM), line (Conv1d))" in str(found)
    assert "not counted" not in str(cost(mlp()))
    convert_(model := convnet(), LEARNED)
    assert cost(model).others == ()


def test_sums_of_rows_by_hand():
    rows = [LayerReport("a", "low_rank", (8, 16), positions=4, cost=48, storage=48)]
    rest = (LayerReport("b", "dense", (4, 8), positions=1, cost=32, storage=32, counted=False),)
    report = ConversionReport(tuple(rows), rest=rest)
    assert report.total == Total(192, 512, 48, 128)
    assert report.everything == Total(80, 160, 80, 160, counted=False)
    assert report.share == 0.8
    assert Total.of([]).relative_cost == 0
    assert ConversionReport(()).share == 0
