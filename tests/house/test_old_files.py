"""Files of every format version, and pickles of version 0.1.0, still load, with the same values."""

import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest

import structmat

FOLDER = Path(__file__).parents[1] / "fixtures" / "version_0_1_0"
FORMATS = [FOLDER, FOLDER.with_name("format_2")]
VALUES = np.load(FOLDER / "values.npz")
OUTPUTS = np.load(FOLDER / "outputs.npz")
NETWORKS = [name for name in OUTPUTS.files if name != "x"]


def same(matrix, name):
    """Compare with the values of that time: bit by bit, unless a sum of products makes them.

    The order of such a sum is up to BLAS, and differs between processors and runs.
    """
    summed = {
        "complex",
        "product",
        "low_rank",
        "block_low_rank",
        "monarch",
        "gblr",
        "sum",
        "adjoint",
    }
    units = 4 * (name.split("-")[0] in summed)
    eps = np.finfo(np.float64).eps
    scale = np.abs(VALUES[name]).max(initial=0)
    assert np.abs(matrix.to_dense() - VALUES[name]).max(initial=0) <= units * eps * scale


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", VALUES.files)
def test_a_file_of_a_matrix(name, folder):
    matrix = structmat.load(folder / f"{name}.npz")
    same(matrix, name)


def test_a_pickle_of_matrices():
    matrices = pickle.loads((FOLDER / "matrices.pkl").read_bytes())
    assert sorted(matrices) == sorted(VALUES.files)
    for name, matrix in matrices.items():
        same(matrix, name)
        again = pickle.loads(pickle.dumps(matrix))
        assert type(again) is type(matrix)


def net(torch):
    nn = torch.nn
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 32), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(32, 16))


def close(torch, model, name):
    with torch.no_grad():
        y = model.eval()(torch.from_numpy(OUTPUTS["x"])).numpy()
    np.testing.assert_allclose(y, OUTPUTS[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "file",
    [path for folder in FORMATS for path in sorted(folder.glob("*.safetensors"))],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_a_file_of_a_network(file):
    torch = pytest.importorskip("torch")
    from structmat.nn import load_model

    close(torch, load_model(file, net(torch)), file.stem)


def test_every_network_of_the_first_format_is_there():
    assert sorted(path.stem for path in FOLDER.glob("*.safetensors")) == sorted(NETWORKS)


@pytest.mark.parametrize("name", VALUES.files)
def test_todays_files_are_of_the_newest_format(name, tmp_path):
    """A change of the format needs a new version, and a folder of its files."""
    newest = FORMATS[-1] / f"{name}.npz"
    structmat.save(tmp_path / "a.npz", structmat.load(newest))
    assert (tmp_path / "a.npz").read_bytes() == newest.read_bytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pickle_of_a_network(name):
    torch = pytest.importorskip("torch")
    model = torch.load(FOLDER / "models.pt", weights_only=False)[name]
    close(torch, model, name)
    # What was learning goes on.
    model(torch.from_numpy(OUTPUTS["x"])).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_pickles_of_records():
    torch = pytest.importorskip("torch")
    records = torch.load(FOLDER / "records.pt", weights_only=False)
    assert records["config"].budget == 0.4
    assert records["cost"].rows[0].kind == "gblr"
    assert records["compression"].matrix.kind == "low_rank"


def test_pickles_of_a_training():
    torch = pytest.importorskip("torch")
    from structmat.nn import BudgetProjection, parameter_groups

    kept = torch.load(FOLDER / "training.pt", weights_only=False)
    model = kept["network"]
    with torch.no_grad():
        torch.testing.assert_close(model(kept["x"]), kept["y"], rtol=1e-5, atol=1e-6)
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-3, structure_lr=5e-3))
    optimizer.load_state_dict(kept["optimizer"])
    rule = BudgetProjection(model, optimizer, 0.3, 10, ramp=0.0)
    model(kept["x"]).sum().backward()
    optimizer.step()
    assert rule.step == 1
    assert rule.relative_cost <= 0.3
    assert kept["rules"].moves == {"every": 2}
    assert kept["images"].classes == ("a", "b")
    assert len(kept["text"].train) == 8


def test_old_homes_import_nothing_by_themselves():
    import sys

    old = sys.modules["structmat.nn.linear"]
    with pytest.raises(AttributeError):
        old.__path__  # noqa: B018
    with pytest.raises(AttributeError):
        old.NoSuchName  # noqa: B018


@pytest.mark.parametrize("old", sorted(structmat._moved._HOMES))
def test_a_new_home_is_there(old):
    pytest.importorskip("torch")
    importlib.import_module(structmat._moved._HOMES[old])
