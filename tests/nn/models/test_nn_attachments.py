"""Attachments of a replaced layer: each moves to the new one, or the change is refused.

The table is all attachments times all changes; a change on its own is a function of a model
in which a layer `fc` is replaced.
"""

import copy
import dataclasses
import functools
import types

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from structmat.errors import InputError, StructmatError
from structmat.nn import (
    Config,
    GaudiLinear,
    convert_,
    freeze_,
    load_model,
    save_model,
    to_dense_,
)

X = torch.linspace(-1, 1, 3 * 32).view(3, 32)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Net(nn.Module):
    """A layer to be replaced, and one that is too small."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(32, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.fc(x))


def converted(**config):
    model = Net()
    convert_(model, Config(**{"budget": 0.5} | config))
    return model


def convert(model, path):
    convert_(model, Config(kind="low_rank", budget=0.5), lambda _, m: m is model.fc)
    return model


def freeze(model, path):
    freeze_(model)
    return model


def make_dense(model, path):
    to_dense_(model)
    return model


def load(model, path):
    save_model(path, converted())
    return load_model(path, model)


def load_frozen(model, path):
    saved = converted()
    freeze_(saved)
    save_model(path, saved)
    return load_model(path, model)


def there_and_back(model, path):
    return make_dense(freeze(convert(model, path), path), path)


#: Name, model before the change, change.
CHANGES = {
    "convert_": (Net, convert),
    "freeze_": (converted, freeze),
    "freeze_ of gaudi": (lambda: converted(learn="gaudi"), freeze),
    "to_dense_": (converted, make_dense),
    "to_dense_ of gaudi": (lambda: converted(learn="gaudi"), make_dense),
    "to_dense_ of packed": (lambda: converted(kind="monarch"), make_dense),
    "load_model": (Net, load),
    "load_model over learned": (converted, load_frozen),
    "there and back": (Net, there_and_back),
}


class Hooks:
    """Hooks of one kind on a layer, which add to the counts of their calls."""

    def __init__(self, register, **options):
        self.register, self.options, self.calls = register, options, 0

    def __call__(self, model):
        def call(*args, **keywords):
            self.calls += 1

        getattr(model.fc, self.register)(call, **self.options)

    def works(self, model):
        before = self.calls
        y = model(X.clone().requires_grad_())
        y.sum().backward()
        model.load_state_dict(model.state_dict())
        return self.calls > before


class Set:
    """An attachment and its test, as two functions of the model."""

    def __init__(self, attach, works):
        self.attach, self.works = attach, works

    def __call__(self, model):
        self.attach(model)


def set_attribute(model):
    model.fc.note = {"a": 1}
    model.fc._is_hf_initialized = True


def set_weight_attribute(model):
    for name, parameter in model.fc.named_parameters():
        parameter._no_weight_decay = True
        parameter.label = name == "bias"


def add_state(model):
    model.fc.register_buffer("scale", torch.tensor([2.0]))
    model.fc.register_buffer("passing", torch.tensor([3.0]), persistent=False)
    model.fc.register_parameter("gain", nn.Parameter(torch.ones(1)))
    model.fc.adapter = nn.Linear(32, 32).eval()


def has_state(model):
    names = set(model.fc.state_dict())
    return (
        {"scale", "gain", "adapter.weight"} <= names
        and "passing" not in names
        and model.fc.passing.item() == 3
        and not model.fc.adapter.training
    )


def bias_hook(model):
    model.seen = []
    model.fc.bias.register_hook(lambda grad: model.seen.append(1))


def bias_hook_works(model):
    model(X).sum().backward()
    return model.seen != []


def older_load_hook(model):
    model.first = []
    model.fc._register_load_state_dict_pre_hook(lambda *given: model.first.append(given[0]))


def older_load_hook_works(model):
    model.load_state_dict(model.state_dict())
    return model.first != [] and all(isinstance(state, dict) for state in model.first)


def alias(model):
    model.again = model.fc


def freeze_weight(model):
    kept = ("bias", "row_width", "row_location", "col_width", "col_location")
    for name, parameter in model.fc.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[2] in kept)


def weight_is_fixed(model):
    contents = [p for n, p in model.fc.named_parameters() if n != "bias" and "structure" not in n]
    return model.fc.bias.requires_grad and not any(p.requires_grad for p in contents)


def accelerated(model):
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Doubled(ModelHook):
        def post_forward(self, module, output):
            return 2 * output

    add_hook_to_module(model.fc, Doubled())


def is_accelerated(model):
    from accelerate.hooks import remove_hook_from_module

    doubled = model.fc(X)
    remove_hook_from_module(model.fc)
    return torch.allclose(doubled, 2 * model.fc(X))


#: Attachments that move.
MOVED = {
    "forward hook": Hooks("register_forward_hook"),
    "forward hook with keywords": Hooks("register_forward_hook", with_kwargs=True),
    "forward hook always called": Hooks("register_forward_hook", always_call=True),
    "forward pre-hook": Hooks("register_forward_pre_hook"),
    "forward pre-hook with keywords": Hooks("register_forward_pre_hook", with_kwargs=True),
    "backward hook": Hooks("register_full_backward_hook"),
    "backward pre-hook": Hooks("register_full_backward_pre_hook"),
    "state-dict hook": Hooks("register_state_dict_post_hook"),
    "state-dict pre-hook": Hooks("register_state_dict_pre_hook"),
    "load pre-hook": Hooks("register_load_state_dict_pre_hook"),
    "load pre-hook without the module": Set(older_load_hook, older_load_hook_works),
    "load hook": Hooks("register_load_state_dict_post_hook"),
    "attribute": Set(set_attribute, lambda m: m.fc.note == {"a": 1} and m.fc._is_hf_initialized),
    "attribute of parameters": Set(
        set_weight_attribute,
        lambda m: all(p._no_weight_decay and hasattr(p, "label") for p in m.fc.parameters()),
    ),
    "state": Set(add_state, has_state),
    "hook on the bias": Set(bias_hook, bias_hook_works),
    "second name": Set(alias, lambda m: m.again is m.fc),
    "evaluation": Set(lambda m: m.fc.eval(), lambda m: m.training and not m.fc.training),
    "frozen weight": Set(freeze_weight, weight_is_fixed),
    "accelerate": Set(accelerated, is_accelerated),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", MOVED)
def test_attachments_move(name, change, tmp_path):
    if name == "accelerate":
        pytest.importorskip("accelerate", reason="accelerate is not installed")
    if name == "frozen weight" and change.startswith("load_model"):
        pytest.skip("the file says what is trained")
    build, apply = CHANGES[change]
    model, attachment = build(), copy.copy(MOVED[name])
    if name in ("state", "second name") and change.startswith("load_model"):
        pytest.skip("the file holds another network; one of the same is loaded below")
    attachment(model)
    before = model.fc
    model = apply(model, tmp_path / "model")
    assert model.fc is not before
    assert attachment.works(model)


def test_further_state_is_saved_and_loaded(tmp_path):
    model = Net()
    add_state(model)
    alias(model)
    model.fc.scale += 5
    convert(model, None)
    save_model(tmp_path / "model", model)
    other = Net()
    add_state(other)
    alias(other)
    loaded = load_model(tmp_path / "model", other)
    assert has_state(loaded)
    assert loaded.fc.scale.item() == 7
    assert loaded.again is loaded.fc
    with pytest.raises(InputError, match="another network"):
        load_model(tmp_path / "model", Net())


@pytest.mark.parametrize("change", CHANGES)
def test_handles_still_remove_their_hooks(change, tmp_path):
    build, apply = CHANGES[change]
    model = build()
    handle = model.fc.register_forward_hook(lambda *_: torch.full((3, 32), 7.0))
    model = apply(model, tmp_path / "model")
    assert model.fc(X).unique().tolist() == [7.0]
    handle.remove()
    assert model.fc(X).unique().numel() > 1


def weight_of(model):
    return next(p for n, p in model.fc.named_parameters() if n != "bias")


def module_of_weight(model):
    return model.fc if isinstance(model.fc, nn.Linear) else model.fc.matrix


def weight_hook(model):
    weight_of(model).register_hook(lambda grad: 2 * grad)


def accumulation_hook(model):
    weight_of(model).register_post_accumulate_grad_hook(lambda p: None)


def weight_with_tensor(model):
    weight_of(model).statistics = torch.zeros(3)


def instance_forward(model):
    model.fc.forward = functools.partial(type(model.fc).forward, model.fc)


def bound_method(model):
    model.fc.describe = types.MethodType(lambda self: self.weight.shape, model.fc)


def hook_of_itself(model):
    model.fc.register_forward_hook(types.MethodType(lambda self, *_: None, model.fc))


def compiled_in_place(model):
    model.fc.compile(backend="eager")


def compiled_around(model):
    model.outer = torch.compile(model.fc, backend="eager")


def taken_name(model):
    model.fc.matrix_of = model.fc.taps = 3


def kept_in_list(model):
    model.all = [model.head, model.fc]


def kept_in_mapping(model):
    model.by_name = {"fc": model.fc}


def kept_in_lists(model):
    model.groups = [[model.head], [model.fc]]


def kept_in_a_list_of_itself(model):
    model.first = [model.fc]
    model.first.append(model.first)


def kept_method(model):
    model.first = model.fc.forward


def kept_partial(model):
    model.first = [functools.partial(torch.nn.Module.__call__, model.fc)]


@dataclasses.dataclass
class Kept:
    layer: nn.Module


def kept_in_dataclass(model):
    model.first = Kept(model.fc)


def kept_weight(model):
    model.decayed = (weight_of(model),)


def pruned(model):
    module = module_of_weight(model)
    name = next(n for n, p in module.named_parameters(recurse=False) if n != "bias")
    prune.random_unstructured(module, name, 0.5)


def pruned_bias(model):
    prune.random_unstructured(model.fc, "bias", 0.5)


def parametrized(model):
    module = module_of_weight(model)
    name = next(n for n, p in module.named_parameters(recurse=False) if n != "bias")
    parametrizations.weight_norm(module, name)


def parametrized_bias(model):
    nn.utils.parametrize.register_parametrization(model.fc, "bias", nn.Tanh())


def offloaded(model):
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    hook = AlignDevicesHook("cpu")
    hook.offload = True
    add_hook_to_module(model.fc, hook)


class LoraLayer(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.base_layer = layer

    def forward(self, x):
        return self.base_layer(x)


LoraLayer.__module__ = "peft.tuners.lora.layer"


def adapted(model):
    model.adapter = LoraLayer(model.fc)


#: Attachments that cannot move, with a part of the reason.
REFUSED = {
    "weight hook": (weight_hook, "hooks are registered on its"),
    "accumulation hook": (accumulation_hook, "hooks are registered on its"),
    "tensor on the weight": (weight_with_tensor, "has a tensor as attribute 'statistics'"),
    "instance forward": (instance_forward, "forward is replaced on the instance"),
    "bound method": (bound_method, "attribute 'describe' is bound to it"),
    "hook of itself": (hook_of_itself, "a hook is a method of it"),
    "compiled in place": (compiled_in_place, "compiled by its method compile"),
    "compiled around": (compiled_around, "is compiled around it"),
    "taken name": (taken_name, "attribute 'taps' means something else"),
    "kept in a list": (kept_in_list, "keeps it, or a weight of it, in its attribute 'all'"),
    "kept in a mapping": (kept_in_mapping, "in its attribute 'by_name'"),
    "kept in lists": (kept_in_lists, "in its attribute 'groups'"),
    "kept in a list of itself": (kept_in_a_list_of_itself, "in its attribute 'first'"),
    "kept method": (kept_method, "in its attribute 'first'"),
    "kept partial": (kept_partial, "in its attribute 'first'"),
    "kept in a dataclass": (kept_in_dataclass, "in its attribute 'first'"),
    "kept weight": (kept_weight, "in its attribute 'decayed'"),
    "pruned bias": (pruned_bias, "its bias is computed from other tensors"),
    "parametrized bias": (parametrized_bias, "bias by Tanh"),
    "adapter": (adapted, "merge the adapters first"),
    "offloading": (offloaded, "accelerate offloads its weights"),
}
#: On packed contents these are no parameters of the weight's own module.
ON_OWN_WEIGHT = {"pruned": (pruned, None), "parametrized": (parametrized, None)}


@pytest.mark.parametrize("change", [c for c in CHANGES if c != "there and back"])
@pytest.mark.parametrize("name", REFUSED | ON_OWN_WEIGHT)
def test_what_cannot_move_is_refused_and_nothing_changes(name, change, tmp_path):
    if name == "offloading":
        pytest.importorskip("accelerate", reason="accelerate is not installed")
    build, apply = CHANGES[change]
    attach, reason = (REFUSED | ON_OWN_WEIGHT)[name]
    model = build()
    if name in ON_OWN_WEIGHT and not list(module_of_weight(model).parameters(recurse=False)):
        pytest.skip("a packed weight has no parameters of its own")
    attach(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    with pytest.raises(StructmatError, match=reason) as refusal:
        apply(model, tmp_path / "model")
    assert "'fc'" in str(refusal.value)
    assert "expected" in str(refusal.value)
    assert dict(model.named_modules(remove_duplicate=False)) == modules


@pytest.mark.parametrize("name", ["weight hook", "instance forward", "kept in a list"])
def test_what_cannot_move_stays_dense_without_a_filter(name):
    model = nn.Sequential(Net(), nn.Linear(32, 32))
    REFUSED[name][0](model[0])
    report = convert_(model, Config(kind="low_rank", budget=0.5))
    assert [row.name for row in report.rows] == ["1"]
    assert REFUSED[name][1] in {s.name: s.reason for s in report.skipped}["0.fc"]


@pytest.mark.parametrize("change", [freeze_, to_dense_])
def test_a_layer_whose_class_was_changed_is_refused(change):
    model = converted()
    model.fc.__class__ = type("ShardedLinear", (GaudiLinear,), {})  # as fully_shard does
    with pytest.raises(InputError, match=r"'fc'.* ShardedLinear instead of a GaudiLinear"):
        change(model)


@pytest.mark.parametrize("change", [freeze_, to_dense_])
@pytest.mark.parametrize(("learn", "name"), [("gaudi", "u"), (True, "weight")])
def test_tied_contents_are_refused(change, learn, name):
    model = converted(learn=learn)
    before = model.fc
    model.other = nn.ParameterList([getattr(model.fc.matrix, name)])
    with pytest.raises(InputError, match=r"'fc' shares a parameter with 'other.0'"):
        change(model)
    assert model.fc is before


@pytest.mark.parametrize("change", [convert, freeze, make_dense, load])
def test_wrapped_models_are_refused(change, tmp_path):
    class DistributedDataParallel(nn.Module):
        """By name, as the real one wants a process group."""

        def __init__(self, module):
            super().__init__()
            self.module = module

    with pytest.raises(InputError, match=r"wrapped as DistributedDataParallel.*take the \.module"):
        change(DistributedDataParallel(converted()), tmp_path / "model")


def test_partly_trained_contents_are_refused_or_kept():
    model = converted(learn="gaudi")
    model.fc.matrix.u.requires_grad_(False)
    with pytest.raises(InputError, match="'fc' has contents that are trained and contents that"):
        to_dense_(model)
    freeze_(model)
    trained = {n: p.requires_grad for n, p in model.fc.matrix.contents.named_parameters()}
    assert trained == {"u": False, "v": True}


def test_weights_of_other_types_stay_with_the_reason():
    class Quantized(nn.Parameter):
        pass

    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32))
    model[1].weight = Quantized(model[1].weight.detach())
    model[2].weight = nn.Parameter(torch.empty(0))
    skipped = convert_(model, Config(kind="low_rank", budget=0.5)).skipped
    assert "Quantized; expected an ordinary nn.Parameter" in skipped[0].reason
    assert "has shape (0,); expected 2 axes" in skipped[1].reason


def test_a_failed_load_leaves_hooks_where_they_were(tmp_path):
    save_model(tmp_path / "model", converted())
    model, calls = Net(), []
    model.head = nn.Linear(32, 5)
    model.fc.register_load_state_dict_pre_hook(lambda module, *_: calls.append(module))
    with pytest.raises(InputError, match="another network"):
        load_model(tmp_path / "model", model)
    model.load_state_dict(model.state_dict())
    assert calls == [model.fc]


def test_every_weight_that_stays_is_named():
    layers = {
        "lstm": nn.LSTM(32, 32),
        "gru": nn.GRU(32, 32),
        "rnn": nn.RNN(32, 32),
        "cell": nn.LSTMCell(32, 32),
        "bilinear": nn.Bilinear(32, 32, 32),
        "tokens": nn.Embedding(40, 32),
        "bag": nn.EmbeddingBag(40, 32),
        "up": nn.ConvTranspose2d(32, 32, 3),
        "line": nn.Conv1d(32, 32, 3),
        "space": nn.Conv3d(32, 32, 3),
        "experts": nn.ParameterList([torch.zeros(4, 32, 32)]),
        "norm": nn.LayerNorm(32),
        "fc": nn.Linear(32, 32),
    }
    skipped = convert_(nn.ModuleDict(layers), Config(kind="low_rank", budget=0.5)).skipped
    reasons = {skip.name: skip.reason for skip in skipped}
    assert reasons.keys() == layers.keys() - {"norm", "fc"}
    for name, reason in reasons.items():
        assert reason.startswith(f"{type(layers[name]).__name__}, which is not converted")
    # They are no error for a filter, which is asked of linear layers alone.
    model = nn.ModuleDict({"lstm": nn.LSTM(32, 32), "fc": nn.Linear(32, 32)})
    report = convert_(model, Config(kind="low_rank", budget=0.5), lambda _, m: m.weight.ndim == 2)
    assert [skip.name for skip in report.skipped] == ["lstm"]
