"""Many right-hand sides as columns of one array: sums, multiples, and columns that have ended.

Arrays (n, k) belong to any library. Numbers, one a column, are on the host in double precision.
Sums are taken in one order, whatever the number of threads.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array
from structmat._progress import Progress
from structmat.intervals import IntArray

#: Product of an array (n, k) with a matrix.
Apply = Callable[[Array], Array]
Numbers = NDArray[Any]


class Reached(NamedTuple):
    """Results of recurrences: columns of x, norms of their residuals, and steps."""

    x: Array
    residual: NDArray[np.float64]
    steps: int
    #: Least p^H A p / p^H p that was met; positive for a matrix that may be definite.
    curvature: float = np.inf


def inner(a: Array, b: Array, xp: ModuleType) -> Numbers:
    """Inner products a^H b of columns, (k,)."""
    found = _array.to_numpy(xp.sum(_array.conj(a, xp) * b, axis=0))
    return found.astype(np.result_type(found.dtype, np.float64))


def norms(a: Array, xp: ModuleType) -> NDArray[np.float64]:
    """Euclidean norms of columns, (k,)."""
    return np.sqrt(inner(a, a, xp).real)


def times(a: Array, numbers: Numbers, xp: ModuleType) -> Array:
    """Columns, each times its number."""
    if not _array.is_complex(a, xp):
        numbers = numbers.real
    row = _array.from_numpy(np.ascontiguousarray(numbers), xp, _array.device(a))
    return a * xp.astype(row, a.dtype)[None, :]


def quotient(a: Numbers, b: Numbers) -> Numbers:
    """Quotients, and zero where b is zero."""
    return np.divide(
        a, b, out=np.zeros(np.broadcast(a, b).shape, np.result_type(a, b)), where=b != 0
    )


def chosen(a: Array, which: NDArray[Any], xp: ModuleType) -> Array:
    """Columns by a mask or by indices on the host."""
    at = np.flatnonzero(which) if which.dtype == bool else which
    return xp.take(a, _array.integers(at, xp, _array.device(a)), axis=1)


class Columns:
    """Results of columns that end one after another.

    Examples
    --------
    >>> ended = Columns(2, np)
    >>> x, rest = ended.retire(np.array([True, False]), np.array([[1.0, 2.0]]), [])
    >>> x, ended.active
    (array([[2.]]), array([1]))
    >>> ended.gathered(x)
    array([[1., 2.]])
    """

    def __init__(self, count: int, xp: ModuleType) -> None:
        self.active: IntArray = np.arange(count)
        self._xp = xp
        self._ended: list[tuple[IntArray, Array]] = []

    def retire(
        self, ended: NDArray[np.bool_], x: Array, rest: list[Any]
    ) -> tuple[Array, list[Any]]:
        """Keep the columns of x that have ended; those of all arrays that go on.

        `rest` holds arrays (n, k), and numbers (k,) on the host.
        """
        if not ended.any():
            return x, rest
        self._ended.append((self.active[ended], chosen(x, ended, self._xp)))
        self.active = self.active[~ended]
        left = [a[~ended] if a.ndim == 1 else chosen(a, ~ended, self._xp) for a in (x, *rest)]
        return left[0], left[1:]

    def gathered(self, x: Array) -> Array:
        """All columns in their first order, those that go on from `x`."""
        if not self._ended:
            return x
        at = np.concatenate([*(at for at, _ in self._ended), self.active])
        every = self._xp.concat([*(part for _, part in self._ended), x], axis=1)
        return chosen(every, np.argsort(at), self._xp)


class Residuals:
    """Norms of the residuals of all columns, those that have ended included, and the steps."""

    def __init__(
        self, b: Array, bound: NDArray[np.float64], limit: int, report: Progress, xp: ModuleType
    ) -> None:
        self.ended, self.steps = Columns(b.shape[1], xp), 0
        self.norm = norms(b, xp)
        self._first, self._bound = float(self.norm.max(initial=0.0)), bound
        self._limit, self._report, self._xp = limit, report, xp

    @property
    def bound(self) -> NDArray[np.float64]:
        """Bounds of the columns that go on."""
        return self._bound[self.ended.active]

    @property
    def active(self) -> NDArray[np.float64]:
        """Norms of the columns that go on."""
        return self.norm[self.ended.active]

    @property
    def is_over(self) -> bool:
        """True where no column goes on, or no step is left."""
        return not self.ended.active.size or self.steps >= self._limit

    def note(self, r: Array, steps: int = 1) -> None:
        """Take the norms of the residuals r of the columns that go on, after some steps."""
        self.norm[self.ended.active] = norms(r, self._xp)
        self.steps += steps
        self._report(share_of_way(self.norm, self._bound, self._first))

    def reached(self, x: Array, curvature: float = np.inf) -> Reached:
        """Results, with the columns x that go on."""
        return Reached(self.ended.gathered(x), self.norm, self.steps, curvature)


def share_of_way(residual: NDArray[np.float64], bound: NDArray[np.float64], first: float) -> float:
    """Share of the way from the first residual to the bounds, by orders of magnitude."""
    last = float(residual.max(initial=0.0))
    aim = float(bound.min(initial=np.inf))
    if not 0 < aim < first or not 0 < last < first:
        return 0.0 if last > aim else 1.0
    return min(1.0, float(np.log(first / last) / np.log(first / aim)))
