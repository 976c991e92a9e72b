"""Prices of kernels on devices: counts of starts, bytes and multiplications, times figures.

A device reads and multiplies at the same time, so that the longer of both counts. Figures
stand for a place: the name of a device, with a dtype, as "NVIDIA H200, float32". Where a place
has none, a kernel has no price there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from structmat._array import Array
from structmat.kernels.layouts.batched import BatchCounts, exact_batches
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import Pattern, RunPattern

#: Factor on the time of the dense matrix on a device: another kernel has to promise less.
DEVICE_MARGIN = 0.85
#: Columns that the kernel of runs takes with one reading of the contents.
RUN_COLUMNS = 8
#: Length of a run, at least, as which it counts: shorter ones were not measured.
SHORTEST_RUN = 256
#: Ratios, in the measured structures, of the longest run to the mean one, and of the runs on the
#: most covered row to those on the mean one.
LONGEST, PEAK = 2.0, 1.5


class DeviceWork(NamedTuple):
    """Counts of a matrix made of sparse factors, as a device meets them."""

    rows: int
    columns: int
    #: Numbers between the factors; 0 where there is one factor.
    middle: int
    #: Stored scalars, and bytes of one.
    scalars: int
    itemsize: int
    #: Scalars of a structure of even runs that takes at least as long.
    even: float
    #: Counts of batches, which take a while to lay out: where they are asked for.
    batches: Callable[[], BatchCounts] | None = None

    @classmethod
    def of(cls, structure: FactorStructure, contents: list[Array]) -> "DeviceWork":
        """Counts of the matrix with these packed contents."""
        totals = [c.shape[0] for c in contents]
        pairs = list(zip(structure.patterns, totals, strict=True))
        return cls(
            *structure.shape,
            structure.middle,
            sum(total for _, total in pairs),
            int(contents[0].itemsize),
            sum(even_scalars(pattern, total) for pattern, total in pairs),
            lambda: exact_batches(structure, totals).counts,
        )


def even_scalars(pattern: Pattern, total: int) -> float:
    """Scalars of even, long runs that keep a device busy at least as long as those of a pattern.

    Times were measured with long runs at random places. Shorter runs count as if they had the
    shortest measured length. Runs of very different lengths, or heaped on a few rows, keep few
    threads busy for long: they count as if all were as long, and all rows as covered, as the
    worst ones.

    Examples
    --------
    >>> even = RunPattern(np.array([0, 512]), np.array([512, 512]), 1024)
    >>> even_scalars(even, 1024)
    1024.0
    >>> heaped = RunPattern(np.array([0, 0]), np.array([512, 512]), 1024)
    >>> round(even_scalars(heaped, 1024))
    1365
    """
    if not isinstance(pattern, RunPattern) or not total:
        return float(total)
    end = pattern.start + pattern.width
    change = np.bincount(pattern.start, minlength=pattern.n + 1)
    change -= np.bincount(np.minimum(end, pattern.n), minlength=pattern.n + 1)
    around = np.maximum(end - pattern.n, 0)
    change -= np.bincount(around, minlength=pattern.n + 1)
    change[0] += around.size  # runs that do not come around end where they begin
    covered = int(np.cumsum(change).max())
    runs, longest = pattern.width.size, int(pattern.width.max())
    shortest = min(SHORTEST_RUN, pattern.n)
    counts = total, runs * shortest, runs * longest / LONGEST, pattern.n * covered / PEAK
    return float(max(counts))


@dataclass(frozen=True)
class DevicePrice:
    """Memory and time of a kernel on devices, counted from the work."""

    #: Bytes of contents that the kernel keeps for a `DeviceWork`, padding included.
    size: Callable[[DeviceWork], float]
    #: Starts, bytes read and multiplications for a `DeviceWork` and a number of columns.
    counts: Callable[[DeviceWork, int], tuple[float, float, float]]
    #: Nanoseconds for one of each, by place, as shipped.
    figures: Mapping[str, Sequence[float]] = field(default_factory=dict)
    #: Factor on the time when kernels are compared; below 1 the kernel is preferred.
    margin: float = 1.0
    #: Whether operations that read and those that multiply follow each other.
    in_turn: bool = False

    def seconds(self, work: DeviceWork, columns: int, figures: Sequence[float]) -> float:
        """Expected time of a product with a number of columns."""
        starts, size, multiplications = self.counts(work, columns)
        start, read, multiply = figures
        both = read * size, multiply * multiplications
        return 1e-9 * (start * starts + (sum(both) if self.in_turn else max(both)))


def _dense_size(work: DeviceWork) -> float:
    return work.rows * work.columns * work.itemsize


def _pair_size(work: DeviceWork) -> float:
    inner = work.middle * work.columns + work.rows * (work.middle or work.columns)
    return inner * work.itemsize


def _stored_size(work: DeviceWork) -> float:
    return work.scalars * work.itemsize


def _stored(work: DeviceWork, k: int) -> tuple[float, float, float]:
    return 1.0, work.even * work.itemsize, work.even * k


def _dense(work: DeviceWork, k: int) -> tuple[float, float, float]:
    return 1.0, _dense_size(work), work.rows * work.columns * k


def _pair(work: DeviceWork, k: int) -> tuple[float, float, float]:
    size = _pair_size(work)
    return (2.0 if work.middle else 1.0), size, size / work.itemsize * k


def _batches_size(work: DeviceWork) -> float:
    assert work.batches is not None
    return work.batches().area * work.itemsize


def _batches(work: DeviceWork, k: int) -> tuple[float, float, float]:
    assert work.batches is not None
    counts = work.batches()
    # What is gathered is read, written and read again, and so is what is written.
    size = counts.area + k * (3 * counts.gathered + 2 * counts.written)
    return float(counts.starts), size * work.itemsize, float(counts.multiplications) * k


def _intervals(work: DeviceWork, k: int) -> tuple[float, float, float]:
    return 1.0, -(-k // RUN_COLUMNS) * work.even * work.itemsize, work.even * k


_H200 = "NVIDIA H200, "
# Measured on an H200, 2026-11-29, with cold caches: GBLR matrices of n runs at random places,
# n = 4096 and 16384, at 1/8 and 1/4 of the dense cost, 1 to 512 columns. All times are rather
# too long for runs than too short: what was chosen took at most 0.9 of the dense time.
DENSE = DevicePrice(
    _dense_size,
    _dense,
    {
        f"{_H200}float32": (6000.0, 2.33e-4, 2.99e-5),
        f"{_H200}float64": (6000.0, 2.33e-4, 3.6e-5),
        f"{_H200}bfloat16": (10000.0, 3e-4, 2.6e-6),
    },
    DEVICE_MARGIN,
)
INTERVALS = DevicePrice(
    _stored_size,
    _intervals,
    {
        f"{_H200}float32": (14000.0, 2.7e-4, 3.5e-4),
        f"{_H200}float64": (20000.0, 2.7e-4, 7.5e-4),
    },
)
# The same structures at n = 4096 and 8192 with 8192 columns; the start is that of the host.
TRITON = DevicePrice(_stored_size, _stored, {f"{_H200}bfloat16": (250000.0, 3e-4, 4e-6)})
# Not measured: compared where they are calibrated.
PAIR = DevicePrice(_pair_size, _pair)
BATCHES = DevicePrice(_batches_size, _batches, in_turn=True)
