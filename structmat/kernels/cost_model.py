"""How long each kernel takes, by a model of what it does and figures for the machine.

A model counts what a kernel reads, multiplies and starts, and the figures say what one of
each takes, in nanoseconds. The figures shipped were measured on one processor; `calibrate`
measures them on the present one, once, and keeps them in a file of the user's cache.
"""

import json
import math
import os
import platform
from functools import cache
from pathlib import Path
from typing import NamedTuple

from structmat._write import whole_file
from structmat.errors import SaveError

#: Bytes that stay in a core's own cache, and in the one that cores share.
LEVELS = (800_000, 24_000_000)
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


def _memory(size: float, times: float = 1.0) -> tuple[float, ...]:
    """Bytes read, so many times, from the nearest of the `LEVELS` that holds them."""
    level = sum(size > limit for limit in LEVELS)
    return tuple(size * times * (level == i) for i in range(len(LEVELS) + 1))


def _dense(work: Work, k: int) -> tuple[float, ...]:
    size = work.rows * work.columns * work.itemsize
    once, several = (size, 0.0) if k == 1 else (0.0, size)
    return 1.0, *_memory(once), *_memory(several), several * k * work.planes


def _pair(work: Work, k: int) -> tuple[float, ...]:
    inner = work.middle * work.columns + work.rows * (work.middle or work.columns)
    return _dense(work._replace(rows=inner, columns=1), k)


def _vectors(work: Work, k: int) -> tuple[float, ...]:
    # A complex number is two real ones, and a product of them four.
    size, passes = work.high_cells * 64.0 * work.planes, k * work.planes
    return 1.0, passes * work.planes, *_memory(size, passes), passes * (work.strips + work.middle)


def _tiles(work: Work, k: int) -> tuple[float, ...]:
    registers = -(-k * work.itemsize // 64)
    panels, size = -(-registers // 4), work.low_cells * work.itemsize
    # A last panel of one or two registers multiplies less for what it reads.
    narrow = registers % 4 if registers % 4 < 3 else 0
    cells = work.planes * work.low_cells
    around = registers * work.planes * (work.rows + work.columns + work.middle)
    starts = panels * work.planes
    return 1.0, starts, *_memory(size, panels), (registers - narrow) * cells, narrow * cells, around


def _panels(work: Work, k: int) -> tuple[float, ...]:
    size = work.area * work.itemsize
    return work.panels, *_memory(size), size * k * work.planes, work.middle * work.itemsize * k


def _rows(work: Work, k: int) -> tuple[float, ...]:
    size = work.scalars * work.itemsize
    once, several = (work.scalars, 0.0) if k == 1 else (0.0, work.scalars)
    return 1.0, once, several, (size * k if k > 1 else 0.0) * work.planes


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
    "dense": [0.0, 0.0192, 0.0146, 0.0421, 0.0149, 0.0221, 0.111, 0.00475],
    "pair": [0.0, 0.0224, 0.0147, 0.0392, 0.0183, 0.0232, 0.114, 0.00484],
    "vectors": [2610.0, 1090.0, 0.0113, 0.0128, 0.0306, 4.74],
    "tiles": [9820.0, 9210.0, 0.0866, 0.0809, 0.118, 0.212, 0.0, 0.756],
    "panels": [2150.0, 0.0453, 0.0362, 0.0616, 0.00673, 0.317],
    "rows": [3910.0, 0.677, 2.26, 0.0207],
}


def seconds(kernel: str, work: Work, columns: int) -> float:
    """Time that a kernel is expected to take for so many columns, on one thread."""
    terms = zip(figures()[kernel], FEATURES[kernel](work, columns), strict=True)
    return 1e-9 * sum(figure * count for figure, count in terms)


def figures_file() -> Path:
    """Where the figures of this machine are kept, once they have been measured."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "structmat" / f"figures-{platform.node() or 'machine'}.json"


@cache
def figures() -> Figures:
    """Figures measured on this machine where there are any, else those shipped."""
    try:
        found = json.loads(figures_file().read_text(encoding="utf-8"))["figures"]
        measured = {name: [float(x) for x in found[name]] for name in DEFAULT}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RuntimeError):
        return DEFAULT  # nothing measured, or no figures
    # A version that counted otherwise has other numbers of them.
    whole = all(len(measured[name]) == len(DEFAULT[name]) for name in DEFAULT)
    sound = all(0 <= x < math.inf for found in measured.values() for x in found)
    return measured if whole and sound else DEFAULT


def keep(measured: Figures) -> Path:
    """Keep measured figures for later processes, and use them from now on.

    Raises
    ------
    SaveError
        If the file cannot be written; what stood there before is untouched.
    """
    path = None
    try:
        path = figures_file()
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # a RuntimeError where there is no home
        raise SaveError(
            f"cannot write {str(path or 'to the home folder')!r} "
            f"({getattr(error, 'strerror', None) or error}); choose a folder that you "
            "may write to by the environment variable XDG_CACHE_HOME"
        ) from error
    text = json.dumps({"figures": measured}, indent=1)
    with whole_file(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    figures.cache_clear()
    return path
