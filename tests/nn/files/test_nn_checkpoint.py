"""Networks in files: what was saved comes back to the bit, or is refused and nothing changed."""

import json
import math
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

import structmat
from structmat.errors import FileFormatError, InputError, MissingDependencyError, SaveError
from structmat.nn.files.checkpoint import load_model, save_model
from structmat.nn.files.tensor_file import write_tensors
from structmat.nn.gaudi.conv import GaudiConv2d
from structmat.nn.gaudi.linear import GaudiLinear
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.models.config import Config
from structmat.nn.models.convert import convert_
from structmat.nn.models.freeze import freeze_
from structmat.nn.structured.layers import StructuredConv2d, StructuredLinear
from structmat.nn.structured.packed import PackedLinear
from structmat.nn.structured.weight import StructuredWeight


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


class Net(nn.Module):
    """Images to classes; with a tied pair, a buffer that is no state, and a mode."""

    def __init__(self, classes=10, hidden=32):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 16, hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.down = nn.Linear(3 * hidden, hidden, bias=False)
        self.up = nn.Linear(hidden, hidden, bias=False)
        self.up.weight = self.down_twin = nn.Parameter(torch.randn(hidden, hidden) / 8)
        self.head = nn.Linear(hidden, classes)
        self.register_buffer("scale", torch.tensor(0.5) * (1 + torch.rand(())), persistent=False)

    def forward(self, x):
        x = self.norm(self.conv(x)).flatten(1).relu()
        x = self.qkv(self.fc(x)).relu()
        return self.head(self.up(self.down(x)) * self.scale)


def images():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def learned():
    """Every learned layer there is, with settings unlike the defaults, after one step."""
    net = Net()
    options = {"sigma": 3.0, "granularity": 2, "min_width": 2, "product": "factors"}
    options["straight_through"] = False
    net.conv = GaudiConv2d(
        3, 8, 3, stride=2, padding=1, form="taps", shared_masks=True, budget=0.8, sigma=2.0
    )
    net.fc = GaudiLinear(128, 32, num_blocks=9, rank=2, width_init="uniform", **options)
    parts = [GaudiWeight((32, 32), learn_locations=False, max_width=20) for _ in range(3)]
    net.qkv = PackedLinear(parts, torch.randn(96))
    for weight in net.modules():
        if isinstance(weight, GaudiWeight):
            weight.positions = 5
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(images()).square().sum().backward()
    optimizer.step()
    return net


def frozen():
    net = learned()
    freeze_(net)
    return net


def compressed(kind, shape=(32, 96), scale=1.0):
    W = scale * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return structmat.compress(W, kind, budget=0.4).matrix


MATRICES = {
    **{
        kind: lambda kind=kind: compressed(kind)
        for kind in ("low_rank", "block_sparse", "block_low_rank", "monarch", "gblr")
    },
    "dense": lambda: structmat.Dense(np.ones((32, 96), np.float32)),
    "sum": lambda: compressed("low_rank") + compressed("block_sparse"),
    "nested": lambda: (
        0.5 * (structmat.Permutation(np.arange(32)[::-1]) @ compressed("monarch"))
        + compressed("low_rank")
    ),
    "no blocks": lambda: structmat.GBLR(
        *([], [], np.zeros(0, np.float32)), *([], [], np.zeros(0, np.float32)), shape=(32, 96)
    ),
}


def assert_same(got, expected):
    """Outputs in both modes, gradients, types, settings, dtypes and what is shared."""
    ours, theirs = (dict(net.named_modules(remove_duplicate=False)) for net in (got, expected))
    assert {p: type(m) for p, m in ours.items()} == {p: type(m) for p, m in theirs.items()}
    for tensors in (nn.Module.named_parameters, nn.Module.named_buffers):
        a, b = (dict(tensors(net, remove_duplicate=False)) for net in (got, expected))
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype, name
            assert a[name].requires_grad == b[name].requires_grad, name
            assert torch.equal(a[name], b[name]), name
        groups = [{n: [k for k in net if net[k] is net[n]] for n in net} for net in (a, b)]
        assert groups[0] == groups[1]
    for p in ours:
        twins = [[q for q in net if net[q] is net[p]] for net in (ours, theirs)]
        assert twins[0] == twins[1]
        if isinstance(ours[p], GaudiWeight | GaudiConv2d | StructuredConv2d):
            assert settings_of(ours[p]) == settings_of(theirs[p])
        if isinstance(ours[p], StructuredWeight):
            assert ours[p].positions == theirs[p].positions
            assert (ours[p].kind, ours[p].cost) == (theirs[p].kind, theirs[p].cost)
    for mode in (False, True):
        outputs = [net.train(mode)(images()) for net in (got, expected)]
        assert torch.equal(*outputs)
    gradients = [
        torch.autograd.grad(output.sum(), [p for p in net.parameters() if p.requires_grad])
        for output, net in zip(outputs, (got, expected), strict=True)
    ]
    assert all(map(torch.equal, *gradients))


def settings_of(module):
    """All that a module holds beside tensors and submodules."""
    found = {name: value for name, value in vars(module).items() if name[0] != "_"}
    return {**found, "sigma": module.sigma} if isinstance(module, GaudiWeight) else found


def state_of(model):
    """Which objects a model consists of, and copies of the values."""
    modules = {p: id(m) for p, m in model.named_modules(remove_duplicate=False)}
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return modules, {n: (id(t), t.clone()) for n, t in tensors}


@pytest.fixture
def unchanged():
    """Check at the end that a model is as it was when it was handed over."""
    seen = []

    def watch(model):
        seen.append((model, state_of(model)))
        return model

    yield watch
    assert seen
    for model, (modules, tensors) in seen:
        now, values = state_of(model)
        assert now == modules
        assert values.keys() == tensors.keys()
        for name, (identity, value) in tensors.items():
            assert values[name][0] == identity
            assert torch.equal(values[name][1], value)


@pytest.mark.parametrize("make", [Net, learned, frozen])
@pytest.mark.parametrize("target", ["dense", "meta", "same structure"])
def test_a_model_comes_back_to_the_bit(make, target, path):
    model = make()
    save_model(path, model)
    build = make if target == "same structure" else Net
    with torch.device("meta" if target == "meta" else "cpu"):
        goal = build()
    random = torch.get_rng_state()
    loaded = load_model(path, goal)
    assert loaded is goal
    assert torch.equal(torch.get_rng_state(), random)
    assert_same(loaded, model)


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
def test_every_kind_of_matrix_comes_back(make, path):
    model = Net()
    model.down = StructuredLinear(make())
    save_model(path, model)
    assert_same(load_model(path, Net()), model)


def test_older_files_have_permutations_among_the_contents(path):
    model = Net()
    model.down = StructuredLinear(MATRICES["nested"]())
    save_model(path, model)

    def older(tensors):
        (name,) = (n for n in tensors if n.endswith("/p"))
        tensors[name.replace("..", ".contents.").replace("/", ".")] = tensors.pop(name)

    rewrite(path, change_tensors=older)
    assert_same(load_model(path, Net()), model)


def test_every_learned_setting_is_in_the_file(path):
    # A new attribute of GaudiWeight has to be saved, or else named here.
    weight = learned().fc.matrix
    assert settings_of(weight).keys() == {
        *("shape", "rank", "granularity", "sigma", "straight_through", "product", "positions"),
        *("min_width", "max_width", "training"),
    }


def test_sigma_may_be_infinite(path):
    save_model(path, nn.Sequential(GaudiLinear(8, 8)))
    loaded = load_model(path, nn.Sequential(nn.Linear(8, 8)))
    assert loaded[0].matrix.sigma == math.inf


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("make", [learned, frozen])
def test_the_file_says_the_dtype(make, dtype, path):
    model = make().to(dtype)
    save_model(path, model)
    loaded = load_model(path, Net())
    expected = {name: p.dtype for name, p in model.state_dict().items()}
    assert {name: p.dtype for name, p in loaded.state_dict().items()} == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": "same", "dilation": (2, 1)},
        {"stride": (1, 2), "padding": (2, 1), "padding_mode": "circular"},
    ],
)
def test_convolutions_keep_their_settings(settings, path):
    model = nn.Sequential(nn.Conv2d(3, 8, (3, 2), **settings))
    dense = nn.Sequential(nn.Conv2d(3, 8, (3, 2), **settings))
    convert_(model, Config(budget=0.5, kind="low_rank", min_features=3))
    assert isinstance(model[0], StructuredConv2d)
    save_model(path, model)
    loaded = load_model(path, dense)
    assert torch.equal(loaded(images()), model(images()))


def test_a_layer_may_be_the_whole_model(path):
    layer = GaudiLinear(12, 7)
    save_model(path, layer)
    target = nn.Linear(12, 7)
    loaded = load_model(path, target)
    assert type(loaded) is GaudiLinear
    assert torch.equal(loaded.weight, layer.weight)


@pytest.mark.parametrize("learn", [True, "gaudi"])
def test_shared_layers_and_weights_are_stored_once(learn, path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = (nn.Linear(32, 32) for _ in range(3))
            self.again = nn.ModuleList([self.first, nn.ReLU()])
            self.last = nn.Linear(32, 32)
            self.last.weight = self.third.weight

        def forward(self, x):
            for layer in (self.first, self.second, self.third, *self.again, self.last):
                x = layer(x)
            return x

    model, x = Twice(), torch.randn(3, 32)
    convert_(model, Config(budget=0.5, kind="gblr", learn=learn))
    assert model.last.matrix is model.third.matrix
    save_model(path, model)
    names = safetensors.torch.load_file(path).keys()
    assert not any(name.startswith(("again.", "last.matrix")) for name in names)
    loaded = load_model(path, Twice())
    assert loaded.again[0] is loaded.first
    assert loaded.last.matrix is loaded.third.matrix
    assert loaded.last.bias is not loaded.third.bias
    assert torch.equal(loaded(x), model(x))
    other = Twice()
    other.again = nn.ModuleList()
    before = state_of(other)[0]
    with pytest.raises(InputError, match=r"no modules 'first' and 'again\.0' to be shared"):
        load_model(path, other)
    assert state_of(other)[0] == before


def test_ties_follow_the_file_not_the_target(path):
    tied, apart = (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(2))
    tied[1].weight = tied[0].weight
    save_model(path, tied)
    loaded = load_model(path, nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    assert loaded[1].weight is loaded[0].weight
    save_model(path, apart)
    loaded = load_model(path, tied)
    assert torch.equal(loaded[0].weight, apart[0].weight)
    assert torch.equal(loaded[1].weight, apart[1].weight)


def test_views_of_one_memory_are_written_apart(path):
    model = nn.Module()
    memory = torch.arange(12.0)
    model.register_buffer("all", memory)
    model.register_buffer("some", memory[3:7])
    model.register_buffer("across", memory.view(3, 4).T)
    save_model(path, model)
    target = nn.Module()
    for name, buffer in model.named_buffers():
        target.register_buffer(name, torch.zeros_like(buffer))
    load_model(path, target)
    for name, buffer in model.named_buffers():
        assert torch.equal(target.get_buffer(name), buffer)


def test_fixed_parameters_stay_fixed(path):
    model = Net()
    model.fc = GaudiLinear(128, 32, learn_widths=False)
    model.down = StructuredLinear(compressed("low_rank"))
    model.down.matrix.contents.U.requires_grad_(False)
    save_model(path, model)
    target = Net()
    target.head.weight.requires_grad_(False)
    loaded = load_model(path, target)
    fixed = {name for name, p in loaded.named_parameters() if not p.requires_grad}
    assert fixed == {
        *("fc.matrix.structure.row_width", "fc.matrix.structure.col_width"),
        *("down.matrix.contents.U", "head.weight"),
    }


def test_layers_take_the_mode_of_those_they_replace(path):
    save_model(path, learned())
    for mode in (True, False):
        loaded = load_model(path, Net().train(mode))
        assert {m.training for m in loaded.modules()} == {mode}


def test_parameters_have_memory_of_their_own(path):
    model = frozen().eval()
    save_model(path, model)
    before = model(images())
    loaded = load_model(path, Net()).eval()
    with open(path, "r+b") as file:  # in place, as other writers do it
        file.write(b"\xff" * os.path.getsize(path))
    assert torch.equal(loaded(images()), before)
    assert all(p.data_ptr() % 64 == 0 for p in loaded.parameters())


def test_the_file_is_an_ordinary_one(path):
    model = learned()
    save_model(path, model)
    tensors = safetensors.torch.load_file(path)
    for name, parameter in model.named_parameters():
        assert torch.equal(tensors[name], parameter)
    with safetensors.safe_open(path, "pt") as file:
        assert list(file.metadata()) == ["structmat"]
        header = json.loads(file.metadata()["structmat"])
    assert header["format_version"] == 2
    assert {p: entry["layer"] for p, entry in header["layers"].items()} == {
        "conv": "GaudiConv2d",
        "fc": "GaudiLinear",
        "qkv": "PackedLinear",
    }


def test_a_frozen_file_is_small(path):
    model = nn.Sequential(GaudiLinear(256, 256, budget=0.1))
    save_model(path, model)
    learned_size = path.stat().st_size
    freeze_(model)
    save_model(path, model)
    assert path.stat().st_size < 0.3 * min(learned_size, 4 * 256**2)


def test_saving_replaces_whole_files_and_leaves_nothing_beside(path):
    path.write_bytes(b"older")
    save_model(path, nn.Linear(2, 2))
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_the_file_is_as_readable_as_any_other_new_file(path):
    save_model(path, frozen())
    other = path.with_name("other")
    other.write_bytes(b"")
    assert path.stat().st_mode == other.stat().st_mode
    path.chmod(0o640)
    save_model(path, frozen())
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_written_leaves_the_old_one(path, monkeypatch):
    path.write_bytes(b"older")

    def full(*_args):
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(SaveError, match="No space left"):
        save_model(path, nn.Linear(2, 2))
    assert path.read_bytes() == b"older"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_saving_refuses_what_has_no_place_in_a_file(path, tmp_path):
    with pytest.raises(SaveError, match="choose a folder that exists"):
        save_model(tmp_path / "none" / "a", nn.Linear(2, 2))
    with pytest.raises(InputError, match="weight is on the meta device"):
        save_model(path, nn.Linear(2, 2, device="meta"))
    with pytest.raises(InputError, match=r"expected a torch\.nn\.Module"):
        save_model(path, compressed("low_rank"))
    with pytest.raises(InputError, match="complex128"):
        save_model(path, nn.Linear(2, 2, dtype=torch.complex128))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    "make",
    [
        torch.Tensor.to_sparse,
        torch.Tensor.to_sparse_csr,
        torch.Tensor.to_mkldnn,
        lambda t: torch.nested.nested_tensor([t]),
        lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "csr", "mkldnn", "nested", "quantized"],
)
def test_buffers_that_are_no_dense_tensors_are_refused(make, path):
    model = nn.Linear(2, 2)
    model.register_buffer("table", make(torch.ones(3, 2)))
    with pytest.raises(InputError, match=r"table is no dense tensor .*expected a dense one"):
        save_model(path, model)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: Net(classes=11), r"head\.weight \(11, 32\) \(in the file \(10, 32\)\)"),
        (lambda: Net(hidden=33), r"'fc' is a Linear of .*33.* and a GaudiLinear of .*32"),
        (lambda: nn.Sequential(nn.Linear(2, 2)), "Sequential has no module 'conv'"),
        (lambda: changed("extra", nn.Linear(2, 3)), r"the file lacks extra\.bias, extra\.weight"),
        (lambda: changed("extra", nn.LSTM(2, 3, 2)), r"the file lacks extra\.bias.* and 3 more"),
        (lambda: changed("norm", nn.Identity()), r"the model lacks norm\.bias, .*norm\.weight;"),
        (lambda: changed("fc", nn.LayerNorm(32)), "'fc' is a LayerNorm"),
        (lambda: changed("fc", nn.Linear(128, 32, bias=False)), "'bias': False"),
        (lambda: changed("conv", nn.Conv2d(3, 8, 3, padding=1)), r"'stride': \(1, 1\)"),
        (lambda: changed("head", GaudiLinear(32, 10)), r"the model lacks head\.weight"),
        (lambda: changed("scale", torch.tensor(1)), "of another shape or type are scale"),
    ],
)
def test_another_model_is_refused_and_stays_as_it_was(change, message, path, unchanged):
    save_model(path, learned())
    with pytest.raises(InputError, match=message) as caught:
        load_model(path, unchanged(change()))
    assert "expected the model as it was before its layers were converted" in str(caught.value)
    assert not isinstance(caught.value, FileFormatError)


def changed(name, part):
    model = Net()
    setattr(model, name, part)
    return model


def test_any_failure_leaves_the_model_as_it_was(path, unchanged, monkeypatch):
    save_model(path, learned())
    calls = []

    def failing(tensor, old):
        calls.append(old)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return nn.Parameter(tensor.clone()) if isinstance(old, nn.Parameter) else tensor.clone()

    monkeypatch.setattr("structmat.nn.files.place._moved", failing)
    with pytest.raises(KeyboardInterrupt):
        load_model(path, unchanged(Net()))


def test_the_target_has_to_be_a_module(path):
    with pytest.raises(InputError, match=r"expected a torch\.nn\.Module"):
        load_model(path, None)


def test_a_missing_file_is_just_that(path, unchanged):
    with pytest.raises(FileNotFoundError):
        load_model(path, unchanged(Net()))


def rewrite(path, change_header=None, change_tensors=None):
    """Write a file again with its header or its tensors changed, and digests that fit."""
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["structmat"])
    tensors = safetensors.torch.load_file(path)
    del header["digest"], header["members"]
    if change_header is not None:
        change_header(header)
    if change_tensors is not None:
        change_tensors(tensors)
    write_tensors(path, tensors, header, "structmat")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated_files_are_refused(share, path, unchanged):
    save_model(path, frozen())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(FileFormatError, match="truncated, damaged or not a structmat file"):
        load_model(path, unchanged(Net()))


def test_foreign_files_are_refused(path, unchanged):
    model = unchanged(Net())
    safetensors.torch.save_file({"weight": torch.zeros(2, 2)}, path)
    with pytest.raises(FileFormatError, match="without a structmat header"):
        load_model(path, model)
    structmat.save(path, compressed("low_rank"))
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_model(path, model)
    torch.save(Net().state_dict(), path)
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_model(path, model)


def test_newer_versions_are_refused(path, unchanged):
    save_model(path, frozen())
    rewrite(path, lambda header: header.update(format_version=3, layers="another form"))
    with pytest.raises(FileFormatError, match=r"version 3; .* reads up to 2 \(upgrade it\)"):
        load_model(path, unchanged(Net()))


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("layers"),
        lambda header: header.update(layers=3),
        lambda header: header.update(format_version="2"),
        lambda header: header.update(format_version=0),
        lambda header: header.update(tied={"a": 1}),
        lambda header: header.update(tied={"head.weight": "nowhere"}),
        lambda header: header["layers"].pop("fc"),
        lambda header: header["layers"]["fc"].update(layer="eval"),
        lambda header: header["layers"]["fc"].update(weights=[]),
        lambda header: header["layers"]["fc"].update(fixed=["nothing"]),
        lambda header: header["layers"]["fc"]["weights"][0].update(path="qkv"),
        lambda header: header["layers"]["fc"]["weights"][0]["matrix"].update(kind="low_rank"),
        lambda header: header["layers"]["fc"]["weights"][0]["matrix"].update(static={}),
        lambda header: header["layers"]["fc"]["weights"][0]["matrix"].update(more=1),
        lambda header: header["layers"]["conv"].update(settings={}),
        lambda header: header["layers"]["qkv"]["weights"].pop(),
    ],
)
def test_headers_that_do_not_fit_are_refused(change, path, unchanged):
    save_model(path, frozen())
    rewrite(path, change)
    with pytest.raises(FileFormatError, match="expected a file written by save_model"):
        load_model(path, unchanged(Net()))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("fc.matrix..row_start"),
        lambda tensors: tensors.pop("fc.matrix.contents.u"),
        lambda tensors: tensors.update({"fc.matrix..more": torch.zeros(2)}),
        lambda tensors: tensors.update({"fc.matrix..7/more": torch.zeros(2)}),
        lambda tensors: tensors.update({"fc.matrix.contents.more": torch.zeros(2)}),
        lambda tensors: tensors["fc.matrix..row_start"].sub_(1000),
        lambda tensors: tensors.update(
            {"fc.matrix..row_start": tensors["fc.matrix..row_start"].bfloat16()}
        ),
        lambda tensors: tensors.update(
            {"fc.matrix.contents.u": tensors["fc.matrix.contents.u"][1:]}
        ),
        lambda tensors: tensors.update({"fc.bias": torch.zeros(3)}),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, path, unchanged):
    save_model(path, frozen())
    rewrite(path, change_tensors=change)
    with pytest.raises(FileFormatError, match="expected a file written by save_model"):
        load_model(path, unchanged(Net()))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("fc.matrix.structure.col_location"),
        lambda tensors: tensors.update({"fc.matrix.u": torch.zeros(9, 2, 200)}),
        lambda tensors: tensors.update({"fc.matrix.v": torch.zeros(9, 2)}),
    ],
)
def test_learned_tensors_that_do_not_fit_are_refused(change, path, unchanged):
    save_model(path, learned())
    rewrite(path, change_tensors=change)
    with pytest.raises(FileFormatError, match="expected a file written by save_model"):
        load_model(path, unchanged(Net()))


@pytest.mark.parametrize("size", [2**19, 2**40, 10**30])
@pytest.mark.parametrize("what", ["matrix", "index", "settings", "kernel"])
def test_sizes_that_the_file_has_no_bytes_for_are_refused(what, size, path, unchanged):
    """Digests that fit are no help: whoever writes them may claim what he likes."""
    save_model(path, frozen())

    def claim(header):
        layers = header["layers"]
        if what == "matrix":
            layers["fc"]["weights"][0]["matrix"]["static"]["shape"] = [size, size]
        elif what == "settings":
            layers["conv"]["settings"]["in_channels"] = size
        elif what == "kernel":
            layers["conv"]["settings"]["kernel_size"] = [2**17, size >> 17]

    def claim_index(tensors):
        if what == "index":
            tensors["fc.matrix..row_start"][0] = min(size, 2**62)

    rewrite(path, claim, claim_index)
    with pytest.raises(FileFormatError, match="stored numbers"):
        load_model(path, unchanged(Net()))


def test_noise_in_the_header_is_an_error_of_ours_or_harmless(path):
    save_model(path, nn.Sequential(StructuredLinear(compressed("gblr")), GaudiLinear(32, 8)))
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        noisy = bytearray(data)
        noisy[8 + rng.integers(size)] = rng.integers(32, 127)
        path.write_bytes(noisy)
        try:
            load_model(path, nn.Sequential(nn.Linear(96, 32, bias=False), nn.Linear(32, 8)))
        except InputError:
            refused += 1
    assert refused > 75


def test_without_safetensors_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'structmat\[torch\]'"):
        save_model(path, nn.Linear(2, 2))


def test_another_process_reads_the_same(path):
    model = frozen().eval()
    save_model(path, model)
    output = path.with_name("output.safetensors")
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[1])\n"
        "from test_nn_checkpoint import Net, images, load_model, safetensors\n"
        "net = load_model(sys.argv[2], Net()).eval()\n"
        "safetensors.torch.save_file({'y': net(images()).detach()}, sys.argv[3])\n"
        "assert {'transformers', 'lightning'}.isdisjoint(sys.modules)"
    )
    tests = os.path.dirname(__file__)
    subprocess.run([sys.executable, "-c", code, tests, path, output], check=True)
    assert torch.equal(safetensors.torch.load_file(output)["y"], model(images()))


@pytest.mark.parametrize("view", [torch.conj, torch._neg_view])
def test_buffers_whose_signs_are_lazy_are_written(view, tmp_path):
    def module(numbers):
        made = torch.nn.Linear(2, 2)
        made.register_buffer("phase", numbers)
        return made

    phase = torch.tensor([1 + 2j, 3 - 1j])
    model = module(view(phase))
    save_model(tmp_path / "a", model)
    assert torch.equal(load_model(tmp_path / "a", module(phase.clone())).phase, model.phase)
