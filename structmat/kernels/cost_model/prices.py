"""Prices of kernels: counts of what a kernel reads, multiplies and starts, times coefficients.

The shipped coefficients were measured on one processor; `structmat calibrate` measures
them on the present one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from structmat._array import Array, is_complex
from structmat.kernels.layouts.factors import (
    MOST_SINGLE_VECTORS,
    FactorStructure,
    are_entries,
    are_few_entries,
)
from structmat.kernels.layouts.panels import Pattern, RunPattern

#: Bytes that stay in a core's own cache, and in the cache that cores share.
CACHE_BYTES = (800_000, 24_000_000)
#: Bytes of a vector register on the processor of the shipped coefficients.
REGISTER_BYTES = 64
#: Factor on the time of the dense kernel: another one has to promise less than that.
DENSE_MARGIN = 0.88


class Work(NamedTuple):
    """Counts of a matrix made of sparse factors."""

    #: Shape of the matrix.
    rows: int
    columns: int
    #: Numbers between the factors; 0 where there is one factor.
    middle: int
    #: Stored scalars, and bytes of one.
    scalars: int
    itemsize: int
    #: Real arrays that a scalar is made of: 1, or 2 where it is complex.
    planes: int
    #: Row groups of a register's height.
    row_groups: int
    #: Entries of the cells of six rows; number of the cells of a register's height.
    low_cells: int
    high_cells: int
    #: Panels, and their entries, padding included.
    panels: int
    area: int
    #: Entries of the smallest blocks of runs; number of the others, and their stored scalars.
    entries: int
    blocks: int
    block_scalars: int
    #: Entries of all blocks of runs where those are few, else 0.
    few_entries: int

    @classmethod
    def of(cls, structure: FactorStructure, contents: list[Array]) -> "Work":
        """Counts of the matrix with these packed contents."""
        first = contents[0]
        planes = 2 if is_complex(first, structure.xp) else 1
        itemsize = int(getattr(first, "itemsize", 0) or first.element_size())
        height = max(REGISTER_BYTES * planes // itemsize, 1)
        patterns = structure.patterns
        outlines = [p.outline() for p in patterns]
        return cls(
            *structure.shape,
            structure.middle,
            sum(c.shape[0] for c in contents),
            itemsize,
            planes,
            sum(-(-p.shape[0] // height) for p in patterns),
            sum(p.cells(6) for p in patterns) * 6,
            sum(p.cells(height) for p in patterns),
            sum(count for count, _ in outlines),
            sum(area for _, area in outlines),
            *_small_and_other(patterns),
        )


def _small_and_other(patterns: list[Pattern]) -> tuple[int, int, int, int]:
    """Entries of blocks that are quicker as such, number of other blocks, and their scalars.

    Then the entries of all blocks where those are few.
    """
    runs = [p.width for p in patterns if isinstance(p, RunPattern)]
    if len(runs) < 2:
        return 0, 0, 0, 0
    height, width = runs
    small = are_entries(height, width)
    others = ~small
    entries, scalars = (height * width)[small].sum(), (height + width)[others].sum()
    few = (height * width).sum() if are_few_entries(height, width) else 0
    return int(entries), int(others.sum()), int(scalars), int(few)


#: Nanoseconds to start a gather of an operand or a result, and to gather a byte.
_GATHER, _GATHERED_BYTE = 2500.0, 0.1


def gathering(work: Work, rows: Sequence[int], columns: int) -> float:
    """Seconds to gather arrays of these rows, one for each order around a matrix."""
    size = sum(rows) * columns * work.itemsize
    return 1e-9 * (_GATHER * len(rows) + _GATHERED_BYTE * size)


@dataclass(frozen=True)
class Price:
    """Memory and time of a kernel, counted from the work."""

    #: Bytes of contents that the kernel keeps for a `Work`, padding included.
    size: Callable[[Work], float]
    #: Counts for a `Work`, its bytes of contents, and a number of columns.
    _counts: Callable[[Work, float, int], tuple[float, ...]]
    #: Nanoseconds for one of each count, as shipped.
    coefficients: Sequence[float]
    #: Factor on the time when kernels are compared; below 1 the kernel is preferred.
    margin: float = 1.0
    #: The dtypes for which the price holds; empty for all.
    dtypes: tuple[str, ...] = ()

    def counts(self, work: Work, columns: int) -> tuple[float, ...]:
        """Counts for a number of columns, one for each coefficient."""
        return self._counts(work, self.size(work), columns)

    def seconds(self, work: Work, columns: int, coefficients: Sequence[float]) -> float:
        """Expected time of a product with a number of columns, on one thread."""
        terms = zip(coefficients, self.counts(work, columns), strict=True)
        return 1e-9 * sum(coefficient * count for coefficient, count in terms)


def _reads(size: float, times: float = 1.0) -> tuple[float, ...]:
    """Bytes read, by the nearest memory that holds them; all are read `times` over."""
    level = sum(size > limit for limit in CACHE_BYTES)
    return tuple(size * times * (level == i) for i in range(len(CACHE_BYTES) + 1))


def _blas(work: Work, size: float, k: int) -> tuple[float, ...]:
    """Counts of a product by dense arrays; BLAS reads them in another way for one vector."""
    once, several = (size, 0.0) if k == 1 else (0.0, size)
    return 1.0, *_reads(once), *_reads(several), several * k * work.planes


def _vectors(work: Work, size: float, k: int) -> tuple[float, ...]:
    # A complex number is two real ones, and a product of two complex numbers four real ones.
    passes = k * work.planes
    starts = passes * work.planes
    return 1.0, starts, *_reads(size, passes), passes * (work.row_groups + work.middle)


def _tiles(work: Work, size: float, k: int) -> tuple[float, ...]:
    registers = -(-k * work.itemsize // REGISTER_BYTES)
    groups = -(-registers // 4)
    # A last column group of one or two registers multiplies less for what it reads.
    narrow = registers % 4 if registers % 4 < 3 else 0
    cells = work.planes * work.low_cells
    around = registers * work.planes * (work.rows + work.columns + work.middle)
    starts = groups * work.planes
    return 1.0, starts, *_reads(size, groups), (registers - narrow) * cells, narrow * cells, around


def _blocks(work: Work, size: float, k: int) -> tuple[float, ...]:
    if k <= MOST_SINGLE_VECTORS and work.few_entries:
        return *[0.0] * 7, 1.0, k * work.few_entries, k * work.rows
    registers = -(-k * work.itemsize // REGISTER_BYTES)
    groups = -(-registers // 4)
    around = registers * (work.rows + work.columns)
    scalars, entries = work.block_scalars, work.entries
    blocks = groups * work.blocks, groups * scalars, registers * scalars
    return 1.0, *blocks, groups * entries, registers * entries, around, *[0.0] * 3


def _panels(work: Work, size: float, k: int) -> tuple[float, ...]:
    return work.panels, *_reads(size), size * k * work.planes, work.middle * work.itemsize * k


def _rows(work: Work, size: float, k: int) -> tuple[float, ...]:
    once, several = (work.scalars, 0.0) if k == 1 else (0.0, work.scalars)
    return 1.0, once, several, (size * k if k > 1 else 0.0) * work.planes


def _dense_size(work: Work) -> float:
    return work.rows * work.columns * work.itemsize


def _vectors_size(work: Work) -> float:
    return float(work.high_cells * REGISTER_BYTES * work.planes)


def _tiles_size(work: Work) -> float:
    return work.low_cells * work.itemsize


def _blocks_size(work: Work) -> float:
    return work.scalars * (work.itemsize + 4.0)


def _panels_size(work: Work) -> float:
    return work.area * work.itemsize


def _rows_size(work: Work) -> float:
    return work.scalars * work.itemsize


def _pair_size(work: Work) -> float:
    inner = work.middle * work.columns + work.rows * (work.middle or work.columns)
    return inner * work.itemsize


# Coefficients: non-negative least squares on relative errors, one thread of an AMD EPYC (Zen 4).
_BLAS_DTYPES = ("float32", "float64", "complex64", "complex128")
DENSE = Price(
    _dense_size,
    _blas,
    (0.0, 0.0192, 0.0146, 0.0421, 0.0149, 0.0221, 0.111, 0.00475),
    DENSE_MARGIN,
    _BLAS_DTYPES,
)
PAIR = Price(
    _pair_size,
    _blas,
    (0.0, 0.0224, 0.0147, 0.0392, 0.0183, 0.0232, 0.114, 0.00484),
    dtypes=_BLAS_DTYPES,
)
VECTORS = Price(
    _vectors_size,
    _vectors,
    (2610.0, 1090.0, 0.0113, 0.0128, 0.0306, 4.74),
)
TILES = Price(
    _tiles_size,
    _tiles,
    (9820.0, 9210.0, 0.0866, 0.0809, 0.118, 0.212, 0.0, 0.756),
)
# On an Intel Xeon (Sapphire Rapids), relative to the kernel of tiles: small blocks of 8 to 120
# scalars, 1 to 256 columns; the last three from learned layers, 1 to 4 vectors.
BLOCKS = Price(
    _blocks_size,
    _blocks,
    (9000.0, 2.5, 0.3, 0.95, 0.45, 0.6, 0.6, 2000.0, 0.3, 0.6),
)
PANELS = Price(
    _panels_size,
    _panels,
    (2150.0, 0.0453, 0.0362, 0.0616, 0.00673, 0.317),
)
ROWS = Price(
    _rows_size,
    _rows,
    (3910.0, 0.677, 2.26, 0.0207),
)
