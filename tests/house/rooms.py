"""Rooms of the package: their order, read from one page, and the imports between them.

A room is a folder or a module at the root of the package. Some rooms have an order inside.
`docs/develop/architecture.md` holds the order; the tests and the picture on that page
take it from there.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "structmat"
ARCHITECTURE = ROOT / "docs" / "develop" / "architecture.md"
BLOCK = re.compile(r"^```text\n(structmat: .*?)^```$", re.MULTILINE | re.DOTALL)
REST = "…"  # a name that ends so stands for every module of the room that has no other place


def order_on(page):
    """Text of the order of rooms on a page: the fenced block that begins with `structmat:`."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    if len(found) != 1:
        raise ValueError(f"{page.name} shows {len(found)} orders of rooms; expected one")
    return found[0]


def parse(text):
    """Room -> levels, each a tuple of names; every name imports from earlier levels only."""
    order = {}
    for line in re.split(r"\n(?=\w)", text.strip()):
        room, _, levels = line.partition(":")
        order[room] = tuple(
            tuple(name.strip() for name in level.split(",")) for level in levels.split("→")
        )
    return order


ORDER = parse(order_on(ARCHITECTURE))


class Module(NamedTuple):
    """One file: its path, and the modules of the package that it imports."""

    path: Path
    imports: frozenset


def read(package=PACKAGE):
    """Dotted name -> `Module` of every module of a package folder."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: Module(path, _imports(name, path, paths)) for name, path in paths.items()}


def _imports(name, path, known):
    """Modules of the same package that a module imports, inside functions or not."""
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
    return frozenset(w for w in wanted if w.partition(".")[0] == root and w != name)


def place(name, order=ORDER):
    """Rooms that hold a module, outermost first: `("kernels", "cpu")`, or `("errors",)`."""
    parts = name.split(".")[1:] or ["__init__"]
    if len(parts) == 1 or parts[0] not in order:
        return (parts[0],)
    named = [n for level in order[parts[0]] for n in level]
    rest = [n for n in named if n.endswith(REST)]
    return (parts[0], parts[1] if parts[1] in named else rest[0] if rest else parts[1])


def levels(room, order=ORDER):
    """Name -> level of the rooms at the root (`"structmat"`) or inside a room."""
    return {name: i for i, names in enumerate(order[room]) for name in names}


def edges(modules, room, order=ORDER):
    """(importer, imported) -> pairs of module names, between the rooms on one floor.

    The floor is the root of the package (`"structmat"`) or the inside of a room.
    """
    found = {}
    for name, module in modules.items():
        for target in module.imports:
            ends = on_floor(name, room, order), on_floor(target, room, order)
            if None not in ends and ends[0] != ends[1]:
                found.setdefault(ends, []).append((name, target))
    return found


def on_floor(name, room, order=ORDER):
    """Room that holds a module on the floor of `room`; None if the module is elsewhere."""
    where = place(name, order)
    if room == "structmat":
        return where[0]
    return where[1] if len(where) == 2 and where[0] == room else None


def violations(modules, order=ORDER):
    """Imports that go to a later level or along one, as lines of text."""
    wrong = []
    for room in order:
        level = levels(room, order)
        for (here, there), pairs in sorted(edges(modules, room, order).items()):
            if {here, there} <= level.keys() and level[there] >= level[here]:
                wrong += [f"{name} imports {target}" for name, target in sorted(pairs)]
    return wrong


def unplaced(modules, order=ORDER):
    """Floor -> (rooms that the order lacks, rooms that are only in the order), if any."""
    differences = {}
    for room in order:
        found = {on_floor(name, room, order) for name in modules} - {None}
        named = set(levels(room, order))
        if found != named:
            differences[room] = (sorted(found - named), sorted(named - found))
    return differences
