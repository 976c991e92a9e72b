"""Models of transformers keep their structure without a step of their own."""

import copy
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may ask the network

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (extra hf)"
)

from transformers import AutoModel, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel  # noqa: E402
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING  # noqa: E402

from structmat.cli import main  # noqa: E402
from structmat.errors import FileFormatError  # noqa: E402
from structmat.nn import (  # noqa: E402
    Config,
    StructuredLinear,
    convert_,
    freeze_,
    hf,
    load_model,
    save_model,
    to_dense_,
)
from structmat.nn.pretrained.stored import read_pretrained  # noqa: E402

KINDS = ("low_rank", "block_sparse", "block_low_rank", "monarch", "pixelfly", "gblr", "frozen gblr")
tokens = torch.arange(24).view(2, 12) % 60


def gpt2(seed=0):
    torch.manual_seed(seed)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 32, "vocab_size": 64, "n_positions": 16}
    return GPT2LMHeadModel(GPT2Config(**sizes)).eval()


def inner(name, _):
    return name.rpartition(".")[2] in ("c_attn", "c_proj", "c_fc")


def converted(kind="block_sparse", seed=0, start="weights"):
    model = gpt2(seed)
    convert_(model, Config(budget=0.4, kind=kind.removeprefix("frozen "), start=start), inner)
    if kind.startswith("frozen"):
        freeze_(model)
    return model


def saved(model, folder):
    model.save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(tokens).logits


@pytest.mark.parametrize("kind", KINDS)
def test_converted_models_come_back(kind, tmp_path):
    model = converted(kind)
    loaded = AutoModelForCausalLM.from_pretrained(saved(model, tmp_path))
    assert torch.equal(logits(loaded), logits(model))
    assert any(isinstance(m, (StructuredLinear, hf.StructureConfig)) for m in loaded.modules()) or (
        kind == "gblr"
    )
    # In halves of a file, and once more from the loaded model.
    loaded.save_pretrained(tmp_path / "again", max_shard_size="20KB")
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert torch.equal(logits(again), logits(model))
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("kind", ["monarch", "frozen gblr", "annealed"])
def test_layers_are_read_without_their_model(kind, tmp_path, capsys):
    if kind == "annealed":
        model = gpt2()
        convert_(model, Config(budget=0.4, kind="gblr", start="weights", learn=True), inner)
    else:
        model = converted(kind)
    model.save_pretrained(tmp_path / "model", max_shard_size="20KB")
    assert (tmp_path / "model" / "model.safetensors.index.json").exists()
    stored = read_pretrained(tmp_path / "model")
    assert len(stored.layers) == 4
    for path, layer in stored.layers.items():
        assert torch.equal(layer.weight, model.get_submodule(path).weight)
    state = model.state_dict()
    assert {n: tuple(t.shape) for n, t in state.items() if n in stored.others} == {
        name: shape for name, (shape, _) in stored.others.items()
    }
    assert "transformer.wte.weight" in stored.others
    assert main(["report", str(tmp_path / "model"), "-o", str(tmp_path / "page.html")]) == 0
    assert "4 structured layers" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<svg") == 4
    assert "transformer.h.0.mlp.c_fc" in page


@pytest.mark.parametrize("damage", ["config", "weights", "index"])
def test_damaged_folders_are_refused_without_their_model(damage, tmp_path):
    converted("monarch").save_pretrained(tmp_path, max_shard_size="20KB")
    if damage == "config":
        file = tmp_path / "config.json"
        known = json.loads(file.read_text())
        known["quantization_config"]["structure"] = "AAAA"
        file.write_text(json.dumps(known))
    elif damage == "weights":
        file = sorted(tmp_path.glob("*.safetensors"))[0]
        file.write_bytes(file.read_bytes()[:-10])
    else:
        (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_pretrained(tmp_path)


def test_a_dense_model_has_no_structure(tmp_path):
    model = converted("gblr")
    to_dense_(model)
    saved(model, tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(model))


class Derived(GPT2LMHeadModel):
    """A class in a module that has no Conv1D of its own."""


class Around(transformers.PreTrainedModel):
    """A model around a part of another architecture."""

    config_class, _supports_sdpa = GPT2Config, True

    def __init__(self, config):
        super().__init__(config)
        self.inner = GPT2LMHeadModel(config)
        self.post_init()

    def forward(self, tokens):
        return self.inner(tokens)


@pytest.mark.parametrize("kind", [Derived, Around])
def test_dense_layers_are_read_by_derived_classes(kind, tmp_path):
    torch.manual_seed(0)
    model = kind(gpt2().config).eval()
    convert_(model, Config(budget=0.4, kind="monarch"), inner)
    to_dense_(model)
    again = kind.from_pretrained(saved(model, tmp_path))
    assert torch.equal(logits(again), logits(model))


def test_a_model_from_a_file_is_enabled(tmp_path):
    model = converted()
    save_model(tmp_path / "model.structmat", model)
    read = load_model(tmp_path / "model.structmat", gpt2(1))
    folder = saved(read, tmp_path / "folder")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(model))


def test_models_inside_other_modules(tmp_path):
    around = nn.ModuleDict({"first": gpt2(), "second": gpt2(1)})
    convert_(around, Config(budget=0.4, kind="block_sparse"), lambda name, m: inner(name, m))
    for name, model in around.items():
        folder = saved(model, tmp_path / name)
        assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(model))


def test_parts_of_a_model(tmp_path):
    model = gpt2()
    convert_(model.transformer.h[0], Config(budget=0.4, kind="block_sparse"), inner)
    hf.enable(model)
    loaded = AutoModelForCausalLM.from_pretrained(saved(model, tmp_path))
    assert torch.equal(logits(loaded), logits(model))


def test_a_quantized_model_is_warned_of():
    model = gpt2()
    model.hf_quantizer = object()
    with pytest.warns(UserWarning, match=r"quantized by object, .*save_model"):
        convert_(model, Config(budget=0.4, kind="block_sparse"), inner)


def test_transformers_alone_refuses_the_files(tmp_path, monkeypatch):
    folder = saved(converted(), tmp_path)
    monkeypatch.delitem(AUTO_QUANTIZATION_CONFIG_MAPPING, "structmat")
    for auto in (AutoModelForCausalLM, AutoModel):
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            auto.from_pretrained(folder)


def without_states(folder):
    """The folder as version 0.1.0 wrote it."""
    file = os.path.join(folder, "model.safetensors")
    state = load_file(file)
    older = {n: t for n, t in state.items() if t.dtype != torch.uint8}
    assert len(older) < len(state)
    save_file(older, file, {"format": "pt"})
    return folder


@pytest.mark.parametrize("kind", ["block_sparse", "gblr"])
def test_older_folders_load_quietly(kind, tmp_path):
    model = converted(kind)
    folder = without_states(saved(model, tmp_path))
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert torch.equal(logits(loaded), logits(model))
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert [n for n in loaded.state_dict() if n.endswith("_extra_state")]


def test_weights_beside_another_config(tmp_path):
    a, b = (converted(seed=seed) for seed in (0, 1))
    one, other = (saved(model, tmp_path / str(i)) for i, model in enumerate((a, b)))
    os.replace(one / "model.safetensors", other / "model.safetensors")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(other)), logits(a))


def test_weights_of_torch_beside_another_config(tmp_path):
    a, b = (converted("block_sparse", seed=seed) for seed in (0, 1))
    saved(b, tmp_path)
    os.remove(tmp_path / "model.safetensors")
    torch.save(a.state_dict(), tmp_path / "pytorch_model.bin")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(a))


def test_the_weight_file_is_a_state_dict(tmp_path):
    a, b = (converted(seed=seed) for seed in (0, 1))
    saved(a, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    result = b.load_state_dict(state, strict=False)
    assert result.missing_keys == ["lm_head.weight"], "which is tied"
    assert not result.unexpected_keys
    assert torch.equal(logits(b), logits(a))


class Sentences(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, i):
        ids = (torch.arange(12) * (i + 1)) % 60
        return {"input_ids": ids, "labels": ids}


def trainer(model, folder, *callbacks, **options):
    pytest.importorskip("accelerate", reason="accelerate is not installed (extra hf)")
    options |= {"report_to": [], "use_cpu": True, "disable_tqdm": True, "num_train_epochs": 2}
    arguments = transformers.TrainingArguments(
        folder, per_device_train_batch_size=8, save_strategy="steps", save_steps=2, **options
    )
    return transformers.Trainer(
        model, arguments, train_dataset=Sentences(), callbacks=list(callbacks)
    )


@pytest.mark.parametrize("kind", ["block_sparse", "frozen gblr"])
def test_the_trainer_saves_and_resumes_another_draw(kind, tmp_path):
    model = converted(kind, start="scratch")
    training = trainer(model, tmp_path / "run")
    training.train()
    training.save_model(tmp_path / "saved")
    model.eval()
    for folder in (tmp_path / "saved", tmp_path / "run" / "checkpoint-4"):
        assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(model))
    other = converted(kind, seed=1, start="scratch")
    resumed = trainer(other, tmp_path / "run")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert torch.equal(logits(other.eval()), logits(model))


def test_the_callback_enables_a_model_of_parts(tmp_path):
    model = gpt2()
    convert_(model.transformer.h[0], Config(budget=0.6, kind="gblr"), inner)
    training = trainer(model, tmp_path / "run", hf.StructureCallback(0.5))
    training.train()
    training.save_model(tmp_path / "saved")
    model.eval()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(loaded), logits(model))
    assert torch.equal(logits(copy.deepcopy(model)), logits(model))
