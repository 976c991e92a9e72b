"""A class is abstract or final, and has a name of its own.

No class defines a method that one of our own bases has a body for, so that for each object
there is one place to read what a method does. Exempt are constructors, which are called by
the name of their class, and exceptions, which derive from each other to be caught together.
Methods of other packages' bases may be overridden.
"""

import functools
import importlib
import inspect
import itertools
import pkgutil
import sys
from abc import ABC
from collections import defaultdict

import pytest

import structmat

# One adapter for each of two trainers; they do the same.
ADAPTERS = {"StructureCallback"}
CONSTRUCTORS = {"__init__", "__new__", "__init_subclass__"}
METHODS = (
    type(lambda: None),
    classmethod,
    staticmethod,
    property,
    functools.cached_property,
    functools.partialmethod,
    functools.singledispatchmethod,
)


def modules(package):
    """Names of all modules of a package but the one that runs when it is imported."""
    walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [package.__name__, *(m.name for m in walked if not m.name.endswith(".__main__"))]


def imported(name):
    """A module, or the error by which it says that another package is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        ours = (missing.name or "").partition(".")[0] == name.partition(".")[0]
        if ours:
            raise
        return missing


def classes_in(module):
    """Classes that a module defines, and those inside them."""
    found, spaces = [], [module]
    for space in spaces:
        inside = [value for value in vars(space).values() if inspect.isclass(value)]
        own = [c for c in inside if c.__module__ == module.__name__ and c not in found]
        found += own
        spaces += own
    return found


def classes_of(package):
    parts = [imported(name) for name in modules(package)]
    return [c for p in parts if not isinstance(p, ImportError) for c in classes_in(p)]


def bases_of(cls):
    """Bases that the same package defines, the nearest first."""
    package = cls.__module__.partition(".")[0]
    return [base for base in cls.__mro__[1:] if base.__module__.partition(".")[0] == package]


def is_protocol(cls):
    return getattr(cls, "_is_protocol", False)


def is_abstract(cls):
    members = (inspect.getattr_static(cls, name) for name in dir(cls))
    lacking = any(getattr(member, "__isabstractmethod__", False) for member in members)
    return lacking or is_protocol(cls) or ABC in cls.__bases__


def overridden(cls):
    """Concrete methods of its bases that a class defines again, and bases that are concrete."""
    if issubclass(cls, BaseException):
        return []
    own = [name for name, value in vars(cls).items() if isinstance(value, METHODS)]
    wrong = []
    for base in bases_of(cls):
        if not is_abstract(base):
            wrong.append(f"{cls.__qualname__} derives from {base.__qualname__}, which is concrete")
        for name in own:
            method = None if is_protocol(base) else vars(base).get(name)
            concrete = not getattr(method, "__isabstractmethod__", False)
            if isinstance(method, METHODS) and concrete and name not in CONSTRUCTORS:
                wrong.append(f"{cls.__qualname__}.{name} overrides {base.__qualname__}'s")
    return wrong


def room_of(cls):
    """The folder that a class is in, down to the second level below the package."""
    module = sys.modules[cls.__module__]
    folder = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
    return ".".join(folder.split(".")[:3])


def places(classes):
    """Name -> homes of the classes that have it; a leading underscore makes no other name."""
    found = defaultdict(list)
    for cls in classes:
        found[cls.__name__.lstrip("_")].append(f"{cls.__module__}.{cls.__qualname__}")
    return found


def homonyms(classes):
    """Classes of one room with one name."""
    rooms = itertools.groupby(sorted(classes, key=room_of), room_of)
    named = [item for _, own in rooms for item in places(own).items()]
    return [", ".join(homes) for name, homes in named if len(homes) > 1 and name not in ADAPTERS]


def public_homonyms(package, classes):
    """Exported classes whose name another class has, in whatever room."""
    fronts = [imported(name) for name in modules(package)]
    public = {name for front in fronts for name in getattr(front, "__all__", ())} - ADAPTERS
    return [
        ", ".join(homes)
        for name, homes in places(classes).items()
        if name in public and len(homes) > 1
    ]


@pytest.mark.parametrize("name", modules(structmat))
def test_a_class_is_abstract_or_final(name):
    module = imported(name)
    if isinstance(module, ImportError):
        pytest.skip(str(module))
    assert [line for cls in classes_in(module) for line in overridden(cls)] == []


def test_a_name_is_one_class_in_a_room():
    assert homonyms(classes_of(structmat)) == []


def test_a_public_name_is_one_class():
    assert public_homonyms(structmat, classes_of(structmat)) == []


def test_the_adapters_are_two():
    homes = places(classes_of(structmat))
    assert {name: len(homes[name]) for name in ADAPTERS} == dict.fromkeys(ADAPTERS, 2)


ABSTRACT = """
from abc import ABC, abstractmethod
from typing import Protocol
class Shape(ABC):
    @property
    @abstractmethod
    def area(self): ...
    def show(self): ...
class Sized(Protocol):
    def size(self): ...
"""


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Import a package of this name from a mapping of file to source."""

    def build(**sources):
        folder = tmp_path / "planted"
        for name, source in {"__init__": "", "abstract": ABSTRACT, **sources}.items():
            path = folder / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        return importlib.import_module("planted")

    yield build
    for name in [name for name in sys.modules if name.partition(".")[0] == "planted"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("class A(Shape):\n def show(self): ...", "A.show overrides Shape's"),
        ("class A(Shape):\n @property\n def show(self): ...", "A.show overrides Shape's"),
        ("class A(Shape):\n @classmethod\n def show(cls): ...", "A.show overrides Shape's"),
        ("class A(Shape):\n show = lambda self: 1", "A.show overrides Shape's"),
        ("class A(Sized):\n class B(Shape):\n  def show(self): ...", "A.B.show overrides Shape's"),
        ("class A: ...\nclass B(A): ...", "B derives from A, which is concrete"),
        (
            "class A(Shape):\n def area(self): ...\nclass B(A):\n def more(self): ...",
            "B derives from A, which is concrete",
        ),
    ],
)
def test_a_wrong_class_is_found(planted, body, complaint):
    package = planted(wrong=f"from planted.abstract import *\n{body}")
    assert [line for cls in classes_of(package) for line in overridden(cls)] == [complaint]


@pytest.mark.parametrize(
    "body",
    [
        "class A(Shape):\n def __init__(self): ...\n def area(self): ...\n def more(self): ...",
        "class A(Sized):\n def size(self): ...",
        "class A(dict):\n def keys(self): ...\n def __repr__(self): ...",
        "class A(Exception): ...\nclass B(A):\n def __str__(self): ...",
        "class A(ABC):\n @abstractmethod\n def f(self): ...\nclass B(A):\n def f(self): ...",
    ],
)
def test_right_classes_pass(planted, body):
    package = planted(right=f"from planted.abstract import *\n{body}")
    assert [line for cls in classes_of(package) for line in overridden(cls)] == []


@pytest.mark.parametrize(
    ("sources", "room", "public"),
    [
        ({"a": "class A: ...", "b": "class _A: ..."}, 1, 0),
        ({"a": "class A: ...", "room__in____init__": "", "room__in__b": "class A: ..."}, 0, 0),
        ({"room__in____init__": "class A: ...", "room__in__b": "class A: ..."}, 1, 0),
        ({"a": "__all__ = ['A']\nclass A: ...", "b": "from planted.a import A"}, 0, 0),
        (
            {
                "a": "__all__ = ['A']\nclass A: ...",
                "room__in____init__": "",
                "room__in__b": "class _A: ...",
            },
            0,
            1,
        ),
    ],
)
def test_homonyms_are_found(planted, sources, room, public):
    package = planted(**sources)
    classes = classes_of(package)
    assert len(homonyms(classes)) == room
    assert len(public_homonyms(package, classes)) == public


def test_what_is_missing_is_told_from_what_is_broken(planted):
    planted(without="import no_such_package", broken="from planted.abstract import Nothing")
    assert "no_such_package" in str(imported("planted.without"))
    with pytest.raises(ImportError, match="Nothing"):
        imported("planted.broken")
