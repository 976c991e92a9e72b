"""Models of transformers that learn their structure are saved and loaded in every stage."""

import itertools
import os

import pytest
import torch
from annealed import BUDGET, KINDS, STAGES, advance_, weights_of

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may ask the network

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (extra hf)"
)

from structmat.errors import InputError  # noqa: E402
from structmat.nn import Config, convert_, hf  # noqa: E402

tokens = torch.arange(24).view(2, 12) % 60


def converted(config):
    torch.manual_seed(0)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 32, "vocab_size": 64, "n_positions": 16}
    ends = {"bos_token_id": None, "eos_token_id": None}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends)).eval()
    convert_(model, config, lambda _, module: type(module).__name__ == "Conv1D")
    hf.enable(model)
    return model


def learned(kind, stage):
    config = Config(budget=BUDGET, kind=kind.split()[-1], learn=True)
    return advance_(converted(config), kind, stage)


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        pytest.param(*cell, marks=() if cell[0] == "ordered gblr" else pytest.mark.slow)
        for cell in itertools.product(KINDS, STAGES)
    ],
)
def test_models_come_back_exactly(kind, stage, tmp_path):
    model = learned(kind, stage)
    model.save_pretrained(tmp_path)
    load = transformers.AutoModelForCausalLM.from_pretrained
    loaded, info = load(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    for one, two in zip(weights_of(model), weights_of(loaded), strict=True):
        assert one.is_factored == two.is_factored
        assert one.cost == two.cost
        assert torch.equal(one.get_extra_state(), two.get_extra_state())
    assert os.path.getsize(tmp_path / "config.json") < 3000  # structures are not in there


def test_files_without_structure_are_refused(tmp_path):
    model = learned("gblr", "factored")
    model.save_pretrained(tmp_path)
    state = {n: t for n, t in model.state_dict().items() if not n.endswith("_extra_state")}
    os.remove(tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"lack the states .*save the model again"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("sides", [{"group": 8}, {"kind": "block_sparse", "tile": 8}])
def test_sides_come_back(sides, tmp_path):
    model = converted(Config(budget=BUDGET, learn=True, **sides))
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    for one, two in zip(weights_of(model), weights_of(loaded), strict=True):
        assert (one.tile, one.group, one.cap) == (two.tile, two.group, two.cap)
        assert sides.get("tile") == two.tile
        assert sides.get("group") == two.group
