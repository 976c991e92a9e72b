"""Rectangles of a source, approximated: by compiled loops, or by blocks of its entries."""

import copy
import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.hierarchical.clusters import Pairs
from structmat.intervals import IntArray, offsets
from structmat.kernels.cpu.threads import num_threads, side_by_side

#: Rectangles, weighed by their sides, of one piece of work.
_PIECE = 2**17


class Factors(NamedTuple):
    """Rectangles (b, 4) in singular vectors: U^T and V^T packed, and their singular values.

    Where `ranks` is -1 no approximation was found.
    """

    pairs: IntArray
    u: NDArray[Any]
    v: NDArray[Any]
    values: NDArray[np.float64]
    ranks: IntArray


def joined_factors(found: Sequence[Factors]) -> Factors:
    """All rectangles in one."""
    none = np.zeros((0, 4), np.int64), *[np.zeros(0)] * 3, np.zeros(0, np.int64)
    return Factors(*(np.concatenate(some) for some in zip(none, *found, strict=True)))


class Evaluator(ABC):
    """Abstract means of approximating rectangles of one source, in the order of the clusters."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def on(self, source: Any) -> Self:
        """The same means with another source of the same entries."""
        own = copy.copy(self)
        own.source = source
        return own

    @abstractmethod
    def factor(self, pairs: IntArray, bounds: NDArray[np.float64], seed: int) -> Factors:
        """Approximate rectangles, each to its squared error."""

    @abstractmethod
    def fill(self, pairs: IntArray, begins: IntArray, triangular: NDArray, out: NDArray) -> None:
        """Write the entries of rectangles to `out`, or lower triangles, by rows."""

    def factored(
        self, pairs: IntArray, bounds: NDArray[np.float64], seed: int, progress: Progress
    ) -> list[Factors]:
        """Approximate rectangles, in pieces that do not depend on the number of threads."""
        pieces = _pieces((pairs[:, 1] - pairs[:, 0]) + (pairs[:, 3] - pairs[:, 2]))
        found: list[Factors | None] = [None] * len(pieces)

        def work(i: int) -> None:
            some = slice(*pieces[i])
            found[i] = self.factor(pairs[some], bounds[some], seed)

        over_pieces(work, len(pieces), progress)
        return [one for one in found if one is not None]

    def filled(self, pairs: IntArray, triangular: NDArray, begins: IntArray, out: NDArray) -> None:
        """Write the entries of all rectangles, in pieces."""
        pieces = _pieces((pairs[:, 1] - pairs[:, 0]) * (pairs[:, 3] - pairs[:, 2]))

        def work(i: int) -> None:
            some = slice(*pieces[i])
            self.fill(pairs[some], begins[some], triangular[some], out)

        over_pieces(work, len(pieces), lambda done: None)


class CompiledEvaluator(Evaluator):
    """Rectangles of a named kernel at points on NumPy, by compiled loops."""

    def __init__(self, source: Any, pairs: Pairs) -> None:
        super().__init__(source)
        kernel = source.compiled
        self._kernel = kernel.code, float(kernel.scale)
        self._X = np.ascontiguousarray(kernel.rows[pairs.row_order].T)
        same = kernel.cols is kernel.rows and pairs.col_order is pairs.row_order
        self._Y = self._X if same else np.ascontiguousarray(kernel.cols[pairs.col_order].T)

        self._copies = any(map(_has_copies, (self._X, self._Y)[: 1 if same else 2]))

    def factor(self, pairs: IntArray, bounds: NDArray[np.float64], seed: int) -> Factors:
        """Approximate rectangles, each to its squared error."""
        from structmat.compress.hierarchical.loops import fit_far

        points = self._X, self._Y
        u, v, values, ranks, evaluated = fit_far(
            *self._kernel, *points, pairs, bounds, self._copies, np.uint64(seed)
        )
        self.source.count(evaluated)
        return Factors(pairs, u, v, values, ranks)

    def fill(self, pairs: IntArray, begins: IntArray, triangular: NDArray, out: NDArray) -> None:
        """Write the entries of rectangles to `out`, or lower triangles, by rows."""
        from structmat.compress.hierarchical.loops import fill_near

        p, q = pairs[:, 1] - pairs[:, 0], pairs[:, 3] - pairs[:, 2]
        self.source.count(int(np.where(triangular, p * (p + 1) // 2, p * q).sum()))
        fill_near(*self._kernel, self._X, self._Y, pairs, triangular, begins, 0, len(pairs), out)


def _has_copies(X: NDArray[np.float64]) -> bool:
    """Tell whether two of the points (d, n) are equal."""
    if not X.size:
        return X.shape[1] > 1
    order = np.lexsort(X)
    return bool((X[:, order[1:]] == X[:, order[:-1]]).all(axis=0).any())


def over_pieces(work: Callable[[int], None], count: int, progress: Progress) -> None:
    """Run `work(i)` for all pieces, in threads; each takes the next one that is left."""
    left, lock, done = itertools.count(), threading.Lock(), itertools.count(1)

    def worker() -> None:
        while (i := next(left)) < count:
            work(i)
            with lock:
                progress(next(done) / count)

    side_by_side([worker] * max(1, min(num_threads(), count)))


def _pieces(work: IntArray) -> list[tuple[int, int]]:
    """Bounds of pieces of about equal work."""
    if not work.size:
        return []
    total = offsets(work)
    count = int(total[-1]) // _PIECE + 1
    bounds = np.searchsorted(total, total[-1] * np.arange(count + 1) / count)
    bounds[0], bounds[-1] = 0, work.size
    bounds = np.unique(bounds)
    return [(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
