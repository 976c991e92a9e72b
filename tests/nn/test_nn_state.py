"""State dicts have the structure of weights: other models take it over, or refuse it.

The table is of kinds, learning or frozen, linear or convolution, drawn or fitted, calibrated
or not, by the ways in which torch and its libraries save a model.
"""

import copy
import io
import itertools
import pickle

import numpy as np
import pytest
import torch
from nn_kinds import KINDS, LAYERS, STARTS, converted, dense, inputs
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import structmat
from structmat.errors import InputError
from structmat.nn import (
    GaudiConv2d,
    GaudiLinear,
    GaudiWeight,
    PackedLinear,
    StructuredLinear,
    StructuredWeight,
    load_model,
    save_model,
)
from structmat.nn.structured.state import decode, encode

MIDDLE = np.ones((3, 1, 1))  # factor of a Monarch matrix of 3x3


def assert_taken_or_refused(a, b, x, load):
    """Check that `load` makes `b` equal to `a` bit for bit, or is refused with the remedy."""
    b(x)  # memories of the old structure
    places = {name: id(p) for name, p in b.named_parameters()}
    refusal = ""
    try:
        load()
    except InputError as error:
        refusal = str(error)
    if refusal:
        assert "expected" in refusal
        shapes = [{n: p.shape for n, p in model.named_parameters()} for model in (a, b)]
        assert shapes[0] != shapes[1]
        return "refused"
    assert torch.equal(a(x), b(x))
    assert torch.equal(a.train()(x), b.train()(x))
    a.eval(), b.eval()
    assert {name: id(p) for name, p in b.named_parameters()} == places
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, value in a.state_dict().items():
        assert torch.equal(b.state_dict()[name], value), name
    return "taken"


TABLE = list(itertools.product(KINDS, LAYERS, STARTS))
# One start for each kind and layer; these are calibrated slowly.
SLOW = {"gblr", "ordered gblr", "pixelfly", "taps"}
FEW = [
    (kind, layer, STARTS[(i + j + (kind == "pixelfly")) % (2 if {kind, layer} & SLOW else 3)])
    for i, kind in enumerate(KINDS)
    for j, layer in enumerate(LAYERS)
]


def cells(few, all_of_them):
    rest = [cell for cell in all_of_them if cell not in few]
    return [*few, *(pytest.param(*cell, marks=pytest.mark.slow) for cell in rest)]


@pytest.mark.parametrize(("kind", "layer", "start"), cells(FEW, TABLE))
def test_a_state_dict_is_taken_or_refused(kind, layer, start):
    a, b = (converted(kind, layer, start, seed) for seed in (0, 1))
    x = inputs(layer)
    assert not torch.equal(a(x), b(x))
    result = assert_taken_or_refused(a, b, x, lambda: b.load_state_dict(a.state_dict()))
    if start == "scratch" or kind == "low_rank":
        assert result == "taken"


def test_the_example_of_two_seeds():
    a, b = (converted("block_sparse", start="weights", seed=seed) for seed in (0, 1))
    rows = [m.matrix.to_matrix().rows for m in (a[0], b[0])]
    cols = [m.matrix.to_matrix().cols for m in (a[0], b[0])]
    assert not (np.array_equal(*rows) and np.array_equal(*cols))
    optimizer = torch.optim.Adam(b.parameters())
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(inputs("linear")), b(inputs("linear")))
    for model in (a, b):
        model.zero_grad()
        model(inputs("linear")).square().sum().backward()
    optimizer.step()
    torch.optim.Adam(a.parameters()).step()
    assert torch.equal(a(inputs("linear")), b(inputs("linear")))


def through_torch_save(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def safetensors_file(a, b, path):
    from safetensors.torch import load_file, save_file

    save_file(a.state_dict(), path)
    b.load_state_dict(load_file(path))


def safetensors_model(a, b, path):
    from safetensors.torch import load_model as read
    from safetensors.torch import save_model as write

    write(a, path)
    read(b, path)


def distributed_checkpoint(a, b, path):
    from torch.distributed import checkpoint as dcp

    dcp.save({"model": a.state_dict()}, checkpoint_id=path)
    state = b.state_dict()
    dcp.load({"model": state}, checkpoint_id=path)
    b.load_state_dict(state)


def distributed_helpers(a, b, path):
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    set_model_state_dict(b, get_model_state_dict(a))


def swapped_conversion(a, b, path):
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        b.double().float().load_state_dict(a.state_dict())
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def vector_of_halves(a, b, path):
    """All tensors through half precision, as some tools store them, and the exact contents."""
    state = {name: value.half() for name, value in a.state_dict().items()}
    floating = {n: v for n, v in a.state_dict().items() if v.is_floating_point()}
    b.load_state_dict(state | floating)


WAYS = {
    "torch.save": lambda a, b, path: b.load_state_dict(through_torch_save(a)),
    "assign": lambda a, b, path: b.load_state_dict(a.state_dict(), assign=True),
    "not strict": lambda a, b, path: b.load_state_dict(a.state_dict(), strict=False),
    "prefix": lambda a, b, path: nn.Sequential(b).load_state_dict(nn.Sequential(a).state_dict()),
    "parallel": lambda a, b, path: b.load_state_dict(nn.DataParallel(a).module.state_dict()),
    "copy": lambda a, b, path: b.load_state_dict(copy.deepcopy(a).state_dict()),
    "safetensors file": safetensors_file,
    "safetensors model": safetensors_model,
    "DCP": distributed_checkpoint,
    "DCP helpers": distributed_helpers,
    "swap": swapped_conversion,
    "halves": vector_of_halves,
}
BY_WAY = list(itertools.product(WAYS, KINDS))
FEW_WAYS = [(way, KINDS[(5 * i + 1) % len(KINDS)]) for i, way in enumerate(WAYS)]


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize(("way", "kind"), cells(FEW_WAYS, BY_WAY))
def test_every_way_of_saving(way, kind, tmp_path):
    # Fits of the other kinds may have contents of other shapes, which are refused.
    start = "weights" if kind in ("low_rank", "block_sparse", "pixelfly") else "scratch"
    a, b = (converted(kind, start=start, seed=seed) for seed in (0, 1))
    x = inputs("linear")
    b(x)
    WAYS[way](a, b, str(tmp_path / "saved"))
    assert torch.equal(a(x), b(x))
    assert torch.equal(a.train()(x), b.train()(x))


@pytest.mark.parametrize("kind", ["block_sparse", "gblr"])
def test_whole_models_in_files(kind, tmp_path):
    model, x = converted(kind), inputs("linear")
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))
    save_model(tmp_path / "model.safetensors", model)
    assert torch.equal(load_model(tmp_path / "model.safetensors", dense("linear", 1))(x), model(x))


def test_packed_layers_and_permutations():
    def product(seed):
        rng = np.random.default_rng(seed)
        L, R = rng.standard_normal((3, 4, 4)), rng.standard_normal((4, 3, 2))
        return structmat.Permutation(rng.permutation(12)) @ structmat.Monarch(L, R)

    a, b = (
        PackedLinear([StructuredWeight(product(seed)), StructuredWeight(product(seed + 5))])
        for seed in (0, 1)
    )
    x = torch.ones(3, 8, dtype=torch.float64)
    assert_taken_or_refused(a, b, x, lambda: b.load_state_dict(a.state_dict()))
    alone = StructuredWeight(structmat.Permutation([2, 0, 1]))
    other = StructuredWeight(structmat.Permutation([0, 1, 2]))
    other.load_state_dict(alone.state_dict())
    assert torch.equal(other(x[:, :3]), alone(x[:, :3]))
    assert not list(alone.buffers())


def test_permutations_survive_empty_memory_and_averages():
    P = structmat.Permutation(np.random.default_rng(0).permutation(64))
    weight = StructuredWeight(P @ structmat.Monarch(np.ones((1, 64, 64)), np.ones((64, 1, 1))))
    with torch.no_grad():
        weight.contents.get_parameter("1.L").copy_(torch.eye(64)[None])
    x = torch.arange(64.0, dtype=torch.float64)[None]
    assert [n for n, _ in weight.named_parameters()] == ["contents.1.L", "contents.1.R"]
    average = AveragedModel(weight, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(3):
        average.update_parameters(weight)
    torch.testing.assert_close(average(x), weight(x))
    again = copy.deepcopy(weight).to("meta").to_empty(device="cpu")
    again.load_state_dict(weight.state_dict())
    assert torch.equal(again(x), weight(x))


@pytest.mark.parametrize("kind", ["block_sparse", "gblr", "frozen gblr"])
def test_older_state_dicts_load_with_a_warning(kind):
    a, b = (converted(kind, seed=0) for _ in range(2))
    with torch.no_grad():
        [p.mul_(2) for p in a.parameters() if p.ndim > 1 or kind != "gblr"]
    state = {n: v for n, v in a.state_dict().items() if not n.endswith("_extra_state")}
    with pytest.warns(UserWarning, match="without their structure"):
        result = b.load_state_dict(state)
    assert not result.missing_keys
    assert torch.equal(a(inputs("linear")), b(inputs("linear")))


def test_older_state_dicts_of_kinds_without_structure_load_quietly():
    a, b = (converted("low_rank", seed=seed) for seed in (0, 1))
    b.load_state_dict({n: v for n, v in a.state_dict().items() if "_extra_state" not in n})
    assert torch.equal(a(inputs("linear")), b(inputs("linear")))


def test_older_permutations_were_buffers():
    Q = structmat.Monarch(np.arange(9.0).reshape(1, 3, 3), MIDDLE)
    weight = StructuredWeight(structmat.Permutation([2, 0, 1]) @ Q)
    state = {n: v for n, v in weight.state_dict().items() if n != "_extra_state"}
    state["contents.0.p"] = torch.tensor([1, 2, 0])
    weight.load_state_dict(state)
    np.testing.assert_allclose(weight.dense().detach(), Q.to_dense()[[1, 2, 0]])


def test_older_pickles_held_permutations_as_buffers():
    Q = structmat.Monarch(np.arange(9.0).reshape(1, 3, 3), MIDDLE)
    weight = StructuredWeight(structmat.Permutation([2, 0, 1]) @ Q)
    weight.contents.get_submodule("0").register_buffer("p", torch.tensor([2, 0, 1]))
    again = pickle.loads(pickle.dumps(weight))
    assert not list(again.buffers())
    assert torch.equal(again.dense(), StructuredWeight(weight.to_matrix()).dense())


def test_taps_of_equal_runs_may_become_one_structure():
    own, shared = (
        nn.Sequential(GaudiConv2d(4, 4, 3, form="taps", shared_masks=same, width_init="strips"))
        for same in (False, True)
    )
    for model in (own, shared):
        shared.load_state_dict(model.state_dict())
        x = torch.randn(2, 4, 6, 6)
        assert torch.equal(shared(x), model(x))


def test_parts_of_state_dicts():
    a, b = (converted("block_sparse", seed=seed) for seed in (0, 1))
    first = {n: v for n, v in a.state_dict().items() if n.startswith("0.")}
    with pytest.raises(RuntimeError, match=r"Missing key.*2\.matrix\._extra_state"):
        copy.deepcopy(b).load_state_dict(first)
    expected = copy.deepcopy(b)
    expected[0] = a[0]
    b.load_state_dict(first, strict=False)
    assert torch.equal(b(inputs("linear")), expected(inputs("linear")))


def refusals():
    fixed, learning = converted("block_sparse"), converted("gblr")
    uniform = {"num_blocks": 2, "width_init": "uniform"}
    wide = nn.Sequential(GaudiLinear(8, 8, max_width=6, **uniform))
    ringing = nn.Sequential(GaudiLinear(8, 8, straight_through=False, **uniform))
    yield converted("monarch"), fixed, "a monarch weight of 32x24.* a block_sparse weight"
    yield fixed, converted("low_rank"), "expected contents of the same shapes .*same Config and se"
    yield learning, fixed, "a weight that learns its structure, and the model a block_sparse"
    yield fixed, learning, "a weight of fixed structure, and the model a learning weight of shape"
    yield ringing, wide, "straight_through = False.* limited to"
    taps = [{"form": "taps", "shared_masks": shared, "budget": 0.6} for shared in (False, True)]
    own, shared = (nn.Sequential(GaudiConv2d(4, 4, 3, **options)) for options in taps)
    with torch.no_grad():
        own[0].taps[3].structure.row_location += 0.25
    yield own, shared, "0 has shared_masks = True, and the state dict has a row_location"


@pytest.mark.parametrize("case", range(6))
def test_other_structures_are_refused(case):
    there, here, message = list(refusals())[case]
    with pytest.raises(InputError, match=message):
        here.load_state_dict(there.state_dict())


def test_averages_of_state_dicts():
    a, b, c = (converted("block_sparse", seed=seed) for seed in (0, 0, 1))
    with torch.no_grad():
        [p.mul_(3) for p in b.parameters()]

    def mean(one, other, share=0.3):
        other = other.state_dict()
        return {n: (1 - share) * v + share * other[n] for n, v in one.state_dict().items()}

    state = mean(a, b)
    a.load_state_dict(state)
    assert torch.equal(a[0].matrix.contents.blocks, state["0.matrix.contents.blocks"])
    with pytest.raises(InputError, match=r"0\.matrix: .*wrong checksum.*average their floating"):
        a.load_state_dict(mean(a, c))
    wrapped = {n: v + other for (n, v), other in zip(state.items(), state.values(), strict=True)}
    with pytest.raises(InputError, match="wrong checksum"):
        a.load_state_dict(wrapped)


def test_damaged_states_are_refused():
    weight = StructuredWeight(structmat.BlockSparse(np.ones((1, 2, 2)), [0], [1], shape=(4, 4)))
    state = weight.get_extra_state()
    for position in range(0, len(state), 7):
        damaged = state.clone()
        damaged[position] ^= 16
        with pytest.raises(InputError, match="wrong checksum"):
            weight.set_extra_state(damaged)
    for other, message in ((None, "a NoneType for the structure"), (state[:9], "wrong checksum")):
        with pytest.raises(InputError, match=message):
            weight.set_extra_state(other)
    entry, arrays = decode(state)
    with pytest.raises(InputError, match="a structure that no block_sparse matrix has"):
        weight.set_extra_state(encode(entry, arrays | {"cols": np.array([9])}))


def test_a_newer_state_is_refused(monkeypatch):
    monkeypatch.setattr("structmat.nn.structured.state.FORMAT_VERSION", 2)
    state = encode({}, {})
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"version 2; .*reads up to 1 \(upgrade"):
        decode(state)


def test_functional_call_swaps_the_structure():
    a, b = (converted("block_sparse", seed=seed) for seed in (0, 1))
    x = inputs("linear")
    with torch.no_grad():
        before = b(x)
        assert torch.equal(torch.func.functional_call(b, a.state_dict(), (x,)), a(x))
        assert torch.equal(b(x), before)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_models_follow():
    a, b = (converted("block_sparse", seed=seed) for seed in (0, 1))
    x = inputs("linear")
    quick = torch.compile(b, backend="eager")
    torch.testing.assert_close(quick(x), b(x))
    quick.load_state_dict(torch.compile(a, backend="eager").state_dict())
    torch.testing.assert_close(quick(x), a(x))


@pytest.mark.slow
def test_models_with_structure_are_exported():
    a, x = converted("block_sparse"), inputs("linear")
    exported = torch.export.export(a, (x,))
    torch.testing.assert_close(exported.module()(x), a(x))


def test_settings_of_learning_weights_come_along():
    def layer(**options):
        return GaudiLinear(24, 16, num_blocks=5, width_init="uniform", **options)

    a, b = layer(granularity=4, sigma=3.0, min_width=4), layer()
    size = b.matrix.get_extra_state().shape
    b.load_state_dict(a.state_dict())
    assert (b.matrix.granularity, b.matrix.min_width, b.matrix.sigma) == (4, 4, 3.0)
    assert a.matrix.get_extra_state().shape == size, "distributed checkpoints need one size"
    x = inputs("linear")
    assert torch.equal(a(x), b(x))
    assert torch.equal(a.eval()(x), b.eval()(x))
    assert isinstance(b.matrix, GaudiWeight)


def test_an_average_of_a_frozen_model_is_one_of_its_contents():
    model, x = converted("frozen gblr"), inputs("linear")
    average = AveragedModel(model, use_buffers=True)
    average.update_parameters(model)
    assert torch.equal(average(x), model(x))
    other = AveragedModel(converted("frozen gblr", seed=0), use_buffers=True)
    other.load_state_dict(average.state_dict())
    assert torch.equal(other.eval()(x), average.eval()(x))


def test_a_state_dict_on_the_meta_device_changes_no_structure():
    model = converted("block_sparse")
    empty = copy.deepcopy(model).to("meta")
    model.load_state_dict({n: v.to("meta") for n, v in model.state_dict().items()}, assign=True)
    empty.load_state_dict(converted("block_sparse").state_dict(), assign=True)
    x = inputs("linear")
    assert torch.equal(empty(x), converted("block_sparse")(x))
    assert isinstance(empty[0], StructuredLinear)
