"""A structure of somebody else: one file and one call, and everything knows it."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import DTYPES, contents

import structmat
from structmat._array import from_numpy, namespace_named
from structmat.cli import main
from structmat.testing import check_matrix

PAGE = Path(__file__).parents[2] / "docs" / "develop" / "adding_a_matrix.md"
DEAR = "a diagonal matrix costs 4; expected a cap of at least that, not 2: raise the budget"


def recipe():
    """The file that the page describes: its class, its fit, and its one call."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    marks = ("class MainDiagonal", "def fit", "structmat.register(")
    return "\n\n".join(["import numpy as np", *(b for b in blocks if any(m in b for m in marks))])


@pytest.fixture
def diagonal(own_kinds, tmp_path, monkeypatch):
    """The file, imported, in the present folder."""
    (tmp_path / "diagonal.py").write_text(recipe())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("diagonal")
    del sys.modules["diagonal"]


def dense(dtype="float64", shape=(6, 4)):
    """A diagonal matrix, entry by entry."""
    A = np.zeros(shape, dtype)
    for i, entry in enumerate(contents(dtype)(min(shape))):
        A[i, i] = entry
    return A


def run(*words):
    """A command in a fresh process, which imports the file in the present folder."""
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 4), (3, 7), (5, 5), (1, 1), (0, 3), (4, 0)])
def test_the_contract(diagonal, backend, dtype, shape):
    twin = dense(dtype, shape)
    A = diagonal.MainDiagonal(np.diagonal(twin).copy(), shape=shape)
    check_matrix(A.to(backend), from_numpy(twin, namespace_named(backend)))


def test_compress_and_compare(diagonal, backend):
    A = dense()
    result = structmat.compress(from_numpy(A, namespace_named(backend)), "main_diagonal", tol=1e-12)
    assert (result.kind, result.error, result.cost) == ("main_diagonal", 0.0, 4)
    assert isinstance(result.matrix, diagonal.MainDiagonal)
    assert result.matrix.xp is namespace_named(backend)
    rows = {row.kind: row for row in structmat.compare(A, budget=0.5, rng=0)}
    assert list(rows)[-1] == "main_diagonal"
    assert rows["main_diagonal"].matrix.kind == "main_diagonal"
    assert structmat.compare(A, budget=0.1, rng=0)[-1].note == DEAR


def test_files_in_a_fresh_process(diagonal):
    structmat.save("a.npz", structmat.compress(dense(), "main_diagonal", budget=0.5).matrix)
    program = "import diagonal, structmat; print(structmat.load('a.npz').d.tolist())"
    assert json.loads(run("-c", program)) == np.diagonal(dense()).tolist()
    both = structmat.load("a.npz") + structmat.Dense(dense())
    np.testing.assert_array_equal(both.to_dense(), 2 * dense())


def test_a_plot_shows_the_entries(diagonal):
    plt = pytest.importorskip("matplotlib.pyplot")
    A = structmat.compress(dense(), "main_diagonal", budget=0.5).matrix
    ax = structmat.plot.structure(A)
    assert ax.get_title().startswith("MainDiagonal 6x4")
    np.testing.assert_array_equal(ax.images[0].get_array(), np.eye(6, 4))
    ones = structmat.GBLR([0], [6], np.ones(6), [0], [4], np.ones(4), shape=(6, 4))
    ax = structmat.plot.structure(A + ones)
    np.testing.assert_array_equal(ax.images[0].get_array(), np.eye(6, 4) + 1)
    plt.close("all")


def test_networks(diagonal):
    torch = pytest.importorskip("torch")
    from structmat.nn import Config, convert_, cost, freeze_, load_model, save_model

    def network():
        torch.manual_seed(0)
        layers = [torch.nn.Linear(n, m) for n, m in ((24, 32), (32, 32), (32, 24))]
        return torch.nn.Sequential(layers[0], torch.nn.ReLU(), *layers[1:])

    for start in ("scratch", "weights"):
        model = network()
        weights = [p.detach().clone() for p in model.parameters() if p.ndim == 2]
        config = Config(kind="main_diagonal", budget=0.1, start=start)
        report = convert_(model, config, lambda name, _: name != "2")
        convert_(model, Config(budget=0.3), lambda name, _: name == "2")
        kinds = {row.name: (row.kind, row.cost) for row in cost(model).rows}
        assert kinds["0"] == kinds["3"] == ("main_diagonal", 24)
        assert kinds["2"][0] == "gblr"
        assert [row.name for row in report.rows] == ["0", "3"]
        if start == "weights":
            d = torch.diagonal(weights[0])
            torch.testing.assert_close(model[0].weight.diagonal(), d)
        x = torch.randn(5, 24)
        model(x).square().sum().backward()
        assert all(p.grad is not None for p in model[0].parameters())
        model.eval()
        before = model(x)
        freeze_(model)
        torch.testing.assert_close(model(x), before)
        assert cost(model).rows[0].kind == "main_diagonal"
        save_model("model.safetensors", model)
        again = load_model("model.safetensors", network()).eval()
        assert torch.equal(again(x), model(x))
        assert type(again[0].to_matrix()) is diagonal.MainDiagonal


def test_a_random_start_keeps_to_the_cap(diagonal):
    """MainDiagonal takes no factor into its contents; one beside them would cost 32 more."""
    torch = pytest.importorskip("torch")
    from structmat.nn.starts.kinds import network_kinds, random_init

    assert "main_diagonal" in network_kinds()
    matrix = random_init("main_diagonal", (32, 32), 40).draw(0.25, torch.Generator().manual_seed(0))
    assert (matrix.kind, matrix.cost) == ("main_diagonal", 32)
    assert matrix.to_dense().square().mean().item() == pytest.approx(0.25, rel=1e-4)


def test_the_command_line(diagonal, capsys):
    np.save("a.npy", dense())
    words = ["compress", "a.npy", "--to", "main_diagonal", "--tol", "1e-9", "-o", "a.npz", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "main_diagonal"
    assert main(["info", "a.npz"]) == 0
    assert main(["plot", "a.npz", "-o", "a.svg"]) == 0
    assert main(["compare", "a.npy", "--budget", "0.5"]) == 0
    assert "\nmain_diagonal " in capsys.readouterr().out
    assert main(["compare", "a.npy", "--budget", "0.1"]) == 0
    assert f"none: {DEAR}" in capsys.readouterr().out


def test_learning(diagonal, capsys):
    pytest.importorskip("sklearn")
    words = ["learn", "--kinds", "dense,main_diagonal,pixelfly", "--budget", "0.5", "--seeds", "1"]
    assert main([*words, "--epochs", "1", "-o", "out", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["kind"] for run in runs] == ["dense", "main_diagonal", "pixelfly"]
    assert {layer["kind"] for layer in runs[1]["layers"]} == {"main_diagonal"}
    page = Path("out/report.html").read_text(encoding="utf-8")
    # In the order of the table, by their labels.
    assert page.index(">dense<") < page.index(">Pixelfly<") < page.index(">main diagonal<")
    from structmat.learn.report import results

    colours = [kind.colour for kind in results.kinds_of({"runs": runs})]
    assert colours == ["#777777", "#0072B2", "#332288"]


def test_what_learn_compares_by_default_is_of_structmat(diagonal, capsys):
    with pytest.raises(SystemExit):
        main(["learn", "--help"])
    words = "".join(capsys.readouterr().out.split())
    assert "(default:dense,low_rank,block_sparse,block_low_rank,monarch,gblr_fixed,gblr," in words
    assert main(["learn", "--kinds", "dense,circulant"]) == 1
    known = "dense, low_rank, block_sparse, block_low_rank, monarch, pixelfly, gblr, hierarchical"
    assert f"expected some of {known}, main_diagonal, gblr_fixed" in capsys.readouterr().err


@pytest.fixture
def installed(diagonal, tmp_path):
    """The file as a package that names its kind as an entry point."""
    folder = tmp_path / "diagonal-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: diagonal\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[structmat.kinds]\ndiagonal = diagonal\n")
    np.save("a.npy", dense())


@pytest.mark.usefixtures("installed")
def test_the_command_knows_the_kinds_of_installed_packages():
    words = ["compress", "a.npy", "--to", "main_diagonal", "--tol", "0.1", "-o", "a.npz"]
    assert "MainDiagonal" in run("-m", "structmat", *words)
    assert "MainDiagonal" not in run("-c", "import structmat.cli, sys; print(*sys.modules)")


@pytest.mark.usefixtures("installed")
def test_a_package_that_fails_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "diagonal")
    (tmp_path / "diagonal.py").write_text("raise RuntimeError('half written')")
    assert main(["info", "a.npz"]) == 1
    message = capsys.readouterr().err
    assert "entry point 'diagonal' of 'structmat.kinds'" in message
    assert "RuntimeError: half written; mend or uninstall its package" in message
    sys.modules["diagonal"] = None  # what the fixture takes away


@pytest.mark.usefixtures("diagonal")
def test_a_file_in_no_package_is_imported_by_hand():
    np.save("a.npy", dense())
    program = "import diagonal, structmat.cli; structmat.cli.main()"
    words = ["compress", "a.npy", "--to", "main_diagonal", "--budget", "0.5", "-o", "a.npz"]
    assert "written to a.npz" in run("-c", program, *words)
