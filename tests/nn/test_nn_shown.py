"""Layers, weights and reports of models in notebooks."""

import copy
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from nn_kinds import converted
from torch import nn

from structmat.nn import Config, GaudiLinear, LayerReport, PackedLinear, convert_, cost, freeze_
from structmat.nn.models.layer_types import structured_layers
from structmat.nn.models.report import ConversionReport, SkippedLayer
from structmat.nn.models.times import LayerTime, ModelTimes


def facts_of(html):
    rows = ElementTree.fromstring(html).iter("tr")
    return {row.find("th").text: row.find("td").text for row in rows}


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("low_rank", "linear"),
        ("monarch", "linear"),
        ("ordered gblr", "linear"),
        ("gblr", "linear"),
        ("block_sparse", "convolution"),
        ("gblr", "taps"),
    ],
)
def test_layers_of_every_kind_show_facts_and_blocks(kind, layer):
    (shown, weights), *_ = structured_layers(converted(kind, layer)).items()
    facts = facts_of(shown._repr_html_())
    (row,) = cost(shown).rows
    assert facts["shape"] == " x ".join(map(str, row.shape))
    assert facts["kind"].split(" ")[0] == row.kind
    assert facts["cost"] == f"{row.cost:,} ({row.relative_cost:.2%} of dense)"
    assert facts["storage"].startswith(f"{row.storage:,} (")
    assert shown._repr_html_().count("<svg") == len(weights)
    own = facts_of(weights[0]._repr_html_())
    assert own["cost"].startswith(f"{weights[0].cost:,} (")


def test_learning_ends_with_freezing():
    model = nn.Sequential(GaudiLinear(16, 8))
    assert facts_of(model[0]._repr_html_())["learns"] == "structure and contents"
    freeze_(model)
    assert facts_of(model[0]._repr_html_())["learns"] == "contents"


def test_packed_layers_show_the_blocks_of_their_first_parts():
    parts = [GaudiLinear(16, 8).matrix for _ in range(12)]
    html = PackedLinear(parts)._repr_html_()
    assert facts_of(html)["kind"] == "gblr (12 weights)"
    assert html.count("<svg") == 9


def test_layers_without_values_show_what_is_known():
    layer = copy.deepcopy(GaudiLinear(16, 8)).to("meta")
    facts = facts_of(layer._repr_html_())
    assert list(facts) == ["shape", "kind", "dtype", "device"]
    assert facts["device"] == "meta"


def test_showing_changes_nothing():
    model = converted("low_rank")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for layer in structured_layers(model):
        layer._repr_html_()
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_reports_of_models_are_tables_with_their_notes():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    report = convert_(model, Config(budget=0.25, kind="low_rank"), lambda name, _: name == "0")
    for told in (report, cost(model, torch.zeros(4, 64))):
        html = told._repr_html_()
        row = told.rows[0]
        assert row.cost == row.storage
        assert html.count(f"{row.cost:,} ({row.relative_cost:.2%})<") == 2
        lines = [note.find("small").text for note in ElementTree.fromstring(html).findall("div")]
        assert lines == str(told).splitlines()[1 + len(told.rows) :]


def test_names_of_layers_are_text():
    name = "<script>alert(1)</script>"
    row = LayerReport(name, "low_rank", (8, 16), positions=1, cost=48, storage=48)
    report = ConversionReport((row,), (SkippedLayer("<b>", "<i>"),))
    times = ModelTimes((LayerTime(name, "gblr", 256, 2e-6, 8e-6),), "cpu", 256)
    for told in (report, times):
        assert not any(tag in told._repr_html_() for tag in ("<script", "<b>", "<i>"))
