"""The documentation keeps its word: examples run, and every public name is there."""

import doctest
import importlib
import inspect
import pkgutil
import re
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import structmat
from structmat.cli import main
from structmat.demo import earthquake_kernel
from structmat.kernels.choice.calibrate import calibrate

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(`{3,})(\w+)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [p for p in PAGES if not {"_build", "_generated", "api"} & set(p.relative_to(ROOT).parts)]
MODULES = ["structmat", *(m.name for m in pkgutil.walk_packages(structmat.__path__, "structmat."))]
MODULES.remove("structmat.__main__")  # to import it is to run it
EXPORTED = [n for n in structmat.__all__ if not inspect.ismodule(getattr(structmat, n))]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def examples(text):
    """(language, source, line number) of every Python example on a page."""
    return [
        (language, source, text[: match.start()].count("\n") + 2)
        for match in FENCE.finditer(text)
        for language, source in [match.group(2, 3)]
        if language in ("python", "pycon")
    ]


def run_page(text, name):
    """Run a page's examples in order, in one namespace; return failed doctests as text."""
    # A module of its own, so that classes defined on the page can be pickled.
    module = sys.modules["example_page"] = types.ModuleType("example_page")
    names, failures = vars(module), []
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    for language, source, line in examples(text):
        if language == "python":
            exec(compile("\n" * (line - 1) + source, name, "exec"), names)
        else:
            test = doctest.DocTestParser().get_doctest(source, names, name, name, line - 1)
            runner.run(test, out=failures.append, clear_globs=False)
            names.update(test.globs)
    return "".join(failures)


@pytest.mark.usefixtures("own_kinds")
@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_on_pages_run(page, tmp_path, monkeypatch):
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run_page(text, str(page)) == ""


def test_commands_on_the_command_line_page_run(tmp_path, monkeypatch, user_cache):
    nn = pytest.importorskip("structmat.nn", reason="torch is not installed (extra torch)")
    page = (ROOT / "docs" / "guide" / "command_line.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ structmat (.+)$", page, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    np.save("matrix.npy", earthquake_kernel(48))
    np.save("points.npy", np.random.default_rng(0).random((48, 2)))
    np.save("B.npy", np.ones((48, 2)))
    nn.save_model("model.safetensors", nn.GaudiLinear(16, 8))
    # A minute on matrices of all sizes.
    monkeypatch.setattr("structmat.cli._calibrate.calibrate", partial(calibrate, sizes=(192,)))
    # The bare comparison takes its time; .ci/run runs it. So does learning.
    for command in [c for c in commands if c != "compare"]:
        assert main(command.split()) == 0, command


@pytest.mark.usefixtures("own_kinds")
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name, tmp_path, monkeypatch):
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    failures = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test, out=failures.append)
    assert "".join(failures) == ""


@pytest.mark.parametrize("name", EXPORTED)
def test_every_public_name_has_an_example(name):
    value = getattr(structmat, name)
    if not (inspect.isclass(value) and issubclass(value, Exception)):
        assert ">>> " in (value.__doc__ or ""), "give its docstring an example"


def test_every_page_is_in_the_contents():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    docs = ROOT / "docs"
    pages = {str(p.relative_to(docs).with_suffix("")) for p in PAGES if docs in p.parents}
    assert {p for p in pages if p != "index" and f"\n{p}\n" not in index} == set()


def test_a_wrong_example_is_found():
    page = "```python\nx = 2\n```\ntext\n```pycon\n>>> x + 1\n4\n```\n"
    failure = run_page(page, "page")
    assert "Expected:\n    4" in failure
    assert "Got:\n    3" in failure
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n1 / 0\n```\n", "page")
