"""Block sizes, warps and stages of the tile kernels, by shape: shipped, or measured on a device.

Shipped figures come from data sheets and compiled kernels: no candidate spills registers on
sm_80, sm_90 and sm_100. `python -m benchmarks gpu tune` measures the candidates on a device and
keeps the quickest in the file of `structmat calibrate`, by the name of the device.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from structmat.kernels.cost_model.coefficients import keep, measured_at


class Figures(NamedTuple):
    """Rows of a program at most, contents of a tile at a time, warps, and stages.

    Without warps there are 8 for 128 x 128 sums and more, and else 4.
    """

    rows: int
    part: int
    warps: int
    stages: int


#: By kernel, bits of an operand, and width of a launch.
SHIPPED: Mapping[str, Figures] = {
    # Sums of 256 x 128 read least, where every multiprocessor (132 on Hopper) has two programs.
    # Five stages keep three blocks of operands in flight, since indices come from memory as well.
    "times, 16 bits, wide": Figures(256, 64, 0, 5),
    "times, 16 bits": Figures(128, 64, 0, 5),
    # Without tensor cores arithmetic is the bound, and small blocks suffice.
    "times, 32 bits": Figures(64, 32, 0, 3),
    "outer, 16 bits": Figures(64, 0, 0, 3),
    "outer, 32 bits": Figures(32, 0, 0, 3),
}
#: What tuning tries beside the shipped figures.
CANDIDATES: Mapping[str, tuple[Figures, ...]] = {
    "times, 16 bits, wide": (
        Figures(256, 64, 8, 4),
        Figures(128, 64, 8, 4),
        Figures(128, 32, 8, 5),
    ),
    "times, 16 bits": (Figures(128, 64, 8, 4), Figures(64, 64, 4, 5), Figures(128, 32, 4, 5)),
    "times, 32 bits": (Figures(64, 16, 4, 4),),
    "outer, 16 bits": (Figures(64, 0, 8, 4), Figures(32, 0, 8, 4), Figures(32, 0, 0, 3)),
    "outer, 32 bits": (Figures(16, 0, 0, 3), Figures(32, 0, 8, 3)),
}
#: Figures that are tried at the moment.
_tried: dict[str, Figures] = {}


def figures(name: str, place: str = "") -> Figures:
    """Figures of a kind of launch: tried at the moment, measured on a device, or shipped.

    Examples
    --------
    >>> figures("times, 32 bits")
    Figures(rows=64, part=32, warps=0, stages=3)
    """
    if name in _tried:
        return _tried[name]
    return _measured(place).get(name, SHIPPED[name]) if place else SHIPPED[name]


@cache
def _measured(place: str) -> dict[str, Figures]:
    lengths = dict.fromkeys(SHIPPED, len(Figures._fields))
    found = {name: Figures(*map(int, row)) for name, row in measured_at(place, lengths).items()}
    return {name: row for name, row in found.items() if _is_sound(name, row)}


def _is_sound(name: str, row: Figures) -> bool:
    """Tell whether figures are among those that were compiled without spills."""
    return row in (SHIPPED[name], *CANDIDATES[name])


@cache
def place_of_launches(device: torch.device) -> str:
    """The place of measured figures for tensors on a device; empty off CUDA."""
    return f"{torch.cuda.get_device_name(device)}, launches" if device.type == "cuda" else ""


def keep_figures(measured: Mapping[str, Figures], place: str) -> Path:
    """Write figures of a device to the file of coefficients, and use them from now on."""
    path = keep({name: list(map(float, row)) for name, row in measured.items()}, place)
    _measured.cache_clear()
    return path


@contextmanager
def trying(name: str, row: Figures) -> Iterator[None]:
    """Launch with these figures as long as the context lasts."""
    _tried[name] = row
    try:
        yield
    finally:
        del _tried[name]
