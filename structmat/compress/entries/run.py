"""One compression of a source: ordered, fitted by its entries, its error estimated, retried."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._progress import Progress, part
from structmat.compress.contained import Bound
from structmat.compress.entries.sampled import estimated, measured, source_norm
from structmat.compress.estimate import Estimate
from structmat.compress.goal import Goal
from structmat.compress.hermitian import hermitian_fit
from structmat.compress.results import CompressionResult
from structmat.errors import BudgetError, InputError, ToleranceError
from structmat.intervals import IntArray
from structmat.kinds import compressible_kinds, find_entries_fit, find_fit
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
#: Up to this number of entries a source is formed after all, where the fit by entries fails.
RESCUED_ENTRIES = 2**19
#: First aim as a share of a tolerance, and number of tries.
FIRST_AIM, TRIES = 0.7, 4
#: Kinds whose fits have orders of their own, or need none.
UNORDERED = ("low_rank", "hierarchical")
#: Share of the progress for the fit.
FITTING = 0.9


def takes(source: Source, kind: str) -> bool:
    """True if a source of this size goes into a kind."""
    return find_entries_fit(kind) is not None or math.prod(source.shape) <= FORMED_ENTRIES


def compress_source(
    source: Source,
    kind: str,
    bound: Bound,
    form: Callable[..., CompressionResult],
    rng: np.random.Generator,
    report: Progress,
    *,
    exact: bool,
    hermitian: bool = False,
) -> CompressionResult:
    """A matrix near a source, by blocks of its entries.

    A small source, or one for a kind without such a fit, is formed, and `form` compresses it. So
    is one of middle size that the fit by entries does not bring to its tolerance.
    """
    run = Compression(source, kind, _hermitian_fit(kind) if hermitian else None)
    result = None if run.forms else run.result(bound, rng, report, exact=exact)
    if result is not None:
        return result
    found = form(run.formed(), progress=report)
    matrix = run.restored(run.in_place(found.matrix))
    return replace(found, matrix=matrix, entries=run.entries, ordered=run.ordered)


def _hermitian_fit(kind: str) -> Any:
    """Fit by entries that stores half of a Hermitian source; None for kinds without one."""
    # A hierarchical matrix is the GBLR one that stores one triangle.
    stored = "hierarchical" if kind == "gblr" else kind
    fit = find_entries_fit(stored)
    return None if fit is None else hermitian_fit(stored, fit)


class Compression:
    """A source prepared for one kind: on NumPy, its rows and columns in k-d order.

    `fit` takes the place of the kind's own fit by entries. Without `local`, nothing is formed, and
    what the fit returns stays where it is.
    """

    def __init__(self, source: Source, kind: str, fit: Any = None, *, local: bool = True) -> None:
        self._user, self.kind, self._local = source, kind, local
        self._fit_entries: Any = fit or find_entries_fit(kind)
        self.host = on_host(source)
        self._begun = source.entries
        self.ordered = self.host.points is not None and kind != "low_rank"
        self._orders: tuple[IntArray, IntArray] | None = None
        self.source = self.host
        if kind not in UNORDERED or (local and self.forms):
            self._order()

    def _order(self) -> None:
        """Put rows and columns in the order of their points, if they have any."""
        if self.ordered and self._orders is None:
            self._orders = _orders(self.host)
            self.source = reordered(self.host, *self._orders)

    def formed(self) -> NDArray:
        """All entries, in the order of the points."""
        self._order()
        dense: NDArray = self.source.to_dense()
        return dense

    @property
    def entries(self) -> int:
        """Entries evaluated since the beginning."""
        return self._user.entries - self._begun

    @property
    def is_small(self) -> bool:
        """True for a source that is formed whatever the kind."""
        return math.prod(self.host.shape) <= SMALL_ENTRIES

    @property
    def forms(self) -> bool:
        """True if the source is small, or the kind has no fit by entries."""
        size = math.prod(self.host.shape)
        if self.is_small:
            return find_fit(self.kind) is not None
        if find_entries_fit(self.kind) is not None:
            return False
        if size > FORMED_ENTRIES:
            able = ", ".join(k for k in compressible_kinds() if find_entries_fit(k) is not None)
            raise InputError(
                f"compression of a {self.host.shape[0]}x{self.host.shape[1]} source to "
                f"{self.kind!r} needs all of its entries; expected at most {FORMED_ENTRIES} of "
                f"them, or one of {able}"
            )
        return True

    def in_place(self, matrix: StructuredMatrix) -> StructuredMatrix:
        """A matrix near the ordered source as one near the source itself, on NumPy."""
        if self._orders is None:
            return matrix
        if not self._local:
            found: StructuredMatrix = cast(Any, matrix).between(*self._orders)
            return found
        rows, cols = (Permutation(order) for order in self._orders)
        return in_orders(rows.H, matrix, cols)

    def restored(self, matrix: StructuredMatrix) -> StructuredMatrix:
        """A matrix in the library and on the device of the source."""
        if not self._local or _array.is_numpy(self._user.xp):
            return matrix
        moved = matrix.to(self._user.xp)
        return moved if moved.device == self._user.device else moved.to(self._user.device)

    def result(
        self, bound: Bound, rng: np.random.Generator, progress: Progress, *, exact: bool
    ) -> CompressionResult | None:
        """Result of `fit`, in the place of the source; None where it gives none."""
        started = time.perf_counter()
        fitted = self.fit(bound, rng, progress, exact=exact)
        if fitted is None:
            return None
        matrix, estimate = fitted
        seconds = time.perf_counter() - started
        matrix = self.in_place(matrix)
        progress(1.0)
        return CompressionResult(
            self.restored(matrix), self.kind, estimate.error, matrix.cost, matrix.storage,
            math.nan, seconds, estimate, entries=self.entries, ordered=self.ordered,
        )  # fmt: skip

    def fit(
        self, bound: Bound, rng: np.random.Generator, progress: Progress, *, exact: bool
    ) -> tuple[StructuredMatrix, Estimate] | None:
        """Fit by entries to a cap, or to a tolerance that the bound of the error has to meet.

        None if it does not meet the tolerance, and the source is small enough to be formed.
        """
        size = source_norm(self.source, rng)
        if bound.cap is not None:
            return self._to_cap(bound.cap, size, rng, progress, exact=exact)
        try:
            return self._to_tolerance(bound.tol or 0.0, size, rng, progress, exact=exact)
        except ToleranceError:
            small = self._local and math.prod(self.host.shape) <= RESCUED_ENTRIES
            if not small or find_fit(self.kind) is None:
                raise
            return None

    def _to_cap(
        self, cap: int, size: float, rng: np.random.Generator, progress: Progress, *, exact: bool
    ) -> tuple[StructuredMatrix, Estimate]:
        matrix = self._fitted(Goal(max_cost=cap, size=size), rng, part(progress, 0, FITTING))
        if matrix.cost > cap:
            raise BudgetError(
                f"{self.kind!r} costs {matrix.cost}, above the cap of {cap}; that is a mistake of "
                "its fit, please report it with the source"
            )
        return matrix, self._measured(matrix, rng, exact=exact)

    def _to_tolerance(
        self, tol: float, size: float, rng: np.random.Generator, progress: Progress, *, exact: bool
    ) -> tuple[StructuredMatrix, Estimate]:
        aim, best = FIRST_AIM * tol, math.inf
        for attempt in range(TRIES):
            share = part(progress, FITTING * attempt / TRIES, FITTING * (attempt + 1) / TRIES)
            matrix = self._fitted(Goal(max_error=aim * size, size=size), rng, share)
            estimate = self._measured(matrix, rng, exact=exact)
            if estimate.bound <= tol:
                return matrix, estimate
            best = min(best, estimate.bound)
            aim *= max(0.1, min(0.5, 0.7 * tol / estimate.bound))
        single = np.dtype(self.source.dtype).char in "fF"
        raise ToleranceError(
            f"tol = {tol:.3g}, but the {self.kind!r} matrix has an error of {estimate.error:.3g}, "
            f"{estimate}, after {TRIES} tries at ever smaller errors (at best {best:.3g}); "
            "expected a larger tolerance, "
            + ("double precision, " if single else "")
            + "or entries that depend on nothing but row and column"
        )

    def _fitted(self, goal: Goal, rng: np.random.Generator, progress: Progress) -> StructuredMatrix:
        fit = self._fit_entries
        matrix: StructuredMatrix = fit(self.source, goal, rng=rng, progress=progress)
        return matrix

    def _measured(
        self, matrix: StructuredMatrix, rng: np.random.Generator, *, exact: bool
    ) -> Estimate:
        return measured(self.source, matrix) if exact else estimated(self.source, matrix, rng)


def _orders(source: Source) -> tuple[IntArray, IntArray]:
    """Orders of rows and of columns by their points."""
    points, points2 = (np.asarray(some) for some in (source.points, source.points2))
    rows = kd_order(points)
    return rows, rows if source.points2 is source.points else kd_order(points2)
