"""One compression of a source: ordered, fitted by its entries, its error estimated, retried."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from structmat import _array
from structmat._progress import Progress, part
from structmat.compress.contained import Bound
from structmat.compress.entries.sampled import estimated, measured, source_norm
from structmat.compress.estimate import Estimate
from structmat.compress.goal import Goal
from structmat.errors import BudgetError, InputError, ToleranceError
from structmat.intervals import IntArray
from structmat.kinds import find_entries_fit, fitted_kinds
from structmat.matrices.orders import in_orders
from structmat.matrices.permutation import Permutation
from structmat.matrix import StructuredMatrix
from structmat.sources.ordering import kd_order
from structmat.sources.source import Source
from structmat.sources.views import on_host, reordered

#: Sources with at most as many entries are formed.
SMALL_ENTRIES = 2**16
#: Sources are formed for fits of arrays up to this number of entries: 512 MiB.
FORMED_ENTRIES = 2**26
#: First aim as a share of a tolerance, and number of tries.
FIRST_AIM, TRIES = 0.5, 4
#: Kinds that have orders of their own, or need none.
UNORDERED = ("low_rank", "hierarchical")
#: Share of the progress for the fit.
FITTING = 0.9


@dataclass(frozen=True)
class Fitted:
    """A matrix near a source, in its orders, and what it took."""

    matrix: StructuredMatrix
    estimate: Estimate
    seconds: float
    entries: int
    ordered: bool


class Compression:
    """A source prepared for one kind: on NumPy, its rows and columns in k-d order."""

    def __init__(self, source: Source, kind: str) -> None:
        self._user, self.kind = source, kind
        self.host = on_host(source)
        self._begun = source.entries
        self._orders = None if kind in UNORDERED else _orders(self.host)
        self.ordered = self._orders is not None
        self.source = reordered(self.host, *self._orders) if self._orders else self.host

    @property
    def entries(self) -> int:
        """Entries evaluated since the beginning."""
        return self._user.entries - self._begun

    @property
    def forms(self) -> bool:
        """True if the source is small, or the kind has no fit by entries."""
        size = math.prod(self.source.shape)
        if size <= SMALL_ENTRIES:
            return True
        if find_entries_fit(self.kind) is not None:
            return False
        if size > FORMED_ENTRIES:
            able = ", ".join(k for k in fitted_kinds() if find_entries_fit(k) is not None)
            raise InputError(
                f"compression of a {self.source.shape[0]}x{self.source.shape[1]} source to "
                f"{self.kind!r} needs all of its entries; expected at most {FORMED_ENTRIES} of "
                f"them, or one of {able}"
            )
        return True

    def in_place(self, matrix: StructuredMatrix) -> StructuredMatrix:
        """A matrix near the ordered source as one near the source itself, on NumPy."""
        if self._orders is None:
            return matrix
        rows, cols = (Permutation(order) for order in self._orders)
        return in_orders(rows.H, matrix, cols)

    def restored(self, matrix: StructuredMatrix) -> StructuredMatrix:
        """A matrix in the library and on the device of the source."""
        if _array.is_numpy(self._user.xp):
            return matrix
        moved = matrix.to(self._user.xp)
        return moved if moved.device == self._user.device else moved.to(self._user.device)

    def fit(
        self, bound: Bound, rng: np.random.Generator, progress: Progress, *, exact: bool
    ) -> Fitted:
        """Fit by entries to a cap, or to a tolerance that the bound of the error has to meet."""
        started = time.perf_counter()
        fit: Any = find_entries_fit(self.kind)
        measure = measured if exact else lambda source, matrix: estimated(source, matrix, rng)
        size = source_norm(self.source, rng)
        if bound.cap is not None:
            goal = Goal(max_cost=bound.cap, size=size)
            matrix = fit(self.source, goal, rng=rng, progress=part(progress, 0.0, FITTING))
            if matrix.cost > bound.cap:
                raise BudgetError(
                    f"{self.kind!r} costs {matrix.cost}, above the cap of {bound.cap}; that is a "
                    "mistake of its fit, please report it with the source"
                )
            return self._found(matrix, measure(self.source, matrix), started)
        return self._to_tolerance(fit, bound.tol or 0.0, size, measure, rng, progress, started)

    def _to_tolerance(
        self,
        fit: Any,
        tol: float,
        size: float,
        measure: Callable[[Source, Any], Estimate],
        rng: np.random.Generator,
        progress: Progress,
        started: float,
    ) -> Fitted:
        aim, best = FIRST_AIM * tol, math.inf
        for attempt in range(TRIES):
            share = part(progress, FITTING * attempt / TRIES, FITTING * (attempt + 1) / TRIES)
            goal = Goal(max_error=aim * size, size=size)
            matrix = fit(self.source, goal, rng=rng, progress=share)
            estimate = measure(self.source, matrix)
            if estimate.bound <= tol:
                return self._found(matrix, estimate, started)
            best = min(best, estimate.bound)
            aim *= max(0.1, min(0.5, 0.7 * tol / estimate.bound))
        raise ToleranceError(
            f"tol = {tol:.3g}, but the error of the {self.kind!r} matrix is {estimate}, after "
            f"{TRIES} tries at ever smaller errors (at best {best:.3g}); expected a larger "
            "tolerance, or entries that depend on nothing but row and column"
        )

    def _found(self, matrix: StructuredMatrix, estimate: Estimate, started: float) -> Fitted:
        seconds = time.perf_counter() - started
        return Fitted(self.in_place(matrix), estimate, seconds, self.entries, self.ordered)


def _orders(source: Source) -> tuple[IntArray, IntArray] | None:
    """Orders of rows and of columns by their points; None without points."""
    points, points2 = source.points, source.points2
    if points is None or points2 is None:
        return None
    rows = kd_order(points)
    return rows, rows if points2 is points else kd_order(points2)
