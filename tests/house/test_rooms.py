"""The house has one direction: each room imports only from rooms to its left.

Imports are read from the source, so an import inside a function counts like any
other. A new module fails here until it has its place in `ROOMS`.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import structmat

PACKAGE = Path(structmat.__file__).parent

# Rooms on one line stand side by side and do not import each other.
ROOMS = (
    ("errors", "_moved"),
    ("_checks", "_write"),
    ("_array",),
    ("intervals",),
    ("kernels",),
    ("kinds", "_operand"),
    ("_operators",),
    ("matrix",),
    ("binding",),
    ("matrices",),
    ("convert", "compress", "interpolate"),
    ("io", "_input", "plot", "testing"),
    ("demo",),
    ("__init__",),
    ("nn",),
    ("learn",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


def modules(package):
    """Dotted name -> path of every module of a package folder."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name, path, known):
    """Modules among `known` that the module `name` imports, wherever it does so."""
    root = name.partition(".")[0]
    container = name if path.name == "__init__.py" else name.rpartition(".")[0]
    wanted = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = container.split(".")[: len(container.split(".")) - node.level + 1]
                source = ".".join([*above, source]).rstrip(".")
            # `from package import module` imports the module, not the package's front.
            full = {alias.name: f"{source}.{alias.name}" for alias in node.names}
            wanted |= {full[a] if full[a] in known else source for a in full}
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            wanted |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return {w for w in wanted if w.partition(".")[0] == root and w != name}


def room_of(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def violations(package):
    """Every import that goes to the right, or sideways, as a line of text."""
    known = modules(package)
    wrong = []
    for name, path in known.items():
        here = room_of(name)
        for target in sorted(imports(name, path, known)):
            there = room_of(target)
            if here != there and LEVEL[there] >= LEVEL[here]:
                wrong.append(f"{name} imports {target}")
    return wrong


def graph(package):
    known = modules(package)
    return {name: imports(name, path, known) for name, path in known.items()}


def test_every_module_has_its_room():
    found = {room_of(name) for name in modules(PACKAGE)}
    assert found == set(LEVEL), "place new rooms in ROOMS, and remove rooms that are gone"


def test_imports_go_one_way():
    assert violations(PACKAGE) == []


def test_no_import_cycle_anywhere():
    list(TopologicalSorter(graph(PACKAGE)).static_order())


@pytest.fixture
def house(tmp_path):
    """Build a package of this name from a mapping of file to source."""

    def build(**sources):
        package = tmp_path / "structmat"
        for name, source in {"__init__": "", **sources}.items():
            path = package / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return package

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
    package = house(**{room: source}, matrix="", plot="")
    assert len(violations(package)) == 1


def test_right_imports_pass(house):
    package = house(errors="", cli="import structmat\nfrom structmat.errors import X\nimport numpy")
    assert violations(package) == []


def test_a_cycle_inside_a_package_is_found(house):
    package = house(
        kernels__in____init__="from structmat.kernels.cpu import f",
        kernels__in__cpu="from structmat.kernels import g",
    )
    assert violations(package) == []
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph(package)).static_order())
