"""Command lines that mean nothing: one line that says why, a status of their own, no leftovers."""

import errno
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

import structmat
from structmat.cli import main
from structmat.cli._streams import show

FILES = [
    "absent", "empty", "text.npy", "cut.npy", "cut.npz", "words.npy", "objects.npy", "cube.npy",
    "nan.npy", "two.npz", "image.png", "mat.mat", "pickle.npy", "bad.mtx", "bad.mtx.gz", "folder",
    "damaged.npz", "newer.npz",
]  # fmt: skip
NUMBERS = ["", "x", "-1", "nan", "inf", "1e30", "1e10x", "0x10", "9" * 400, "1.5", "٣٫٥"]


def lines():
    """Every line, by a name."""
    found = {}
    for name in FILES:
        found[f"compare {name}"] = ["compare", name, "--budget", ".5", "-o", "o.png"]
        found[f"compress {name}"] = ["compress", name, "--budget", ".5", "-o", "o"]
        found[f"solve {name}"] = ["solve", name, "right.npy", "-o", "o"]
        found[f"solve for {name}"] = ["solve", "low.npz", name, "--shift", "1", "-o", "o"]
        found[f"plot {name}"] = ["plot", name, "-o", "o.png"]
        found[f"info {name}"] = ["info", name]
        found[f"report {name}"] = ["report", name, "-o", "o"]
    for number in NUMBERS:
        short = number[:8]
        found[f"compare --seed {short}"] = ["compare", "low.npy", "--seed", number, "-o", "o.png"]
        found[f"compare --budget {short}"] = [
            "compare",
            "low.npy",
            "--budget",
            number,
            "-o",
            "o.png",
        ]
        found[f"solve --tol {short}"] = [
            "solve",
            "low.npz",
            "right.npy",
            "--tol",
            number,
            "-o",
            "o",
        ]
        found[f"solve --shift {short}"] = [
            "solve", "low.npz", "right.npy", "--shift", number, "-o", "o"
        ]  # fmt: skip
        found[f"compress --tol {short}"] = ["compress", "low.npy", "--tol", number, "-o", "o"]
        for option in ("--seeds", "--epochs", "--batch", "--threads", "--limit", "--lr"):
            found[f"learn {option} {short}"] = ["learn", option, number, "-o", "l"]
    for name, path in NAMES.items():
        found[f"compress to {name}"] = ["compress", "low.npy", "--budget", ".5", "-o", path]
        found[f"compress of {name}"] = ["compress", path, "--budget", ".5", "-o", "o"]
        found[f"solve to {name}"] = ["solve", "low.npz", "right.npy", "--shift", "1", "-o", path]
        found[f"plot to {name}"] = ["plot", "low.npz", "-o", path]
        found[f"learn to {name}"] = ["learn", "-o", path]
        found[f"info {name}"] = ["info", path]
        found[f"report {name}"] = ["report", path, "-o", "o"]
        found[f"report to {name}"] = ["report", "low.npz", "-o", path]
    soundly = ("solve --shift 1e30", "solve --shift 1.5", "solve --shift -1", "solve --shift ٣٫٥")
    for sound in soundly:
        found.pop(sound, None)
    for sound in ("compress --tol 1e30", "compress --tol 1.5", "learn --lr 1e30", "learn --lr 1.5"):
        del found[sound]
    for words in OTHERS:
        found[" ".join(words)] = words
    return found


#: Names that no file can have, or that lead nowhere.
NAMES = {
    "long": "x" * 300,
    "circle": "circle",
    "null": "a\0b",
    "letter": "a\ud800",
    "inside": "low.npy/x",
}
OTHERS = [
    [], ["--budget"], ["nonsense"], ["compare", "--nonsense"], ["compress"], ["info"],
    ["plot", "low.npz"], ["solve"], ["solve", "low.npz"], ["solve", "low.npz", "right.npy"],
    ["solve", "low.npz", "right.npy", "-o", "o"], ["solve", "low.npy", "right.npy", "-o", "o"],
    ["solve", "low.npz", "right.npy", "--shift", "1", "-o", "right.npy"],
    ["compress", "low.npy", "-o", "o"], ["compress", "low.npy", "--budget", ".5"],
    ["compress", "low.npy", "--budget", ".5", "--tol", ".1", "-o", "o"],
    ["compress", "low.npy", "--to", "toeplitz", "--tol", "1", "-o", "o"],
    ["compress", "low.npy", "--budget", ".5", "-o", "low.npy"],
    ["compress", "low.npy", "--budget", ".5", "-o", "link.npy"],
    ["compress", "low.npy", "--budget", ".5", "-o", "folder"],
    ["compress", "low.npy", "--budget", ".5", "-o", "no/such/o"],
    ["compress", "low.npy", "--budget", ".5", "-o", "pipe"], ["plot", "low.npz", "-o", "pipe"],
    ["compress", "low.npy", "--key", "a", "--budget", ".5", "-o", "o"],
    ["compress", "two.npz", "--key", "z", "--budget", ".5", "-o", "o"],
    ["compress", "low.npy", "--budget", "1e-9", "--to", "monarch", "-o", "o"],
    ["compare", "low.npy", "-o", "low.npy"], ["compare", "low.npy", "-o", "o.xyz"],
    ["compare", "low.npy", "-o", "folder"],
    ["report"], ["report", "low.npz", "-o", "low.npz"], ["report", "low.npz", "-o", "folder"],
    ["plot", "low.npz", "-o", "low.npz"], ["plot", "low.npz", "-o", "o.xyz"],
    ["learn", "--data", "nothing"], ["learn", "--data", "fashion-mnist", "-o", "l"],
    ["learn", "--data", "text", "--data-dir", "absent", "-o", "l"],
    ["learn", "--kinds", "", "-o", "l"], ["learn", "--kinds", "toeplitz", "-o", "l"],
    ["learn", "--model", "x"], ["learn", "-o", "low.npy"], ["learn", "--structure", "x"],
    ["learn", "--structure-lr", "1", "-o", "l"], ["learn", "-o", "no/such/folder"],
    ["calibrate", "--device", "abacus"], ["calibrate", "--device", "cuda:99"],
    ["calibrate", "--device", ""],
]  # fmt: skip
LINES = lines()
#: What tells a way out.
REMEDY = re.compile(r"expected|choose|install|leave it out|see structmat( \w+)? --help")


pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(0)
    low = rng.standard_normal((12, 2)) @ rng.standard_normal((2, 10))
    np.save(folder / "low.npy", low)
    (folder / "link.npy").symlink_to("low.npy")
    np.save(folder / "right.npy", np.ones(12))
    structmat.save(folder / "low.npz", structmat.LowRank(low[:, :2], low[:10, :2]))
    whole = (folder / "low.npz").read_bytes()
    (folder / "empty").write_bytes(b"")
    (folder / "text.npy").write_text("1 2 3")
    (folder / "cut.npy").write_bytes((folder / "low.npy").read_bytes()[:150])
    (folder / "cut.npz").write_bytes(whole[:300])
    np.save(folder / "words.npy", np.full((4, 4), "x"))
    np.save(folder / "objects.npy", np.array([[None]]), allow_pickle=True)
    np.save(folder / "cube.npy", np.ones((2, 2, 2)))
    np.save(folder / "nan.npy", np.full((4, 4), np.nan))
    np.savez(folder / "two.npz", a=low, b=low)
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "mat.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    (folder / "pickle.npy").write_bytes(b"\x80\x04]\x94.")
    (folder / "bad.mtx").write_text("%%MatrixMarket matrix array real general\n2 2\n1\n")
    (folder / "bad.mtx.gz").write_bytes(b"\x1f\x8b\x08" + bytes(20))
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "circle").symlink_to("circle")
    (folder / "damaged.npz").write_bytes(whole[:-200] + bytes(1) + whole[-199:])
    (folder / "newer.npz").write_bytes(
        whole.replace(b'"format_version": 2', b'"format_version": 9')
    )
    return folder


def state_of(folder):
    return {p: p.read_bytes() if os.path.isfile(p) else True for p in folder.rglob("*")}


@pytest.mark.parametrize("name", LINES)
def test_one_line_says_why(name, folder, monkeypatch, capsys, tmp_path, record_property):
    record_property("cells", 1)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = state_of(folder)
    try:
        status = main(LINES[name])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert status in (1, 2)
    assert out == ""
    assert err.startswith("structmat: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert REMEDY.search(err), err
    for path in set(state_of(folder)) - set(before):  # a folder for results may stand there, empty
        assert path.is_dir()
        path.rmdir()
    assert state_of(folder) == before


def test_there_are_many():
    assert len(LINES) >= 150


# Streams.


def command(*words, **options):
    code = "import sys; from structmat_command import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", code, *words], **options)


def test_readers_that_go_away_end_the_command_quietly(folder):
    read, write = os.pipe()
    os.close(read)
    done = command("info", str(folder / "low.npz"), stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    _, err = done.communicate()
    assert (done.returncode, err) == (141, b"")


@pytest.mark.parametrize("failing", ["write", "flush"])
def test_a_full_output_is_an_error(failing, monkeypatch, capsys):
    file = io.StringIO()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file, failing, full, raising=False)
    monkeypatch.setattr(sys, "stdout", file)
    assert show("a table") == 1
    said = capsys.readouterr().err
    assert said == "structmat: cannot print the result (No space left on device)\n"


def test_letters_that_a_locale_lacks_become_question_marks(folder, monkeypatch):
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", file)
    assert show("0.5 ± 0.1") == 0
    assert file.buffer.getvalue() == b"0.5 ? 0.1\n"


def test_closed_streams_lead_nowhere(folder, tmp_path):
    output = tmp_path / "o"
    words = ["compress", str(folder / "low.npy"), "--to", "low_rank", "--budget", ".5"]
    closed = lambda: [os.close(number) for number in range(3)]  # noqa: E731
    done = command(*words, "-o", str(output), preexec_fn=closed)
    assert done.wait() == 0
    assert structmat.load(output).shape == (12, 10)


@pytest.mark.parametrize("moment", ["during the imports", "during the work"])
def test_an_interrupt_ends_with_130(moment, folder):
    code = (
        "import sys, signal, os\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'scipy': os.kill(os.getpid(), signal.SIGINT)\n"
        "if sys.argv.pop() == 'during the imports': sys.meta_path.insert(0, Finder())\n"
        "else:\n"
        "    import structmat.cli._matrices as matrices\n"
        "    matrices.read = lambda path: os.kill(os.getpid(), signal.SIGINT) or 1\n"
        "from structmat_command import main\n"
        "sys.exit(main())\n"
    )
    words = [sys.executable, "-c", code, "info", str(folder / "low.npz"), moment]
    done = subprocess.run(words, capture_output=True)
    assert (done.returncode, done.stderr) == (130, b"structmat: interrupted\n")


def test_a_sparse_or_structured_file_is_an_input(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    low = np.load(folder / "low.npy")
    scipy.sparse.save_npz("ending.dat", scipy.sparse.csr_array(low))
    os.rename("ending.dat.npz", "ending.dat")
    for name in ("ending.dat", str(folder / "low.npz")):
        words = ["compress", name, "--to", "low_rank", "--budget", ".9", "-o", "o"]
        assert main(words) == 0, capsys.readouterr().err
    assert structmat.load("o").shape == (12, 10)
