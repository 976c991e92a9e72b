"""How long each kernel takes, by a model of what it does and figures for the machine.

A model counts what a kernel reads, multiplies and starts, and the figures say what one of
each takes, in nanoseconds. The figures shipped were measured on one processor; `calibrate`
measures them on the present one, once, and keeps them in a file of the user's cache.
"""

import json
import os
import platform
from functools import cache
from pathlib import Path
from typing import NamedTuple

from structmat._write import whole_file

__all__ = ["CACHE", "DEFAULT", "FEATURES", "Figures", "Work", "figures", "figures_file", "seconds"]

#: Bytes of contents that are taken to stay in a cache from one product to the next.
CACHE = 20_000_000
Figures = dict[str, list[float]]


class Work(NamedTuple):
    """What a matrix made of sparse factors consists of.

    Attributes
    ----------
    rows, columns : int
        Shape of the matrix.
    middle : int
        Numbers between the factors; 0 where there is one factor.
    scalars : int
        Stored scalars.
    itemsize : int
        Bytes of one.
    planes : int
        Real arrays that a number is made of: 1, or 2 where it is complex.
    strips, low_cells, high_cells : int
        Strips of a register's height; cells of strips of six rows, and of a register's.
    panels, area : int
        Panels, and their entries, padding included.
    """

    rows: int
    columns: int
    middle: int
    scalars: int
    itemsize: int
    planes: int
    strips: int
    low_cells: int
    high_cells: int
    panels: int
    area: int


def _memory(size: float) -> tuple[float, float]:
    """Bytes read from a cache, or else from memory."""
    return (size, 0.0) if size <= CACHE else (0.0, size)


def _dense(work: Work, k: int) -> tuple[float, ...]:
    area = work.rows * work.columns * work.itemsize
    vector = _memory(area) if k == 1 else (0.0, 0.0)
    matrix = (area, area * k) if k > 1 else (0.0, 0.0)
    return 1.0, *vector, *matrix


def _pair(work: Work, k: int) -> tuple[float, ...]:
    inner = work.middle * work.columns + work.rows * (work.middle or work.columns)
    return _dense(work._replace(rows=inner, columns=1), k)


def _vectors(work: Work, k: int) -> tuple[float, ...]:
    # A complex product is four real ones.
    size, times = work.high_cells * 64.0, k * work.planes**2
    cached, far = _memory(size * work.planes)
    many = times / work.planes
    return 1.0, times, many * cached, many * far, times * (work.strips + work.middle)


def _tiles(work: Work, k: int) -> tuple[float, ...]:
    size, registers = work.itemsize / work.planes, -(-k * work.planes * work.itemsize // 64)
    panels = -(-registers // 4)
    cells, times = work.low_cells * size, work.planes
    around = registers * times * (work.rows + work.columns + work.middle)
    return 1.0, panels * times, panels * times * cells, registers * times * cells, around


def _panels(work: Work, k: int) -> tuple[float, ...]:
    size = work.area * work.itemsize
    return work.panels, size, size * k, work.middle * work.itemsize * k


def _rows(work: Work, k: int) -> tuple[float, ...]:
    return 1.0, work.scalars, work.scalars * work.itemsize * (k - 1)


#: What each kernel does for k columns, in the order of its figures.
FEATURES = {
    "dense": _dense,
    "pair": _pair,
    "vectors": _vectors,
    "tiles": _tiles,
    "panels": _panels,
    "rows": _rows,
}

# Non-negative least squares on relative errors, one thread of an AMD EPYC (Zen 4).
DEFAULT: Figures = {
    "dense": [900.0, 0.0137, 0.042, 0.03, 0.0048],
    "pair": [1800.0, 0.0137, 0.042, 0.03, 0.0048],
    "vectors": [2000.0, 1500.0, 0.017, 0.042, 1.0],
    "tiles": [6000.0, 3000.0, 0.03, 0.075, 0.5],
    "panels": [4500.0, 0.04, 0.006, 0.05],
    "rows": [2000.0, 0.65, 0.024],
}


def seconds(kernel: str, work: Work, columns: int) -> float:
    """Time that a kernel is expected to take for so many columns, on one thread."""
    terms = zip(figures()[kernel], FEATURES[kernel](work, columns), strict=True)
    return 1e-9 * sum(figure * count for figure, count in terms)


def figures_file() -> Path:
    """Where the figures of this processor are kept, once they have been measured."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "structmat" / f"figures-{platform.machine()}.json"


@cache
def figures() -> Figures:
    """Figures measured on this machine where there are any, else those shipped."""
    try:
        found = json.loads(figures_file().read_text(encoding="utf-8"))
        return {name: [float(x) for x in found["figures"][name]] for name in DEFAULT}
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return DEFAULT  # nothing measured, or by a version that counted otherwise


def keep(measured: Figures) -> Path:
    """Keep measured figures for later processes, and use them from now on."""
    path = figures_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"figures": measured}, indent=1)
    with whole_file(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    figures.cache_clear()
    return path
