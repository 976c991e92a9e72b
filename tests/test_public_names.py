"""`__all__` of every public module is exactly what is public in it."""

import importlib
import inspect
import pkgutil

import pytest

import structmat

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


def public_modules():
    """Names of all modules without a leading underscore in any part."""
    walked = pkgutil.walk_packages(structmat.__path__, "structmat.")
    return ["structmat", *(m.name for m in walked if "._" not in m.name)]


def defined_names(module):
    """Public classes, functions and constants that the module itself defines.

    Constants are told by their spelling; everything else knows where it was written.
    """
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", public_modules())
def test_all_is_what_is_public(name):
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])  # a bare package needs none
    assert len(listed) == len(set(listed)), "a name stands there twice"
    assert [n for n in listed if not hasattr(module, n)] == []
    assert defined_names(module) - set(listed) == set(), "public, but not in __all__"


@pytest.mark.parametrize("name", public_modules())
def test_all_is_sorted(name):
    # Names in capitals, then classes, then functions; each by the alphabet.
    listed = [n for n in getattr(importlib.import_module(name), "__all__", []) if n[0] != "_"]
    assert listed == sorted(listed, key=lambda n: (not n.isupper(), n[0].islower(), n))


def test_the_front_has_the_promised_names():
    assert set(structmat.__all__) - {"__version__"} >= PUBLIC_NAMES


def test_the_front_shows_nothing_else():
    modules = {m.name for m in pkgutil.iter_modules(structmat.__path__)}
    shown = {n for n in vars(structmat) if not n.startswith("_")} - modules
    assert shown - set(structmat.__all__) == set()


def test_every_public_name_has_a_docstring():
    for name in structmat.__all__:
        if name != "__version__":
            assert (inspect.getdoc(getattr(structmat, name)) or "").strip(), name
