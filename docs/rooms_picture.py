"""The picture of the rooms, drawn from the imports when the documentation is built.

A column shows the rooms of the package, panels beside it the insides of the larger ones.
Arrows lead from a room down to what it imports. An import that follows from other arrows
in a row has none of its own, and the room that all may import lies below as a slab.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path as FilePath
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from scipy.optimize import isotonic_regression

sys.path.insert(0, str(FilePath(__file__).parents[1] / "tests" / "house"))

import rooms

WIDTH, HEIGHT, MARGIN, GAP = 8.1, 9.8, 0.1, 0.2  # inches
COLUMN = 4.45  # inches from the left edge to the end of the column
INK, QUIET, LINE, GROUND = "#1b3650", "#48637d", "#7b9bb8", "#f1f5f9"
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9dc0de"])
DARKEST = 5000  # lines of code of the darkest box
MOST = 4  # rooms in a row

Edge = tuple[str, str]
Frame = tuple[float, float, float, float]  # left, top, right, bottom
Slot = str | tuple[str, int]  # a room, or where arrows to a room pass a row
Places = dict[Slot, tuple[float, float]]


class Floor(NamedTuple):
    """Rooms on one floor: rows from top to bottom, arrows, and lines of code."""

    rows: list[list[str]]
    edges: list[Edge]
    lines: dict[str, int]


class Scale(NamedTuple):
    """Sizes on a floor: text in points; heights of boxes and widths of arrows in inches."""

    text: float
    height: float
    passing: float

    def width(self, room: str) -> float:
        """Width of the box of a room."""
        return max(0.082 * self.text, 0.0098 * self.text * len(label(room)) + 0.12)

    def slot(self, slot: Slot) -> float:
        """Width of a slot, with the space beside it."""
        return self.width(slot) + 0.12 if isinstance(slot, str) else self.passing


def architecture() -> Figure:
    """Draw the column of rooms, and a panel for each that has rooms of its own."""
    modules = rooms.read()
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0), aspect="equal")
    axes.axis("off")

    column = Scale(text=9.5, height=0.42, passing=0.22)
    slab = HEIGHT - MARGIN - column.height
    whole = read_floor(modules, "structmat")
    draw(axes, whole, column, arrange(whole, column, (MARGIN, MARGIN, COLUMN, slab)))
    (base,) = rooms.ORDER["structmat"][0]
    frame = (MARGIN, slab, COLUMN, HEIGHT - MARGIN)
    draw_box(axes, frame, column, base, whole.lines[base], ", and every room may import it")

    detail = Scale(text=8.5, height=0.38, passing=0.2)
    panels = [room for row in whole.rows for room in row if room in rooms.ORDER]
    floors = {room: read_floor(modules, room) for room in panels}
    rows = sum(len(floor.rows) for floor in floors.values()) + 0.6 * len(panels)
    row = (HEIGHT - 2 * MARGIN - GAP * (len(panels) - 1)) / rows
    top = MARGIN
    for room, floor in floors.items():
        bottom = top + row * (len(floor.rows) + 0.6)
        left, right = COLUMN + GAP, WIDTH - MARGIN
        axes.add_patch(rounded((left, top, right, bottom), GROUND, "none"))
        axes.text(left + 0.12, top + 0.22, room, weight="bold", color=QUIET, fontsize=11)
        frame = (left, top + 0.5 * row, right, bottom)
        draw(axes, floor, detail, arrange(floor, detail, frame))
        top = bottom + GAP
    return figure


def read_floor(modules: Mapping[str, rooms.Module], room: str) -> Floor:
    """Rooms at the root (`"structmat"`) or inside a room, as the imports have them."""
    level = rooms.levels(room)
    hidden = {"__main__", *(rooms.ORDER[room][0] if room == "structmat" else ())}
    edges = [e for e in rooms.edges(modules, room) if hidden.isdisjoint(e)]
    lines = dict.fromkeys(level, 0)
    for name, module in modules.items():
        where = rooms.on_floor(name, room)
        if where is not None:
            lines[where] += len(module.path.read_text(encoding="utf-8").splitlines())

    depth: dict[str, int] = {}  # below all that import it
    for name in sorted(level, key=lambda n: -level[n]):
        depth[name] = 1 + max((depth[a] for a, b in edges if b == name), default=-1)
    # Rooms at one depth share a row, as long as they fit; else each level has its own.
    shown = [name for name in level if name not in hidden]
    crowded = {k for k, count in Counter(depth[n] for n in shown).items() if count > MOST}
    rows: dict[tuple[int, int], list[str]] = {}
    for name in shown:
        k = depth[name]
        rows.setdefault((k, -level[name] if k in crowded else 0), []).append(name)
    return Floor([rows[key] for key in sorted(rows)], without_shortcuts(edges), lines)


def without_shortcuts(edges: Iterable[Edge]) -> list[Edge]:
    """Edges that do not follow from others in a row."""
    below: dict[str, set[str]] = {}
    for above, there in edges:
        below.setdefault(above, set()).add(there)

    def reached(name: str) -> set[str]:
        direct = below.get(name, set())
        return direct.union(*map(reached, direct))

    return [
        (a, b)
        for a, direct in sorted(below.items())
        for b in sorted(direct)
        if not any(b in reached(other) for other in direct)
    ]


def arrange(floor: Floor, scale: Scale, frame: Frame) -> Places:
    """Centres of rooms, and of the slots where arrows pass a row, inside a frame.

    Rows are sorted by the mean place of what their slots are joined to (Sugiyama, Tagawa &
    Toda, 1981), and slots then moved as near to that mean as their widths allow.
    """
    rows: list[list[Slot]] = [list(row) for row in floor.rows]
    joined: dict[Slot, list[Slot]] = {slot: [] for row in rows for slot in row}
    for path in paths(floor):
        for upper, lower in pairwise(path):
            for one, other in ((upper, lower), (lower, upper)):
                if other not in joined.setdefault(one, []):
                    joined[one].append(other)
    for slot in joined:
        if not isinstance(slot, str):
            rows[slot[1]].append(slot)

    left, top, right, bottom = frame
    x = {s: (left + right) / 2 + k - (len(row) - 1) / 2 for row in rows for k, s in enumerate(row)}
    for _ in range(50):
        for row in [*rows, *reversed(rows)]:
            wanted = {s: float(np.mean([x[t] for t in joined[s]] or [x[s]])) for s in row}
            row.sort(key=lambda s: wanted[s])
            widths = np.array([scale.slot(s) for s in row])
            before = np.cumsum(widths) - widths / 2
            near = isotonic_regression([wanted[s] for s in row] - before).x
            near = np.clip(near, left, right - widths.sum()) + before
            x.update(zip(row, near.tolist(), strict=True))

    ends = [x[s] + side * scale.slot(s) / 2 for s in x for side in (-1, 1)]
    shift = (left + right - min(ends) - max(ends)) / 2
    step = (bottom - top) / len(rows)
    return {s: (x[s] + shift, top + step * (k + 0.5)) for k, row in enumerate(rows) for s in row}


def paths(floor: Floor) -> list[list[Slot]]:
    """Slots of each arrow, from top to bottom; arrows to one room pass through common slots."""
    level = {name: k for k, row in enumerate(floor.rows) for name in row}
    return [[a, *((b, k) for k in range(level[a] + 1, level[b])), b] for a, b in floor.edges]


def label(room: str) -> str:
    """Name that a box shows; the front of the package has that of the package."""
    return "structmat" if room == "__init__" else room


def draw(axes: Axes, floor: Floor, scale: Scale, places: Places) -> None:
    """Draw arrows and boxes of a floor."""
    for path in paths(floor):
        axes.add_patch(arrow([places[slot] for slot in path], scale))
    for name in (name for row in floor.rows for name in row):
        x, y = places[name]
        half = scale.width(name) / 2, scale.height / 2
        frame = (x - half[0], y - half[1], x + half[0], y + half[1])
        draw_box(axes, frame, scale, label(name), floor.lines[name])


def draw_box(axes: Axes, frame: Frame, scale: Scale, name: str, lines: int, note: str = "") -> None:
    """Draw a box with its name, its lines of code and a note, darker the more lines it has."""
    left, top, right, bottom = frame
    axes.add_patch(rounded(frame, SHADES(min(1.0, lines / DARKEST)), LINE))
    x, y, height = (left + right) / 2, (top + bottom) / 2, bottom - top
    words = {"ha": "center", "va": "center", "fontsize": scale.text}
    axes.text(x, y - 0.17 * height, name, weight="bold", color=INK, **words)
    words["fontsize"] = 0.84 * scale.text
    axes.text(x, y + 0.24 * height, f"{lines:,} lines{note}", color=QUIET, **words)


def rounded(frame: Frame, face: object, edge: str) -> FancyBboxPatch:
    """A box with round corners."""
    left, top, right, bottom = frame
    shape = "round,pad=0,rounding_size=0.07"
    return FancyBboxPatch(
        (left, top),
        right - left,
        bottom - top,
        boxstyle=shape,
        facecolor=face,
        edgecolor=edge,
        linewidth=0.9,
    )


def arrow(points: list[tuple[float, float]], scale: Scale) -> FancyArrowPatch:
    """A smooth line through points, from below the first box to above the last."""
    half = scale.height / 2
    ends = [(x, y + half, y - half) for x, y in points]
    vertices = [(ends[0][0], ends[0][1])]
    codes = [Path.MOVETO]
    for (x, start, _), (x1, after, before) in pairwise(ends):
        middle = (start + before) / 2
        vertices += [(x, middle), (x1, middle), (x1, before), (x1, after)]
        codes += [Path.CURVE4] * 3 + [Path.LINETO]
    return FancyArrowPatch(
        path=Path(vertices[:-1], codes[:-1]),
        arrowstyle="-|>,head_length=3.2,head_width=1.9",
        mutation_scale=1,
        color=LINE,
        linewidth=1.1,
        capstyle="round",
    )
