"""Structured models in transformers: its own saving, loading and training keep them exactly."""

import base64
import importlib
import json
import os
import sys
import zlib
from pathlib import Path

import pytest
import torch
from torch import nn

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may ask the network

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (extra hf)"
)

from transformers import (  # noqa: E402
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
)

from structmat.errors import FileFormatError, InputError, MissingDependencyError  # noqa: E402
from structmat.nn import hf  # noqa: E402
from structmat.nn.anneal.linear import AnnealLinear  # noqa: E402
from structmat.nn.anneal.weight import AnnealWeight  # noqa: E402
from structmat.nn.gaudi.conv import GaudiConv2d  # noqa: E402
from structmat.nn.gaudi.weight import GaudiWeight  # noqa: E402
from structmat.nn.models.config import Config  # noqa: E402
from structmat.nn.models.convert import convert_  # noqa: E402
from structmat.nn.models.freeze import freeze_, to_dense_  # noqa: E402
from structmat.nn.structured.weight import StructuredWeight  # noqa: E402
from structmat.nn.training.parameter_groups import parameter_groups  # noqa: E402

FIXTURES = Path(__file__).parents[1] / "fixtures"
tokens = torch.arange(24).view(2, 12) % 60


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "model")


def gpt2(**options):
    return GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=64, n_positions=16, **options)
    )


def bert():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return BertForMaskedLM(BertConfig(vocab_size=64, num_attention_heads=2, **sizes))


def inner(name, module):
    """All linear layers but those at the ends."""
    return isinstance(module, nn.Linear | transformers.pytorch_utils.Conv1D) and (
        name not in ("lm_head", "cls.predictions.decoder")
    )


GAUDI = {"learn": "gaudi", "options": {"sigma": 7.0}}
ANNEAL = {"learn": True, "options": {}}


def learned(make=gpt2, **options):
    """A converted model, enabled, in evaluation; biases and σ unlike those of a new one."""
    model = make()
    convert_(model, Config(budget=0.4, **(GAUDI | options)), inner)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    hf.enable(model)
    return model.eval()


def frozen(make=gpt2, **options):
    model = learned(make, **options)
    freeze_(model)
    return model


def saved(model, folder):
    model.save_pretrained(folder)
    return folder


def assert_same(got, expected):
    assert not got.training
    assert {n: type(m) for n, m in got.named_modules()} == {
        n: type(m) for n, m in expected.named_modules()
    }
    assert got.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(got.state_dict()[name], value), name
    fixed = [{n for n, p in m.named_parameters() if not p.requires_grad} for m in (got, expected)]
    assert fixed[0] == fixed[1]
    with torch.no_grad():
        for some in (tokens, tokens[:1, :1]):
            assert torch.equal(got(some).logits, expected(some).logits)


@pytest.mark.parametrize("build", [learned, frozen])
@pytest.mark.parametrize(
    ("make", "auto"), [(gpt2, AutoModelForCausalLM), (bert, AutoModelForMaskedLM)]
)
def test_models_come_back_exactly(make, auto, build, folder):
    model = build(make)
    kinds = {GaudiWeight: "learned", StructuredWeight: "frozen"}
    assert {kinds[type(m)] for m in model.modules() if type(m) in kinds} == {build.__name__}
    loaded, info = auto.from_pretrained(saved(model, folder), output_loading_info=True)
    assert_same(loaded, model)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(p.data_ptr() % 64 == 0 for p in loaded.parameters())
    again = auto.from_pretrained(saved(loaded, folder + "2"))
    assert_same(again, model)


@pytest.mark.parametrize("kind", ["low_rank", "block_sparse", "block_low_rank", "monarch", "gblr"])
def test_every_kind_comes_back(kind, folder):
    model = gpt2().eval()
    convert_(model, Config(budget=0.4, kind=kind), inner)
    hf.enable(model)
    assert_same(AutoModelForCausalLM.from_pretrained(saved(model, folder)), model)


def test_settings_and_positions_come_back(folder):
    model = gpt2()
    convert_(model, Config(budget=0.4, **GAUDI), inner, example=tokens)
    hf.enable(model)
    loaded = AutoModelForCausalLM.from_pretrained(saved(model, folder))
    layers = [m for m in loaded.modules() if isinstance(m, GaudiWeight)]
    assert {layer.positions for layer in layers} == {12}
    assert {layer.sigma for layer in layers} == {7.0}


def test_fixed_parameters_stay_fixed(folder):
    model = frozen()
    model.transformer.h[1].mlp.c_proj.matrix.requires_grad_(False)
    loaded = AutoModelForCausalLM.from_pretrained(saved(model, folder))
    assert_same(loaded, model)
    assert not loaded.transformer.h[1].mlp.c_proj.matrix.contents.u.requires_grad


@pytest.mark.parametrize("build", [learned, frozen])
def test_the_base_of_a_model_and_a_model_around_its_base(build, folder):
    model = build()
    base = AutoModel.from_pretrained(saved(model, folder))
    expected = model.transformer(tokens).last_hidden_state
    assert torch.equal(base(tokens).last_hidden_state, expected)
    whole = AutoModelForCausalLM.from_pretrained(saved(base, folder + "2"))
    assert torch.equal(whole.transformer(tokens).last_hidden_state, expected)
    classes = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    assert torch.equal(classes.transformer(tokens).last_hidden_state, expected)


def test_a_structured_head_is_left_out_of_the_base(folder):
    model = gpt2(tie_word_embeddings=False).eval()
    convert_(model, Config(budget=0.4))
    assert isinstance(model.lm_head, AnnealLinear)
    hf.enable(model)
    assert_same(AutoModelForCausalLM.from_pretrained(saved(model, folder)), model)
    base = AutoModel.from_pretrained(folder)
    expected = model.transformer(tokens).last_hidden_state
    assert torch.equal(base(tokens).last_hidden_state, expected)


@pytest.mark.parametrize("build", [learned, frozen])
def test_another_dtype_when_loading(build, folder):
    model = build()
    loaded = AutoModelForCausalLM.from_pretrained(saved(model, folder), dtype=torch.bfloat16)
    dtypes = {n.split(".")[-1]: p.dtype for n, p in loaded.named_parameters()}
    widths = {name: dtypes.pop(name) for name in ("row_width", "col_width") if name in dtypes}
    [dtypes.pop(name) for name in ("row_location", "col_location") if name in dtypes]
    assert set(dtypes.values()) == {torch.bfloat16}
    assert set(widths.values()) <= {torch.float32}
    expected = model(tokens).logits
    assert (loaded(tokens).logits - expected).norm() < 0.05 * expected.norm()


def test_a_half_precision_model_comes_back(folder):
    model = learned().bfloat16()
    loaded = AutoModelForCausalLM.from_pretrained(saved(model, folder))
    assert_same(loaded, model)
    assert loaded.float().dtype == torch.float32  # transformers forbids it if quantized


def test_structure_is_written_as_it_is_when_saving(folder):
    model = learned()
    saved(model, folder)
    with torch.no_grad():
        for weight in (m for m in model.modules() if isinstance(m, GaudiWeight)):
            weight.structure.row_width *= 0.5
    freeze_(model)
    assert_same(AutoModelForCausalLM.from_pretrained(saved(model, folder)), model)
    to_dense_(model)
    assert "quantization_config" not in config_in(saved(model, folder + "2"))


def config_in(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        return json.load(file)


def test_shared_masks_stay_shared(folder):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    config = ViTConfig(image_size=8, patch_size=4, num_attention_heads=2, **sizes)
    model = ViTForImageClassification(config).eval()
    convert_(
        model,
        Config(budget=0.9, learn="gaudi", conv="taps", shared_masks=True, min_features=3),
        lambda name, module: isinstance(module, nn.Conv2d),
    )
    hf.enable(model)
    loaded = transformers.AutoModelForImageClassification.from_pretrained(saved(model, folder))
    [conv] = [m for m in loaded.modules() if isinstance(m, GaudiConv2d)]
    assert all(tap.structure is conv.taps[0].structure for tap in conv.taps)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded(images).logits, model(images).logits)


def test_sharded_files(folder):
    model = frozen()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len([name for name in os.listdir(folder) if name.endswith(".safetensors")]) > 2
    assert_same(AutoModelForCausalLM.from_pretrained(folder), model)


@pytest.mark.parametrize("build", [learned, frozen])
def test_files_of_torch(build, folder):
    model = build()
    saved(model, folder)
    state = {n: t for n, t in model.state_dict().items() if not n.endswith("_extra_state")}
    os.remove(os.path.join(folder, "model.safetensors"))
    torch.save(state, os.path.join(folder, "pytorch_model.bin"))
    assert_same(AutoModelForCausalLM.from_pretrained(folder), model)


def test_another_architecture_is_refused(folder):
    saved(learned(), folder)
    config = config_in(folder)
    config["n_embd"] = 64
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    with pytest.raises(InputError, match=r"c_attn' is a Conv1D of .*64.* a GaudiLinear of .*32"):
        AutoModelForCausalLM.from_pretrained(folder)
    other = bert().config
    other.quantization_config = config["quantization_config"]
    with pytest.raises(InputError, match=r"BertForMaskedLM has none of the layers transformer\.h"):
        BertForMaskedLM.from_pretrained(folder, config=other)


def inflated(structure):
    return json.loads(zlib.decompress(base64.b64decode(structure)))


def written(text):
    return base64.b64encode(zlib.compress(text.encode())).decode()


def test_newer_and_damaged_configs_are_refused():
    with pytest.raises(FileFormatError, match=r"version 3; .* up to 2"):
        hf.StructureConfig(format_version=3)
    for words in ({"format_version": "2"}, {"format_version": True}, {"structure": None}):
        with pytest.raises(FileFormatError, match="damaged structmat structure"):
            hf.StructureConfig(**words)
    for text in ("nonsense", "", written("[]"), written("[" * 5000)):
        with pytest.raises(FileFormatError, match="damaged structmat structure"):
            hf.StructureConfig(text).build()


def test_a_structure_with_one_other_number_is_refused():
    structure = hf.StructureConfig.of(frozen()).structure
    known = inflated(structure)
    name = next(n for n in known["index"] if n.endswith("col_start"))
    known["index"][name][2][0] ^= 1
    with pytest.raises(FileFormatError, match="another digest"):
        hf.StructureConfig(written(json.dumps(known))).build()
    del known["digest"]
    older = {key: value for key, value in known.items() if key != "format_version"}
    for text, version, reason in (
        (written(json.dumps(known)), 2, "another digest"),
        (written(json.dumps(older)), 2, "versions 1 and 2"),
        (structure, 1, "versions 2 and 1"),
    ):
        with pytest.raises(FileFormatError, match=reason):
            hf.StructureConfig(text, version).build()
    with pytest.raises(FileFormatError, match="goes on after its end"):
        hf.StructureConfig(base64.b64encode(base64.b64decode(structure) + b"1").decode()).build()


def test_structures_of_every_version_are_read():
    older, newer = (
        hf.StructureConfig(**json.loads((FIXTURES / name / "pretrained.json").read_text()))
        for name in ("version_0_1_0", "format_2")
    )
    assert (older.format_version, newer.format_version) == (1, 2)
    assert older.content() == newer.content()
    built, again = older.build(weights=0), newer.build(weights=0)
    assert list(built) == list(again) == ["0", "1", "2", "3"]
    assert all(str(built[path]) == str(again[path]) for path in built)
    known = inflated(older.structure)
    known["index"].popitem()
    with pytest.raises(FileFormatError, match="damaged structmat structure"):
        hf.StructureConfig(written(json.dumps(known)), 1).build()


@pytest.mark.parametrize("claim", ["shape", "negative", "dtype", "no dtype", "objects", "inflated"])
def test_claims_that_the_weights_do_not_bear_are_refused(claim, folder):
    saved(frozen(), folder)
    config = config_in(folder)
    known = inflated(config["quantization_config"]["structure"])
    del known["digest"], known["format_version"]
    tensors, index = (next(iter(known[name].values())) for name in ("tensors", "index"))
    if claim == "shape":
        tensors[1] = [2**20, 2**11]
    elif claim == "negative":
        tensors[1] = [-1, -1]
    elif claim == "dtype":
        index[0] = "<U100000000"
    elif claim == "no dtype":
        tensors[0] = "nn"
    elif claim == "objects":
        index[0] = "O"
    blanks = " " * 2**25 * (claim == "inflated")
    config["quantization_config"]["structure"] = written(json.dumps(known) + blanks)
    config["quantization_config"]["format_version"] = 1
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    reasons = {"shape": "claim 2147", "negative": "a tensor of shape", "dtype": "index array of <U",
               "objects": "index array of object", "inflated": "without bound"}  # fmt: skip
    with pytest.raises(FileFormatError, match=reasons.get(claim, "damaged structmat structure")):
        AutoModelForCausalLM.from_pretrained(folder)


def test_damaged_weights_name_their_file(folder):
    saved(frozen(), folder)
    file = os.path.join(folder, "model.safetensors")
    with open(file, "r+b") as opened:
        opened.truncate(100)
    with pytest.raises(FileFormatError, match=r"model\.safetensors' cannot be read .* expected"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_enable_refuses_what_is_no_model_of_transformers():
    with pytest.raises(InputError, match=r"expected a transformers\.PreTrainedModel"):
        hf.enable(nn.Linear(2, 2))
    model = gpt2()
    model.hf_quantizer = object()
    with pytest.raises(InputError, match="quantized by object"):
        hf.enable(model)


def test_the_module_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "structmat.nn.hf")
    with pytest.raises(MissingDependencyError, match=r"pip install 'structmat\[hf\]'"):
        importlib.import_module("structmat.nn.hf")


class Sentences(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, i):
        ids = (torch.arange(12) * (i + 1)) % 60
        return {"input_ids": ids, "labels": ids}


class Listener(transformers.TrainerCallback):
    """Notes what callbacks are given to log."""

    def __init__(self):
        self.heard = []

    def on_log(self, args, state, control, logs=None, **_):
        self.heard.append(dict(logs))


def trainer(model, folder, *callbacks, **options):
    pytest.importorskip("accelerate", reason="accelerate is not installed (extra hf)")
    arguments = transformers.TrainingArguments(
        folder,
        per_device_train_batch_size=8,
        num_train_epochs=2,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        **{"use_cpu": True, **options},
    )
    groups = parameter_groups(model, lr=1e-2, structure_lr=1e-2)
    return transformers.Trainer(
        model,
        arguments,
        train_dataset=Sentences(),
        callbacks=list(callbacks),
        optimizers=(torch.optim.AdamW(groups), None),
    )


def relative_cost(model):
    weights = [m for m in model.modules() if isinstance(m, GaudiWeight | AnnealWeight)]
    return sum(w.cost for w in weights) / sum(w.shape[0] * w.shape[1] for w in weights)


WAYS = {
    "anneal": {"anneal": {"every": 0.25}},
    "gaudi": {"structure": "gaudi", "projection": {"ramp": 0.5}, "sigma": {"stop": 50.0}},
}


LEARN = {"anneal": ANNEAL, "gaudi": GAUDI}


@pytest.mark.parametrize("way", WAYS)
def test_the_trainer_meets_the_budget_and_saves(folder, way):
    model = learned(**LEARN[way])
    callback = hf.StructureCallback(0.2, **WAYS[way])
    listener, options = Listener(), {"save_strategy": "steps", "save_steps": 4}
    training = trainer(model, folder, callback, listener, **options)
    training.train()
    assert 0.15 < relative_cost(model) <= 0.2
    history = [entry for entry in training.state.log_history if "structure_cost" in entry]
    assert len(history) >= 8
    assert history[0]["structure_cost"] > 0.2 >= history[-1]["structure_cost"]
    if way == "gaudi":
        assert history[0]["structure_sigma"] < history[-1]["structure_sigma"] == 50.0
    else:
        assert not any("structure_sigma" in entry for entry in history)
    heard = [entry["structure_cost"] for entry in listener.heard]
    assert heard == [entry["structure_cost"] for entry in history]
    loaded = AutoModelForCausalLM.from_pretrained(os.path.join(folder, "checkpoint-8"))
    assert_same(loaded, model.eval())
    assert all(p.requires_grad for p in loaded.parameters())
    trainer(loaded, folder, hf.StructureCallback(0.15, **WAYS[way])).train()  # it may be trained on
    assert relative_cost(loaded) <= 0.15
    rule = "anneal" if way == "anneal" else "schedule"
    assert callback.state()["attributes"]["rules"][rule]["step"] == 8
    hooks = training.optimizer.optimizer._optimizer_step_post_hooks
    assert not hooks, "a rule was left on the optimizer"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by_argument", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(by_argument, folder, way):
    options = {"save_strategy": "steps", "save_steps": 3}
    options["restore_callback_states_from_checkpoint"] = by_argument
    expected = learned(**LEARN[way])
    start = {name: value.clone() for name, value in expected.state_dict().items()}
    trainer(expected, folder, hf.StructureCallback(0.2, **WAYS[way]), **options).train()
    model = learned(**LEARN[way])
    model.load_state_dict(start)
    resumed = trainer(model, folder, hf.StructureCallback(0.2, **WAYS[way]), **options)
    resumed.train(resume_from_checkpoint=os.path.join(folder, "checkpoint-3"))
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    sigmas = [
        {m.sigma for m in x.modules() if isinstance(m, GaudiWeight)} for x in (model, expected)
    ]
    assert sigmas[0] == sigmas[1]


OFFLOADED = {"transformer.h.1": "disk"} | dict.fromkeys(
    ("transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.ln_f", "lm_head"), "cpu"
)


@pytest.mark.parametrize("kind", ["gblr", "block_low_rank"])
def test_maps_of_devices(kind, folder, tmp_path):
    """Parts of a model may lie on a disk until they are called."""
    pytest.importorskip("accelerate", reason="accelerate is not installed (extra hf)")
    model = frozen() if kind == "gblr" else learned(kind=kind, learn=False, options={})
    saved(model, folder)
    for where in ("auto", {"": "cpu"}):
        loaded = AutoModelForCausalLM.from_pretrained(folder, device_map=where)
        assert_same(loaded, model)
    options = {"device_map": OFFLOADED, "offload_folder": str(tmp_path / "offloaded")}
    loaded = AutoModelForCausalLM.from_pretrained(folder, **options)
    assert any(p.is_meta for p in loaded.parameters())
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits)


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
def test_the_trainer_takes_a_gpu(folder, way):
    model = learned(**LEARN[way])
    trainer(model, folder, hf.StructureCallback(0.2, **WAYS[way]), use_cpu=False).train()
    assert next(model.parameters()).is_cuda
    assert relative_cost(model) <= 0.2
    hf.enable(model)
    saved(model.eval(), folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, device_map="cuda")
    with torch.no_grad():
        logits = loaded(tokens.cuda()).logits
        torch.testing.assert_close(logits, model(tokens.cuda()).logits, rtol=1e-3, atol=1e-3)


def test_attention_of_torch_inside_a_model_is_saved(tmp_path):
    config = transformers.SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        image_size=16, patch_size=8,
    )  # fmt: skip
    model = transformers.SiglipVisionModel(config).eval()
    images = torch.randn(2, 3, 16, 16)
    config = Config(budget=0.5, learn="gaudi")
    convert_(model, config, lambda name, _: name.endswith(("q_proj", "fc1")))
    hf.enable(model)
    for change in (freeze_, to_dense_):
        expected = model(pixel_values=images).pooler_output
        model.save_pretrained(tmp_path)
        loaded = transformers.SiglipVisionModel.from_pretrained(tmp_path).eval()
        got = loaded(pixel_values=images).pooler_output
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
        assert type(loaded.head.attention).__name__ == "SplitAttention"
        change(model)
