"""Damaged files: each is refused with a reason, or loads exactly what was saved."""

import copy
import json

import numpy as np
import pytest
from cases import CASES, contents
from mutations import ARCHIVES, CONFIGS, FOREIGN, TENSORS, bounded, every_bit, random_damage, timed

import structmat
from structmat.errors import StructmatError

NAMES = ["low_rank", "gblr", "block_sparse-ragged", "block_low_rank-dense-tiles", "monarch",
         "permutation", "sum", "product"]  # fmt: skip


def numbers(short, long):
    """Numbers of damaged files that are tried by default, and in the long table."""
    return [
        pytest.param(short, id="thinned"),
        pytest.param(long, id="whole", marks=pytest.mark.slow),
    ]


def same_matrix(A, B):
    """Equal to the bit: kind, structure, contents."""
    (one, arrays), (other, others) = structmat.io.describe(A), structmat.io.describe(B)
    pairs = [(np.asarray(a), np.asarray(others.get(n))) for n, a in arrays.items()]
    return (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
        and arrays.keys() == others.keys()
        and all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)
    )


class Table:
    """Counts of damaged files that one loader met."""

    def __init__(self, load, same, name=None):
        self.load, self.same, self.name, self.tried, self.refused = load, same, name, 0, 0

    def add(self, data, path):
        """Refused with a reason, or one of the saved things; within time and memory."""
        path.write_bytes(data)
        self.tried, name = self.tried + 1, self.name or str(path)
        try:
            found = timed(lambda: self.load(path))
        except StructmatError as error:
            self.refused += 1
            told = str(error)
        else:
            told = f"{name}, as expected" if self.same(found) else "something else was loaded"
        assert name in told, told
        assert any(word in told for word in ("expected", "upgrade", "start again")), told

    def add_damaged(self, samples, rewrites, count, path, seed):
        """A number of damaged samples, and files of other programs."""
        rng = np.random.default_rng(seed)
        for _ in range(count):
            self.add(random_damage(rng, samples, rewrites), path)
        for data in FOREIGN:
            self.add(data, path)

    def note(self, record):
        record("cells", self.tried)
        record("refused", self.refused)


@pytest.fixture(scope="module")
def matrices():
    return [CASES[name](contents("float32"))[0] for name in NAMES]


@pytest.fixture
def archive(matrices, tmp_path):
    """Samples of saved matrices, and the table of their loader."""
    samples = []
    for matrix in matrices:
        structmat.save(tmp_path / "sample.npz", matrix)
        samples.append((tmp_path / "sample.npz").read_bytes())
    return samples, Table(structmat.load, lambda B: any(same_matrix(A, B) for A in matrices))


@pytest.mark.parametrize("step", numbers(331, 1))
def test_matrices_with_one_bit_wrong(step, archive, tmp_path, record_property):
    samples, table = archive
    with bounded():
        for data in samples:
            for damaged in every_bit(data, step):
                table.add(damaged, tmp_path / "a.npz")
    assert table.refused > 0.5 * table.tried
    table.note(record_property)


@pytest.mark.parametrize("count", numbers(400, 100_000))
def test_damaged_matrices(count, archive, tmp_path, record_property):
    samples, table = archive
    with bounded():
        table.add_damaged(samples, ARCHIVES, count, tmp_path / "a.npz", seed=1)
    table.note(record_property)


@pytest.fixture
def model_file(tmp_path):
    torch = pytest.importorskip("torch")
    from structmat.nn import Config, convert_, freeze_, load_model, save_model

    torch.manual_seed(0)

    def dense():
        return torch.nn.Sequential(
            torch.nn.Linear(20, 16), torch.nn.ReLU(), torch.nn.Linear(16, 12)
        )

    saved, samples = [], []
    for kind in ("gblr", "block_sparse", "low_rank"):
        config = Config(budget=0.5, kind=kind, learn=False, min_features=1)
        model = dense()
        convert_(model, config)
        frozen = copy.deepcopy(model)
        freeze_(frozen)
        for form in (model, frozen):
            save_model(tmp_path / "sample", form)
            samples.append((tmp_path / "sample").read_bytes())
            saved.append(_tensors(form))
    learning = dense()
    convert_(learning, Config(budget=0.5, min_features=1, learn="gaudi"))
    save_model(tmp_path / "sample", learning)
    samples.append((tmp_path / "sample").read_bytes())
    saved.append(_tensors(learning))

    def load(path):
        return _tensors(load_model(path, dense()))

    return samples, Table(load, lambda found: any(_equal(found, one) for one in saved))


def _tensors(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _equal(found, saved):
    return found.keys() == saved.keys() and all(
        tensor.dtype == saved[name].dtype
        and tensor.shape == saved[name].shape
        and tensor.numpy().tobytes() == saved[name].numpy().tobytes()
        for name, tensor in found.items()
    )


@pytest.mark.parametrize("count", numbers(150, 50_000))
def test_damaged_models(count, model_file, tmp_path, record_property):
    samples, table = model_file
    with bounded():
        table.add_damaged(samples, TENSORS, count, tmp_path / "m.safetensors", seed=2)
    assert table.refused > 0.5 * table.tried
    table.note(record_property)


@pytest.mark.parametrize("count", numbers(100, 20_000))
def test_damaged_states_of_a_training(count, tmp_path, record_property):
    torch = pytest.importorskip("torch")
    from structmat.learn import _state

    def training():
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 4))
        return model, torch.optim.AdamW(model.parameters())

    samples, saved = [], []
    for epoch in (1, 2):
        model, optimizer = training()
        for _ in range(epoch):
            model(torch.ones(2, 6)).square().sum().backward()
            optimizer.step()
        _state.save(tmp_path / "sample", model, optimizer, (), {"seed": 3}, epoch, {"kept": [1]})
        samples.append((tmp_path / "sample").read_bytes())
        saved.append((epoch, _tensors(model), optimizer.state_dict()["state"]))

    def load(path):
        model, optimizer = training()
        epoch, header = _state.load(path, model, optimizer, (), {"seed": 3})
        assert header["kept"] == [1]
        return epoch, _tensors(model), optimizer.state_dict()["state"]

    def same(found):
        return any(
            found[0] == epoch
            and _equal(found[1], tensors)
            and all(_equal(found[2][i], state[i]) for i in state)
            for epoch, tensors, state in saved
        )

    table = Table(load, same)
    with bounded():
        table.add_damaged(samples, TENSORS, count, tmp_path / "s.safetensors", seed=4)
    assert table.refused > 0.5 * table.tried
    table.note(record_property)


@pytest.mark.parametrize("count", numbers(150, 20_000))
def test_damaged_structures_of_pretrained_models(count, tmp_path, record_property):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")
    from structmat.nn import Config, convert_, freeze_, hf

    samples, saved = [], []
    for kind in ("gblr", "frozen gblr", "block_sparse", "monarch"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Linear(16, 12))
        kind_of = kind.removeprefix("frozen ")
        convert_(model, Config(budget=0.5, kind=kind_of, min_features=1))
        if kind.startswith("frozen"):
            freeze_(model)
        config = hf.StructureConfig.of(model)
        samples.append(config.structure.encode())
        saved.append(config.content())

    def load(path):
        text = path.read_bytes().decode("latin1")
        try:
            config = hf.StructureConfig(text)
            config.build(weights=4096)
        except StructmatError:  # perhaps one of version 1, which has no digest
            config = hf.StructureConfig(text, format_version=1)
            config.build(weights=4096)
        return config.content(weights=4096)

    table = Table(load, lambda found: found in saved, "'config.json'")
    with bounded():
        table.add_damaged(samples, CONFIGS, count, tmp_path / "structure", seed=7)
    assert table.refused > 0.5 * table.tried
    table.note(record_property)
