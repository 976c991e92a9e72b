"""`torch.nn.MultiheadAttention` in `convert_`, `to_dense_` and files: values, names, settings."""

import copy
import itertools
import warnings

import pytest
import torch
from torch import nn

from structmat.errors import InputError, ShapeError, StructmatError
from structmat.nn import Config, convert_, cost, freeze_, load_model, save_model, to_dense_
from structmat.nn.structured.attention import SplitAttention

EXACT = Config(kind="block_sparse", start="weights", budget=1.0)
NAMES = ["q_proj", "k_proj", "v_proj", "out_proj"]
#: bias, add_bias_kv, add_zero_attn, batch_first, (kdim, vdim)
SETTINGS = list(itertools.product(*[[True, False]] * 4, [(None, None), (24, 40)]))
FEW = [SETTINGS[0], SETTINGS[5], SETTINGS[14], SETTINGS[19], SETTINGS[26], SETTINGS[31]]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def attention(setting=(True, False, False, True, (None, None)), **options):
    bias, more, zero, batch_first, (kdim, vdim) = setting
    options |= {"bias": bias, "add_bias_kv": more, "add_zero_attn": zero, "kdim": kdim}
    model = nn.ModuleDict(
        {"a": nn.MultiheadAttention(32, 4, vdim=vdim, batch_first=batch_first, **options)}
    )
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    return model


def inputs(setting, batched):
    (_, _, _, batch_first, (kdim, vdim)), n = setting, 3
    for length, features in ((5, 32), (7, kdim or 32), (7, vdim or 32)):
        shape = (n, length) if batch_first else (length, n)
        yield torch.randn(*(shape if batched else (length,)), features)


def masks(batched):
    n = 3 if batched else 1
    pairs, triples = torch.rand(5, 7) > 0.7, torch.rand(n * 4, 5, 7) > 0.7
    keys = torch.rand(n, 7) > 0.6 if batched else torch.rand(7) > 0.6
    for mask in (pairs, triples, keys):
        mask[..., 0] = False
    attn = [None, pairs, torch.randn(5, 7), triples, torch.randn(n * 4, 5, 7)]
    return itertools.product(attn, [None, keys, torch.where(keys, -3.0, 0.0)])


def agree(new, old, setting, batched):
    """The same results for all masks, modes and kinds of weights."""
    a = list(inputs(setting, batched))
    for (attn, keys), (needed, averaged) in itertools.product(
        masks(batched), [(True, True), (True, False), (False, True)]
    ):
        options = {"attn_mask": attn, "key_padding_mask": keys}
        options |= {"need_weights": needed, "average_attn_weights": averaged}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of masks of two types
            expected, got = old.a(*a, **options), new.a(*a, **options)
        torch.testing.assert_close(got[0], expected[0], rtol=1e-4, atol=1e-5)
        assert (got[1] is None) == (expected[1] is None)
        if needed:
            torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-5)


def check_setting(setting, path):
    model = attention(setting)
    old = copy.deepcopy(model)
    report = convert_(model, EXACT)
    assert [row.name for row in report.rows] == [f"a.{name}" for name in NAMES]
    for batched in (True, False):
        agree(model, old, setting, batched)
    a = list(inputs(setting, batched=True))
    expected = model.a(*a)[0]
    save_model(path, model)
    loaded = load_model(path, attention(setting))
    assert torch.equal(loaded.a(*a)[0], expected)
    assert torch.equal(load_model(path, loaded).a(*a)[0], expected)
    freeze_(model)
    to_dense_(model)
    assert type(model.a) is nn.MultiheadAttention
    assert type(model.a.out_proj) is type(old.a.out_proj)
    states = model.state_dict(), old.state_dict()
    assert list(states[0]) == list(states[1])
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-5, atol=1e-6)
    agree(model, old, setting, batched=True)


@pytest.mark.parametrize("setting", FEW, ids=map(str, FEW))
def test_split_attention_is_torch_s(setting, tmp_path):
    check_setting(setting, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=map(str, SETTINGS))
def test_split_attention_is_torch_s_for_all_settings(setting, tmp_path):
    check_setting(setting, tmp_path / "model")


def transformers():
    options = {"dropout": 0.0, "batch_first": True}
    layer = nn.TransformerEncoderLayer(32, 2, 64, **options)
    tokens, memory = torch.randn(3, 6, 32), torch.randn(3, 4, 32)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 2, 64, **options), 2)
    whole = nn.Transformer(32, 2, 1, 1, 64, **options)
    return {
        "encoder": (nn.TransformerEncoder(layer, 2), (tokens,)),
        "decoder": (decoder, (tokens, memory)),
        "whole": (whole, (tokens, memory)),
    }


@pytest.mark.parametrize("name", ["encoder", "decoder", "whole"])
def test_transformers_convert_and_come_back(name):
    model, a = transformers()[name]
    old = copy.deepcopy(model)
    report = convert_(model, EXACT, example=a)
    assert report.skipped == ()
    assert not any(isinstance(m, nn.MultiheadAttention) for m in model.modules())
    for mode, grad in itertools.product((True, False), (True, False)):
        with torch.set_grad_enabled(grad):
            got, expected = model.train(mode)(*a), old.train(mode)(*a)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    to_dense_(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in old.modules()]
    torch.testing.assert_close(model(*a), old(*a), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", [None, "padding", "causal"])
def test_the_fast_path_calls_our_layers(mask):
    model, (x,) = transformers()["encoder"]
    old = copy.deepcopy(model).eval()
    convert_(model, EXACT)
    options = {}
    if mask == "padding":
        options["src_key_padding_mask"] = torch.arange(6) >= torch.tensor([[6], [4], [2]])
    if mask == "causal":
        options["mask"] = nn.Transformer.generate_square_subsequent_mask(6)
    called = []
    weight = model.layers[1].self_attn.k_proj.matrix
    forward = type(weight).forward

    def count(self, *args):
        called.append(self)
        return forward(self, *args)

    patch = pytest.MonkeyPatch()
    patch.setattr(type(weight), "forward", count)
    with torch.no_grad(), patch.context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of nested tensors
        got, expected = model.eval()(x, **options), old(x, **options)
    patch.undo()
    assert weight in called
    keep = ~options.get("src_key_padding_mask", torch.zeros(3, 6, dtype=torch.bool))
    torch.testing.assert_close(got[keep], expected[keep], rtol=1e-4, atol=1e-5)


def test_nested_tensors_are_refused_with_the_remedy():
    model, (x,) = transformers()["encoder"]
    convert_(model, EXACT, lambda name, _: name.startswith("layers.1.self_attn"))
    mask = torch.arange(6) >= torch.tensor([[6], [4], [2]])
    with torch.no_grad(), pytest.raises(InputError, match="use_nested_tensor = False"):
        model.eval()(x, src_key_padding_mask=mask)
    model.use_nested_tensor = False
    with torch.no_grad():
        assert model(x, src_key_padding_mask=mask).shape == x.shape


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (lambda name, m: isinstance(m, nn.MultiheadAttention | SplitAttention), NAMES),
        (lambda name, m: name == "a", NAMES),
        (lambda name, m: isinstance(m, nn.Linear), NAMES),
        (lambda name, m: name.endswith("q_proj"), ["q_proj"]),
        (lambda name, m: "out_proj" not in name, NAMES[:3]),
    ],
)
def test_filters_choose_the_whole_or_projections(chosen, names, tmp_path):
    model = attention()
    x = torch.randn(2, 5, 32)
    expected, size = model.a(x, x, x)[0], 4 * 32 * 32
    report = convert_(model, EXACT, chosen)
    assert [row.name for row in report.rows] == [f"a.{name}" for name in names]
    assert len(report.rows) + len(report.skipped) == 4
    torch.testing.assert_close(model.a(x, x, x)[0], expected, rtol=1e-4, atol=1e-5)
    assert cost(model).everything.dense_storage == size
    # Dense projections have memory of their own.
    assert all(p.untyped_storage().nbytes() == 4 * p.numel() for p in model.parameters())
    save_model(tmp_path / "model", model)
    loaded = load_model(tmp_path / "model", attention())
    assert torch.equal(loaded.a(x, x, x)[0], model.a(x, x, x)[0])
    if names == ["q_proj"]:
        convert_(model, EXACT, lambda name, _: name == "a.out_proj")
    to_dense_(model)
    torch.testing.assert_close(model.a(x, x, x)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learn", [True, "gaudi", False])
def test_attention_is_learned_frozen_and_costed(learn):
    model, x = attention(dropout=0.1), torch.randn(2, 5, 32)
    before = cost(nn.Sequential(model.a)).everything
    report = convert_(model, Config(kind="gblr", budget=0.4, learn=learn))
    assert report.total.relative_cost <= (1 if learn is True else 0.4)
    model.a(x, x, x)[0].sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "matrix" not in n)
    expected = model.eval().a(x, x, x)[0]
    frozen = freeze_(model).total
    if learn is not True:  # without a projection it is dense
        assert frozen == cost(model).structured
    assert cost(model).everything.dense_cost == before.dense_cost == 4 * 32 * 32
    torch.testing.assert_close(model.a(x, x, x)[0], expected, rtol=1e-4, atol=1e-5)
    again = copy.deepcopy(model)
    torch.testing.assert_close(again.a(x, x, x)[0], expected, rtol=1e-4, atol=1e-5)
    to_dense_(model)
    assert model.a.dropout == 0.1
    torch.testing.assert_close(model.a(x, x, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_costs_count_each_projection_on_an_example():
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.MultiheadAttention(32, 4, batch_first=True, kdim=24)

        def forward(self, x, y, z):
            return self.a(x, y, z)[0]

    model, a = Cross(), (torch.randn(2, 5, 32), torch.randn(2, 7, 24), torch.randn(2, 7, 32))
    modules = list(model.modules())
    rows = cost(model, a).rows
    assert [(row.name, row.positions) for row in rows] == [
        ("a.q_proj", 5), ("a.k_proj", 7), ("a.v_proj", 7), ("a.out_proj", 5),
    ]  # fmt: skip
    assert list(model.modules()) == modules
    convert_(model, EXACT, example=a, dry_run=True)
    assert list(model.modules()) == modules
    with pytest.raises(StructmatError):
        convert_(model, Config(kind="low_rank", budget=0.01))
    assert list(model.modules()) == modules
    report = convert_(model, EXACT, example=a)
    assert [row.positions for row in report.rows] == [5, 7, 7, 5]


def test_shared_attentions_and_weights_stay_shared():
    model = nn.ModuleDict({"a": nn.MultiheadAttention(32, 4), "b": nn.MultiheadAttention(32, 4)})
    model["c"] = model["a"]
    model.b.in_proj_weight = model.a.in_proj_weight
    x = torch.randn(5, 2, 32)
    expected = model.b(x, x, x)[0]
    convert_(model, EXACT)
    assert model.c is model.a
    assert model.a.q_proj.matrix is model.b.q_proj.matrix
    torch.testing.assert_close(model.b(x, x, x)[0], expected, rtol=1e-4, atol=1e-5)
    to_dense_(model)
    assert model.c is model.a
    assert model.a.in_proj_weight is model.b.in_proj_weight
    model = nn.ModuleDict({"a": nn.MultiheadAttention(32, 4), "fc": nn.Linear(32, 32)})
    model.other = nn.ParameterList([model.a.in_proj_weight])
    report = convert_(model, EXACT)
    assert "shared with a module that stays" in {s.name: s.reason for s in report.skipped}["a"]


def test_frozen_attention_comes_back_frozen():
    model = attention()
    model.a.in_proj_weight.requires_grad_(False)
    bias = model.a.in_proj_bias
    convert_(model, EXACT)
    assert not any(p.requires_grad for p in model.a.q_proj.parameters())
    assert model.a.in_proj_bias is bias
    to_dense_(model)
    assert not model.a.in_proj_weight.requires_grad
    assert model.a.out_proj.weight.requires_grad
    assert model.a.in_proj_bias is bias
    convert_(model, EXACT)
    model.a.k_proj.requires_grad_(True)
    with pytest.raises(InputError, match=r"'a' has contents that are trained and contents"):
        to_dense_(model)


def test_subclasses_and_changed_attentions_stay_with_the_reason():
    class Own(nn.MultiheadAttention):
        pass

    class Quantized(nn.Parameter):
        pass

    model = nn.ModuleDict(
        {n: nn.MultiheadAttention(32, 4) for n in ("hook", "fine", "other")} | {"own": Own(32, 4)}
    )
    model.other.in_proj_weight = Quantized(model.other.in_proj_weight.detach())
    model.hook.out_proj.register_forward_hook(lambda *_: None)
    skipped = {s.name: s.reason for s in convert_(model, EXACT).skipped}
    assert skipped["own"].startswith(f"{__name__}.test_subclasses")
    assert "a subclass of MultiheadAttention" in skipped["own"]
    assert "hooks are registered on out_proj" in skipped["hook"]
    assert "its in_proj_weight is a " in skipped["other"]
    assert "Quantized" in skipped["other"]
    with pytest.raises(InputError, match="cannot be replaced"):
        convert_(nn.MultiheadAttention(32, 4), EXACT)


def test_wrong_inputs_of_attention_are_refused():
    model = attention()
    convert_(model, EXACT)
    x = torch.zeros(2, 5, 32)
    for wrong in (
        {"attn_mask": torch.zeros(5, 4)},
        {"key_padding_mask": torch.zeros(5, 2, dtype=torch.bool)},
    ):
        with pytest.raises(ShapeError, match="mask has shape"):
            model.a(x, x, x, **wrong)
    with pytest.raises(InputError, match=r"attn_mask has dtype torch.int64"):
        model.a(x, x, x, attn_mask=torch.zeros(5, 5, dtype=torch.int64))
    with pytest.raises(InputError, match="is_causal"):
        model.a(x, x, x, is_causal=True)
    with pytest.raises(ShapeError, match="query, key and value have shapes"):
        model.a(x, x[:, :4], x)


def test_accelerate_s_hooks_stay_on_attention():
    hooks = pytest.importorskip("accelerate.hooks", reason="accelerate is not installed")
    model, x = attention(), torch.randn(2, 5, 32)
    for module in (model.a, model.a.out_proj):
        hooks.add_hook_to_module(module, hooks.AlignDevicesHook("cpu"))
    expected = model.a(x, x, x)[0]
    for change in (lambda: convert_(model, EXACT), lambda: to_dense_(model)):
        change()
        assert all(hasattr(m, "_hf_hook") for m in (model.a, model.a.out_proj))
        torch.testing.assert_close(model.a(x, x, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_calibration_sees_the_inputs_of_each_projection():
    model, (x,) = transformers()["encoder"]
    x = x @ torch.diag(torch.logspace(0, -3, 32))
    config = Config(kind="low_rank", start="weights", budget=0.5)
    plain = convert_(copy.deepcopy(model), config, example=x)
    fitted = convert_(model, config, calibration=x)
    first = [[row.error for row in report.rows][:3] for report in (plain, fitted)]
    assert all(a > 2 * b for a, b in zip(*first, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_attention_in_other_dtypes_and_under_autocast(dtype):
    model, x = attention().to(dtype), torch.randn(2, 5, 32, dtype=dtype)
    expected = model.a(x, x, x)[0]
    convert_(model, Config(kind="block_sparse", start="weights", budget=1.0))
    tolerance = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(model.a(x, x, x)[0], expected, **tolerance)
    model, x = model.float(), x.float()
    for needed in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            got = model.a(x, x, x, need_weights=needed)[0]
        torch.testing.assert_close(got.float(), expected.float(), rtol=0.1, atol=0.1)


def test_exported_attention_is_the_same():
    model, (x,) = transformers()["encoder"]
    convert_(model.eval(), EXACT)
    expected = model(x)
    program = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(program(x), expected, rtol=1e-4, atol=1e-5)


def test_attention_prints_its_sizes_and_has_one_weight_only_for_one_width():
    for widths, stacked in (({}, (48, 16)), ({"kdim": 8, "vdim": 8}, None)):
        model = nn.Sequential(nn.MultiheadAttention(16, 2, **widths))
        convert_(model, Config(kind="low_rank", budget=0.5, min_features=4))
        assert "embed_dim=16, num_heads=2, dropout=0.0" in repr(model[0])
        weight = model[0].in_proj_weight
        assert (None if weight is None else tuple(weight.shape)) == stacked


def test_an_attention_that_is_the_model_itself_is_refused_with_the_remedy():
    with pytest.raises(InputError, match=r"it is the model itself.*\(wrap it in"):
        convert_(nn.MultiheadAttention(16, 2), Config(kind="low_rank", budget=0.5))
