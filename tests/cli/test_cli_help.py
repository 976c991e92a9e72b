"""Help that teaches by examples that run, and errors of one line with a remedy, of all commands."""

import argparse
import re
import shlex

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from structmat.cli import _parser, main
from structmat.cli._training_bar import training_bar
from structmat.demo import earthquake_kernel


def commands():
    """Name -> parser of every command."""
    (action,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


COMMANDS = commands()
EXAMPLE = re.compile(r"^  structmat (.+)$", re.MULTILINE)
#: Examples that take minutes, or a GPU: they are parsed. `.ci/run` runs the first two.
LONG = {"compare", "learn", "calibrate"}
#: What tells a way out.
REMEDY = re.compile(r"expected|choose|install|see structmat( \w+)? --help")


def examples(parser):
    return EXAMPLE.findall(parser.epilog or "")


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_ends_with_examples_and_what_they_do(name, capsys):
    parser = COMMANDS.get(name, _parser())
    with pytest.raises(SystemExit, match="0"):
        main([*name.split(), "--help"])
    lines = capsys.readouterr().out.split("\nexamples:\n")[1].splitlines()
    told = [line for line in lines if line.startswith("  structmat ")]
    assert [f"  structmat {words}" for words in examples(parser)] == told
    assert len(told) >= 2
    assert max(map(len, lines)) <= 100
    shown = [words for words in examples(parser) if words.startswith(name)]
    assert shown, "an example of the command itself"
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        said = after.startswith(("      ", "  structmat "))
        assert said or not line.startswith("  structmat "), f"{line!r} does not say what it does"


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_understood(name):
    for words in examples(COMMANDS[name]):
        assert _parser().parse_args(shlex.split(words)).run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that examples name."""
    torch = pytest.importorskip("torch")
    from structmat.nn import GaudiLinear, save_model

    folder = tmp_path_factory.mktemp("examples")
    A = earthquake_kernel(24)
    np.save(folder / "A.npy", A)
    np.save(folder / "B.npy", np.ones((24, 2)))
    np.save(folder / "points.npy", np.random.default_rng(0).random((24, 2)))
    scipy.io.mmwrite(folder / "A.mtx", scipy.sparse.coo_array(A + np.eye(24)))
    model = torch.nn.Sequential(GaudiLinear(16, 8))
    (folder / "folder").mkdir()
    for path in (folder / "model.safetensors", folder / "folder" / "model.safetensors"):
        save_model(path, model)
    assert main(["compress", str(folder / "A.npy"), "--to", "low_rank", "--budget", "0.2",
                 "-o", str(folder / "small.npz")]) == 0  # fmt: skip
    return folder


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("learn", "calibrate")])
def test_examples_run(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for words in examples(COMMANDS[name]):
        if words not in LONG:
            assert main(shlex.split(words)) == 0, (words, capsys.readouterr().err)


def fill(parser):
    """Words for all that a command requires; the files are absent."""
    needed = [
        a for a in parser._actions if a.required or (not a.option_strings and a.nargs is None)
    ]
    words = [[*a.option_strings[:1], f"absent-{a.dest}"] for a in needed]
    groups = [g._group_actions[0] for g in parser._mutually_exclusive_groups if g.required]
    words += [[a.option_strings[0], "0.5"] for a in groups]
    return [word for part in words for word in part]


def bad_lines():
    for name, parser in COMMANDS.items():
        yield [name, "--nonsense"]
        yield [name, *fill(parser), "one", "too", "many"]
        if fill(parser):
            yield [name]
            yield [name, *fill(parser)]
        for action in parser._actions:
            if action.option_strings and (action.type or action.choices):
                yield [name, *fill(parser), action.option_strings[-1], "x y"]
            if action.dest == "output":
                yield [name, *fill(parser), "--output", "no/such/folder/o"]


BAD = list(bad_lines())


def test_bad_lines_reach_every_command():
    assert {words[0] for words in BAD} == set(COMMANDS)
    assert len(BAD) > 60


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_errors_are_one_line_with_a_remedy(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert status in (1, 2)
    assert out == ""
    assert err.startswith("structmat: ")
    assert err.count("\n") == 1
    assert REMEDY.search(err), err
    assert list(tmp_path.iterdir()) == []


def test_trainings_tell_the_time_to_go(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("structmat.cli._training_bar.time.monotonic", lambda: now[0])
    with training_bar() as advance:
        for label, done, seconds in (("a", 0.1, 20), ("a", 0.2, 20), ("b", 0.3, 0), ("c", 0.55, 0)):
            advance(label, done, 0.5)
            now[0] += seconds
    assert capsys.readouterr().err.splitlines() == [
        " 10 %  a",
        " 30 %, 2:20 min to go  b",
        " 55 %, 40 s to go  c",
    ]


def test_calibration_says_on_a_terminal_how_long_it_takes(monkeypatch, capsys):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr("structmat.cli._calibrate.calibrate", stop)
    assert main(["calibrate"]) == 130
    assert "minutes" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert main(["calibrate"]) == 130
    assert "expected: one to two minutes" in capsys.readouterr().err
