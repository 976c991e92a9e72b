"""The error of an approximation of a source, estimated on rows that no fit has seen.

Rows are drawn one from each of equal parts of the axis, and evaluated exactly. Their products
with random vectors are compared to those of the approximation, which needs no rows of it. For a
source that is not symmetric, columns are drawn as well, and the larger of both errors counts.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from structmat.compress.estimate import Estimate
from structmat.compress.measure import relative
from structmat.compress.source import check_range
from structmat.intervals import IntArray
from structmat.project.svd import gaussian
from structmat.sources.source import BLOCK_ENTRIES, Source

#: Probability with which the bound of an estimate holds.
CONFIDENCE = 0.99
#: Rows, and for other than symmetric sources columns, that are evaluated.
ROWS = 256
#: Random vectors with which they are multiplied.
VECTORS = 16
#: Rows, and columns, of a source without points: a few of its entries may differ from all others.
ROWS_WITHOUT_POINTS = 1024
#: Sources with a shorter side are evaluated in full, and their error is measured. So are those
#: without points, up to a number of entries.
EXACT_SIDE, EXACT_ENTRIES = 512, 2**24
#: Degrees of freedom are taken as a share of those that a spread of samples tells.
TRUSTED_SHARE = 0.5
#: Most rows, or columns, of an approximation that are compared at once.
LINES = 64


class _Side(NamedTuple):
    """An error and its bound, and number and energy of the rows, or columns, that tell it."""

    error: float
    bound: float
    lines: int
    seen: float


def source_norm(source: Source, rng: np.random.Generator, rows: int = 32) -> float:
    """Estimated Frobenius norm of a source, from a few rows and columns; `rows` of each."""
    found = []
    for axis in (0, 1) if not source.symmetric else (0,):
        at = drawn(source.shape[axis], rows, rng)
        square = largest = 0.0
        for part in _lines(source, at, axis):
            largest = max(largest, _largest(part))
            # Too small is for the measure to say, which sees more of the rows.
            check_range(max(largest, 1.0), np.dtype(source.dtype))
            square += float(_energy(part).sum())
        found.append(square * source.shape[axis] / max(at.size, 1))
    return math.sqrt(max(found))


def measured(source: Source, matrix: Any) -> Estimate:
    """Relative Frobenius error, from all entries of the source."""
    missed = square = largest = 0.0
    # Of the shorter side, so that a long matrix takes few products.
    axis = 0 if source.shape[0] < source.shape[1] else 1
    size, other = source.shape[axis], source.shape[1 - axis]
    step = max(1, min(LINES, BLOCK_ENTRIES // max(other, 1)))
    product = matrix.rmatmat if axis == 0 else matrix.matmat
    for first in range(0, size, step):
        at = np.arange(first, min(first + step, size))
        unit = np.zeros((size, at.size), matrix.dtype)
        unit[at, np.arange(at.size)] = 1
        (lines,) = _lines(source, at, axis)
        largest = max(largest, _largest(lines))
        square += _energy(lines).sum()
        missed += _energy(lines - product(unit).conj().T).sum()
    check_range(largest, np.dtype(source.dtype))
    error = relative(math.sqrt(missed), math.sqrt(square))
    return Estimate(error, error, 1.0)


def estimated(source: Source, matrix: Any, rng: np.random.Generator) -> Estimate:
    """Relative Frobenius error with a bound that holds with the probability `CONFIDENCE`."""
    without_points = source.points is None
    if min(source.shape) <= EXACT_SIDE or (
        without_points and math.prod(source.shape) <= EXACT_ENTRIES
    ):
        return measured(source, matrix)
    count = ROWS_WITHOUT_POINTS if without_points else ROWS
    axes = (0,) if source.symmetric or source.hermitian else (0, 1)
    sides = [_on_axis(source, matrix, axis, count, rng) for axis in axes]
    if not all(side.seen for side in sides) and math.prod(source.shape) <= EXACT_ENTRIES:
        # Rows of zeros tell nothing of the others.
        return measured(source, matrix)
    error, bound = max(side.error for side in sides), max(side.bound for side in sides)
    cols = sum(side.lines for side in sides[1:])
    return Estimate(error, bound, CONFIDENCE, products=VECTORS, rows=sides[0].lines, cols=cols)


def drawn(size: int, count: int, rng: np.random.Generator) -> IntArray:
    """Random positions, one in each of equal parts of an axis; all if they are few."""
    if size <= count:
        return np.arange(size)
    edges = np.linspace(0, size, count + 1).astype(np.int64)
    return rng.integers(edges[:-1], edges[1:])


def _on_axis(source: Source, matrix: Any, axis: int, count: int, rng: np.random.Generator) -> _Side:
    """Error by rows, or by columns."""
    size, other = source.shape[axis], source.shape[1 - axis]
    at, chance = drawn(size, count, rng), 1 - CONFIDENCE
    Z = gaussian(rng, (other, VECTORS), matrix.dtype)
    product = matrix.matmat(Z) if axis == 0 else matrix.rmatmat(Z)
    squares, parts, first, largest = np.empty(at.size), [], 0, 0.0
    for part in _lines(source, at, axis):
        squares[first : first + len(part)] = _energy(part)
        parts.append(part @ Z)
        largest = max(largest, _largest(part))
        first += len(part)
    check_range(largest, np.dtype(source.dtype))
    gaps = _plain(np.concatenate(parts) - product[at])
    rows, vectors = gaps.mean(axis=1), gaps.sum(axis=0)
    share = size / at.size
    missed = rows.sum() * share
    spared = 1 - at.size / size
    most = missed * _above(_of_rows(rows, spared), 0.4 * chance)
    most *= _above(_of_vectors(vectors), 0.4 * chance)
    least = squares.sum() * share * _below(_of_rows(squares, spared), 0.2 * chance)
    seen = float(squares.sum())
    error = relative(math.sqrt(missed), math.sqrt(seen * share))
    bound = relative(math.sqrt(most), math.sqrt(least))
    return _Side(error, max(bound, error), at.size, seen)


def _lines(source: Source, at: IntArray, axis: int) -> Any:
    """Rows of a source, or of its adjoint, as many at a time as a block may have."""
    every = np.arange(source.shape[1 - axis])
    step = max(1, BLOCK_ENTRIES // max(every.size, 1))
    for first in range(0, at.size, step):
        some = at[first : first + step]
        yield source.block(some, every) if axis == 0 else source.block(every, some).conj().T


def _of_rows(values: NDArray, spared: float) -> float:
    """Degrees of freedom of a sum over stratified rows, by the differences of neighbours."""
    total, steps = values.sum(), values[: len(values) // 2 * 2].reshape(-1, 2)
    variance = spared * (np.diff(steps, axis=1) ** 2).sum()
    return _degrees(total, variance)


def _of_vectors(values: NDArray) -> float:
    """Degrees of freedom of a sum over Gaussian vectors: at least one each."""
    variance = len(values) * values.var(ddof=1)
    return max(_degrees(values.sum(), variance), float(len(values)))


def _degrees(total: float, variance: float) -> float:
    return math.inf if variance <= 0 else TRUSTED_SHARE * 2 * total**2 / variance


def _above(degrees: float, chance: float) -> float:
    """Factor from an estimate to its upper bound, for a sum like that of a chi-square."""
    if degrees > 1e8:
        return 1.0
    least = float(gammaincinv(degrees / 2, chance)) / (degrees / 2)
    return 1 / least if least > 0 else math.inf


def _below(degrees: float, chance: float) -> float:
    """Factor from an estimate to its lower bound."""
    return 1.0 if degrees > 1e8 else degrees / (2 * float(gammaincinv(degrees / 2, 1 - chance)))


def _energy(part: NDArray) -> NDArray[np.float64]:
    """Squared norm of each row, in double precision."""
    wide = part.astype(np.result_type(part.dtype, np.float64), copy=False)
    square: NDArray[np.float64] = np.vecdot(wide, wide).real
    return square


def _largest(part: NDArray) -> float:
    if part.dtype.kind == "c":
        return float(np.abs(part).max(initial=0.0))
    return max(float(part.max(initial=0.0)), -float(part.min(initial=0.0)))


def _plain(values: NDArray) -> NDArray[np.float64]:
    """Squares of absolute values in double precision."""
    square: NDArray[np.float64] = values.real.astype(np.float64) ** 2
    return square + values.imag.astype(np.float64) ** 2 if values.dtype.kind == "c" else square
