"""What is public: the names in `__all__`, the reference page, and nothing else.

A module that nobody outside should import has no `__all__`. It begins with an underscore,
or the `__init__` of its folder lists it with a few words.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import structmat

PACKAGE = Path(structmat.__file__).parent
API = PACKAGE.parent / "docs" / "api.md"
PUBLIC_NAMES = {
    "BlockLowRank",
    "BlockSparse",
    "CompressionResult",
    "Dense",
    "GBLR",
    "LowRank",
    "Monarch",
    "Permutation",
    "StructuredMatrix",
    "compare",
    "compress",
    "convert",
    "interpolate",
    "load",
    "save",
}


def modules():
    """Every module but the one that runs when it is imported."""
    walked = pkgutil.walk_packages(structmat.__path__, "structmat.")
    return ["structmat", *(m.name for m in walked if m.name != "structmat.__main__")]


def documented():
    """(module, name) of every entry of the reference page."""
    page = API.read_text(encoding="utf-8")
    parts = (part.partition("\n") for part in page.split(".. currentmodule:: ")[1:])
    return [(m, name) for m, _, rest in parts for name in re.findall(r"^   (\w+)$", rest, re.M)]


WITH_ALL = [name for name in modules() if hasattr(importlib.import_module(name), "__all__")]
FOLDERS = sorted(p.parent for p in PACKAGE.rglob("__init__.py") if p.parent != PACKAGE)


def exported(module):
    """Public classes and functions of a module, by the name they are shown under."""
    objects = {n: getattr(importlib.import_module(module), n) for n in documented_all(module)}
    return {n: o for n, o in objects.items() if inspect.isclass(o) or inspect.isfunction(o)}


def documented_all(module):
    return importlib.import_module(module).__all__


@pytest.mark.parametrize("name", WITH_ALL)
def test_what_is_exported_is_documented(name):
    known = [getattr(importlib.import_module(m), n) for m, n in documented()]
    assert [n for n, o in exported(name).items() if o not in known] == []


def test_what_is_documented_is_exported_once():
    entries = documented()
    assert len(entries) == len(set(entries))
    objects = [getattr(importlib.import_module(m), name) for m, name in entries]
    assert len(objects) == len(set(objects)), "documented under two names"
    doors = {m for m, _ in entries}
    assert doors <= set(WITH_ALL)
    assert [(m, n) for m, n in entries if n not in documented_all(m)] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_folder_lists_its_modules(folder):
    name = ".".join((PACKAGE.name, *folder.relative_to(PACKAGE).parts))
    page = importlib.import_module(name).__doc__ or ""
    listed = set(re.findall(r"^(\w+(?:, \w+)*)(?:  |$)", page, re.M))
    listed = {word for line in listed for word in line.split(", ")}
    inside = {m.name for m in pkgutil.iter_modules([str(folder)])}
    assert {m for m in inside if not m.startswith("_")} <= listed


@pytest.mark.parametrize("name", WITH_ALL)
def test_all_is_sorted_and_there(name):
    # Names in capitals, then classes, then functions; each by the alphabet.
    listed = [n for n in documented_all(name) if n[0] != "_"]
    assert listed == sorted(listed, key=lambda n: (not n.isupper(), n[0].islower(), n))
    assert len(listed) == len(set(listed)), "a name stands there twice"
    assert [n for n in listed if not hasattr(importlib.import_module(name), n)] == []


def test_the_front_has_the_promised_names():
    assert set(structmat.__all__) >= PUBLIC_NAMES


def test_the_front_shows_nothing_else():
    inside = {m.name for m in pkgutil.iter_modules(structmat.__path__)}
    shown = {n for n in vars(structmat) if not n.startswith("_")} - inside
    assert shown - set(structmat.__all__) - {"keep_old_homes"} == set()


@pytest.mark.parametrize(("module", "name"), documented())
def test_every_public_name_has_a_docstring(module, name):
    assert (inspect.getdoc(getattr(importlib.import_module(module), name)) or "").strip()
