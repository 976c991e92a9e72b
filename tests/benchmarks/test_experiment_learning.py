"""Judges of a learner: its ceiling, its structure alone, its turnover, its data."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import structmat
from benchmarks.experiments import cases, config, runner, tasks
from benchmarks.experiments.narrow import narrow
from benchmarks.experiments.passages import LETTER_COUNT, authors
from benchmarks.experiments.supports import dense_weights, redraw_, turnover
from benchmarks.models.pruned import PrunedLinear, Pruning, convert_to_pruned_
from benchmarks.results import BenchmarkError
from structmat.errors import BudgetError
from structmat.learn.data import Images
from structmat.learn.tasks import is_inner
from structmat.nn import StructuredLinear, StructuredWeight

DIGITS = {
    "title": "digits",
    "note": "",
    "metric": "accuracy",
    "data": "digits",
    "model": "mlp",
    "size": {"width": 32},
    "examples": 512,
    "held_out": 200,
    "budgets": [0.2],
    "seeds": [0],
    "kinds": ["gblr"],
    "settings": {"epochs": 2, "batch": 128, "lr": 2e-3},
    "cases": [
        {"name": "its structure alone", "kind": "gblr", "rule": "none", "structure": "GBLR"},
        {"name": "unstructured", "kind": "entries"},
        {"name": "unstructured, frozen", "kind": "entries", "rule": "none"},
    ],
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learning")
    places = runner.Places(data=None, results=folder / "results", states=folder / "states")
    found = config.parse("test", {**DIGITS, "seeds": [3]})
    path = runner.run(found, places, lambda text, done, total: None)
    return {row["case"]: row for row in json.loads(path.read_text())["rows"]}, folder


def trained(budget, steps, size=(24, 32)):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(*size[::-1]))
    convert_to_pruned_(model, lambda name, _: name == "0")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rule = Pruning(model, optimizer, budget, steps)
    costs = []
    for _ in range(steps):
        loss = (model(torch.randn(16, size[1])) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        costs.append(model[0].cost)
    return model[0], rule, costs


def test_pruning_meets_the_budget_from_the_end_of_its_ramp_on():
    layer, _, costs = trained(0.1, 100)
    size = layer.weight.numel()
    assert costs[9] == size  # a tenth of the steps is dense
    assert costs[58] > int(0.1 * size)
    assert all(cost == int(0.1 * size) for cost in costs[59:])
    assert costs == sorted(costs, reverse=True)
    assert int((layer.weight != 0).sum()) <= layer.cost  # moments of dropped entries push in vain


def test_pruning_drops_the_smallest_entries_and_goes_on_from_its_state():
    layer = PrunedLinear(nn.Linear(3, 2))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -5.0, 2.0], [0.5, 4.0, -3.0]]))
    assert layer.largest(3).tolist() == [[False, True, False], [False, True, True]]
    _, rule, _ = trained(0.1, 20)
    other = trained(0.1, 4)[1]
    other.load_state_dict(rule.state_dict())
    assert other.step == rule.step == 20


def test_pruning_refuses_a_model_without_its_layers():
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(BenchmarkError, match="convert it first"):
        Pruning(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.5, 10)


def test_frozen_entries_are_random_and_as_large_as_the_output_needs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(400, 100), nn.Linear(100, 10))
    dense = model[0].weight.detach().clone()
    new = convert_to_pruned_(model, is_inner, frozen_at=0.05)
    assert set(new) == {"0"}
    assert new["0"].cost == 2000
    weight = new["0"].gain * model[0].weight.detach()
    assert float(new["0"].gain) == 8  # the largest
    assert float(weight.norm() / dense.norm()) == pytest.approx(1, abs=0.05)


def test_turnover_counts_what_the_start_would_not_have_kept():
    before = {"a": torch.tensor([[3.0, 2.0], [1.0, 0.5]])}
    assert turnover(before, {"a": torch.tensor([[1.0, 1.0], [0.0, 0.0]])}) == 0
    assert turnover(before, {"a": torch.tensor([[1.0, 0.0], [0.0, 1.0]])}) == 0.5
    ends = {"a": torch.tensor([[1.0, 0.0], [1.0, 0.0]])}
    assert turnover({"a": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}, ends) == 0.5
    assert turnover(before, {"b": before["a"]}) is None


@pytest.mark.parametrize("held", [False, True])
def test_fresh_contents_keep_the_structure_and_have_the_size_of_a_linear_layer(held):
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((30, 2)), rng.standard_normal((20, 2))
    matrix = structmat.LowRank(U, V)
    if held:
        matrix = structmat.BlockSparse(
            rng.standard_normal((2, 10, 10)), [0, 2], [0, 1], shape=(30, 20)
        )
    layer = StructuredLinear(StructuredWeight(matrix.to("torch").astype("float32")))
    model = nn.Sequential(layer)
    before = dense_weights(model, ["0"])["0"]
    redraw_(model, torch.Generator().manual_seed(1))
    after = dense_weights(model, ["0"])["0"]
    assert torch.equal(before != 0, after != 0)
    assert not torch.allclose(before, after)
    assert float(after.norm()) == pytest.approx(10**0.5, rel=1e-3)


def test_rows_hold_what_a_learner_is_judged_by(rows):
    found, _ = rows
    assert set(found) == {"GBLR", *(case["name"] for case in DIGITS["cases"])}
    for row in found.values():
        assert row["relative_cost"] <= 0.2
        assert 0 <= row["valid_score"] <= 1
        assert row["train_score"] > 0.1
    assert found["its structure alone"]["turnover"] == 0
    assert found["unstructured, frozen"]["turnover"] == 0
    assert found["unstructured"]["turnover"] > 0
    assert found["unstructured, frozen"]["training_cost"] == pytest.approx(0.2, abs=1e-3)
    assert found["unstructured"]["training_cost"] > 0.3  # it begins wide


def test_the_structure_alone_is_that_of_the_learned_network(rows):
    found, folder = rows
    name = {"relative_cost", "relative_storage", "layers"}
    one, other = found["GBLR"], found["its structure alone"]
    assert {k: one[k] for k in name} == {k: other[k] for k in name}
    cases = [case for case in DIGITS["cases"] if "structure" in case]
    lost = config.parse("lost", {**DIGITS, "kinds": [], "cases": cases})
    places = runner.Places(data=None, results=folder / "results", states=folder / "states")
    with pytest.raises(BenchmarkError, match="run it first"):
        runner.run(lost, places, lambda text, done, total: None)


def test_rows_of_older_files_stand_beside_the_new_settings():
    case = config.Case(name="a", kind="gblr")
    assert "structure" not in runner._essence(case)
    assert runner._essence(replace(case, structure="GBLR"))["structure"] == "GBLR"


def test_grey_images_are_the_brightness_of_the_middle():
    x = np.zeros((2, 3, 6, 6), np.uint8)
    x[:, 1, 1:5, 1:5] = 100  # green, in the middle
    one = np.ones(3, np.float32)
    data = Images("c", x, np.zeros(2, int), x, np.zeros(2, int), ("a", "b"), one, one, "")
    found = tasks.grey(data, 4)
    assert found.train_x.shape == (2, 1, 4, 4)
    assert (found.train_x == 59).all()
    assert (found.standardise(found.test_x) == 0).all()
    with pytest.raises(BenchmarkError, match="leave grey out"):
        tasks.grey(found, 4)
    with pytest.raises(BenchmarkError, match="leave grey out"):
        tasks.grey(data, 7)


@pytest.fixture
def library(tmp_path):
    books = []
    for author, words in (("Ann", b"abab "), ("Bob", b"zyxw ")):
        text = words * 2000
        books.append(b"# Title: T\n\n## Author: " + author.encode() + b"\n\n" + text)
    for part in ("train", "valid", "test"):
        (tmp_path / f"classics_{part}.txt").write_bytes(b"\f".join(books))
    return tmp_path


def test_passages_are_rows_of_letter_pairs(library):
    data = authors(library)
    assert data.classes == ("Ann", "Bob")
    assert data.train_x.shape == (16, (LETTER_COUNT + 1) ** 2, 1, 1)
    assert len(data.test_y) == 4  # the last fifth of each book
    ann = data.train_x[data.train_y == 0][:, :, 0, 0]
    size = LETTER_COUNT + 1
    a, b = 1, 2
    assert (ann[:, size * a + b] == 255).all()  # "ab" 400 times, the most that fits
    assert (ann[:, size * b + a] == round(16 * 200**0.5)).all()  # "ba" 200 times
    assert (ann[:, size * 26] == 0).all()
    assert set(data.train_y[:8].tolist()) == {0, 1}  # in a random order


def test_books_without_authors_are_refused(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"classics_{part}.txt").write_bytes(b"no author \f at all " * 100)
    with pytest.raises(BenchmarkError, match="name 0 authors"):
        authors(tmp_path)


@pytest.mark.parametrize("budget", [0.05, 0.2, 1.0])
def test_a_narrower_network_is_the_widest_that_fits(budget):
    found = config.parse("test", {**DIGITS, "size": {"width": 96}})
    task = tasks.read_tasks(found, None).task
    dense, example = task.model(), task.example()
    layers = cases.dense_layers(dense, example)
    model = narrow(found.raw, dense, layers, example, budget)
    width = model.head.in_features
    assert model(example).shape == (1, 10)
    total = cases.totals(cases.layer_costs(model, layers))["relative_cost"]
    assert total <= budget
    assert (64 + width + 1) * (width + 1) > budget * 96 * (64 + 96) or width == 96


def test_a_narrower_network_needs_a_width_and_a_unit():
    found = config.parse("test", {**DIGITS, "size": "small"})
    task = tasks.read_tasks(found, None).task
    dense, example = task.model(), task.example()
    layers = cases.dense_layers(dense, example)
    with pytest.raises(BenchmarkError, match="write them out"):
        narrow(found.raw, dense, layers, example, 0.1)
    with pytest.raises(BudgetError, match="width 1"):
        narrow({**found.raw, "size": {"width": 256}}, dense, layers, example, 1e-4)
