"""The house has one direction: each room imports only from rooms before it.

Imports are read from the source, so an import inside a function counts like any
other. A new room fails here until it has its place in `docs/develop/architecture.md`.
"""

from graphlib import CycleError, TopologicalSorter

import pytest
import rooms

SMALL = rooms.parse("structmat: low → __init__, hall\nhall: a, b → rest…\n")


@pytest.fixture(scope="module")
def package():
    return rooms.read()


def graph(modules):
    return {name: module.imports for name, module in modules.items()}


def test_every_room_has_its_place(package):
    assert rooms.unplaced(package) == {}


def test_imports_go_one_way(package):
    assert rooms.violations(package) == []


def test_no_import_cycle_anywhere(package):
    list(TopologicalSorter(graph(package)).static_order())


def test_contributing_shows_the_same_order():
    page = rooms.ROOT / "CONTRIBUTING.md"
    assert rooms.order_on(page) == rooms.order_on(rooms.ARCHITECTURE)


@pytest.mark.parametrize("count", [0, 2])
def test_a_page_shows_one_order(tmp_path, count):
    page = tmp_path / "page.md"
    page.write_text("```text\nstructmat: a → b\n```\n" * count)
    with pytest.raises(ValueError, match=f"{count} orders of rooms; expected one"):
        rooms.order_on(page)


def test_an_order_is_parsed():
    text = "structmat: errors, checks → kernels\n           → cli\nkernels:   a → b…\n"
    assert rooms.parse(text) == {
        "structmat": (("errors", "checks"), ("kernels",), ("cli",)),
        "kernels": (("a",), ("b…",)),
    }


@pytest.fixture
def house(tmp_path):
    """Build and read a package of this name from a mapping of file to source."""

    def build(**sources):
        package = tmp_path / "structmat"
        for name, source in {"__init__": "", **sources}.items():
            path = package / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return rooms.read(package)

    return build


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("errors", "import structmat.matrix"),
        ("errors", "from structmat import matrix"),
        ("errors", "from .matrix import A"),
        ("errors", "def late():\n    from structmat.matrix import A"),
        ("errors", "def late():\n    importlib.import_module('structmat.matrix')"),
        ("errors", "from structmat import __version__"),
        ("io", "from structmat.plot import structure"),
    ],
)
def test_a_wrong_import_is_found(house, room, source):
    modules = house(**{room: source}, matrix="", plot="")
    assert len(rooms.violations(modules)) == 1


def test_right_imports_pass(house):
    modules = house(errors="", cli="import structmat\nfrom structmat.errors import X\nimport numpy")
    assert rooms.violations(modules) == []


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("a", "from structmat.hall import front", ["a imports front"]),
        ("a", "from structmat.hall.b import f", ["a imports b"]),
        ("front", "from structmat.hall.a import f\nfrom structmat.hall.other import g", []),
    ],
)
def test_imports_inside_a_room(house, room, source, wrong):
    modules = house(
        **{f"hall__in__{name}": "" for name in ("__init__", "b", "front", "other")}
        | {"hall__in__a__in____init__": "", f"hall__in__{room}": source}
    )
    found = rooms.violations(modules, SMALL)
    assert [line.replace("structmat.hall.", "") for line in found] == wrong


def test_a_room_without_a_place_is_found(house):
    modules = house(attic="", hall__in____init__="", hall__in__a="", hall__in__other="")
    assert rooms.unplaced(modules, SMALL) == {
        "structmat": (["attic"], ["low"]),
        "hall": ([], ["b"]),
    }


def test_a_cycle_inside_a_package_is_found(house):
    modules = house(
        kernels__in____init__="from structmat.kernels.cpu import f",
        kernels__in__cpu="from structmat.kernels import g",
    )
    assert rooms.violations(modules) == []
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph(modules)).static_order())
