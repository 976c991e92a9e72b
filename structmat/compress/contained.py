"""Fits of one input: the best of a kind's own and those of the kinds that it contains.

A rule of conversion says that a kind contains another (`structmat.kinds.contained_kinds`).
So a new kind is considered wherever it converts, and a search that goes astray never
costs more than a simpler structure.
"""

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from structmat._progress import Progress, no_progress
from structmat.compress.estimate import Estimate
from structmat.compress.goal import Goal
from structmat.compress.hermitian import FORMS, hermitian_fit
from structmat.compress.measure import Measure
from structmat.compress.operators import Products
from structmat.compress.source import Source
from structmat.errors import (
    BudgetError,
    ConversionError,
    InputError,
    StructmatError,
    ToleranceError,
)
from structmat.kinds import contained_kinds, find_fit, fitted_kinds, is_built_in
from structmat.matrix import StructuredMatrix
from structmat.project.svd import Explicit

Fitted = TypeVar("Fitted")

#: Number of fits that are tried while rounding brings the error just above the tolerance.
ATTEMPTS = 3
#: Products of a fit, for each halving of an axis, after which another one is tried.
PATIENCE = 64
#: Products of a further fit, as a share of those that were taken for one that succeeded.
BESIDE = 0.25
#: Aims in turn, as shares of the tolerance, where the bound of an estimate has to meet it.
AIMS = (0.65, 0.4, 0.2, 0.1, 0.03)
#: Relative difference of two errors that are called equal.
EQUAL_ERRORS = 1e-6
#: Relative errors below this many roundings are exact.
EXACT_ROUNDINGS = 8
#: Share of the progress that is reported for a kind's own fit.
OWN_PROGRESS = 0.8


@dataclass(frozen=True)
class Bound:
    """A cap on the cost or a tolerance of the relative error; exactly one of the two is set."""

    cap: int | None = None
    tol: float | None = None


class Fits:
    """Fits of one input to any kind, each of them run once for a goal."""

    def __init__(
        self,
        source: Source,
        size: float,
        measure: Measure | None = None,
        *,
        hermitian: bool = False,
    ) -> None:
        self._source = source
        #: True if results store one half of a Hermitian matrix.
        self._hermitian = hermitian
        self._measure = Measure(source, size) if measure is None else measure
        #: Relative error that may be rounding.
        self.exact = EXACT_ROUNDINGS * float(np.finfo(source.data.dtype).eps)
        self._found: dict[tuple[str, Goal], StructuredMatrix] = {}

    @property
    def size(self) -> float:
        """Frobenius norm of the input, as well as it is known."""
        return self._measure.size

    @property
    def measured(self) -> bool:
        """True if errors are measured by request, whatever number of products that takes."""
        return self._measure.requested

    @property
    def exact_errors(self) -> bool:
        """True if errors are measured, not estimated."""
        return self._measure.exact

    def load(self, kind: str) -> None:
        """Import what `best` runs, so that its time is that of the fits alone."""
        self._fitter(kind)
        for other in self._others(kind):
            attempt(other, partial(self._fitter, other))

    def best(
        self, kind: str, bound: Bound, rng: np.random.Generator, progress: Progress = no_progress
    ) -> StructuredMatrix:
        """Best matrix of a kind: its own fit, or that of a kind which it contains, converted.

        Under a cap, the best has the least error; for a tolerance, the least cost. Where several
        fits are tried on an operator, none of them takes many more products than the others.
        """
        others = self._others(kind)
        unmet = (ToleranceError, BudgetError) if self._hermitian else ToleranceError
        start = copy.deepcopy(rng) if others else rng
        share = OWN_PROGRESS if others else 1.0
        best: StructuredMatrix | None = None
        reason: StructmatError | None = None
        run = partial(self._run, kind, kind, bound)
        try:
            with self._patience(found=False) if others else nullcontext():
                best = run(rng, lambda done: progress(share * done))
        except unmet as error:
            reason = error
        for done, other in enumerate(others, 1):
            # Each fit begins with the same random numbers, as in a call of its own.
            again = partial(self._run, other, kind, bound, copy.deepcopy(start), no_progress)
            with self._patience(found=best is not None):
                matrix = attempt(other, again)
            if matrix is not None and (best is None or self._is_better(matrix, best, bound)):
                best = matrix
            progress(share + (1 - share) * done / len(others))
        if best is None and others and self._source.implicit and not self._hermitian:
            return run(copy.deepcopy(start), no_progress)
        if best is None:
            raise reason or ToleranceError(f"no {kind!r} matrix meets tol = {bound.tol}")
        return best

    def _others(self, kind: str) -> tuple[str, ...]:
        """Kinds that are tried besides; Hermitian ones keep their own form."""
        others = tuple(contained_kinds(kind, implicit=self._source.implicit))
        if not self._hermitian:
            return others
        more = ("hierarchical",) if kind == "gblr" else ()
        return tuple(other for other in (*others, *more) if other in FORMS)

    def _as(self, matrix: StructuredMatrix, kind: str) -> StructuredMatrix:
        return matrix if self._hermitian else as_contained(matrix, kind)

    def _patience(self, *, found: bool) -> AbstractContextManager[None]:
        """Limit a fit to a part of the products so far, or to those that a peeling may take."""
        op = self._source.data
        if not isinstance(op, Products):
            return nullcontext()
        least = PATIENCE * max(min(op.shape), 2).bit_length()
        return op.limited(BESIDE * op.products if found else least)

    def error(self, matrix: StructuredMatrix) -> float:
        """Relative Frobenius error, found once; infinite beside an input of zeros."""
        return self.estimate(matrix).error

    def estimate(self, matrix: StructuredMatrix) -> Estimate:
        """The error and its bound, which are equal where errors are measured."""
        return self._measure(matrix)

    def own(
        self, kind: str, goal: Goal, rng: np.random.Generator, progress: Progress = no_progress
    ) -> StructuredMatrix:
        """Run the fit of a kind, or return its matrix if it ran before."""
        if (kind, goal) not in self._found:
            self._found[kind, goal] = self._fit(kind, goal, rng=rng, progress=progress)
        return self._found[kind, goal]

    def within(self, other: str, kind: str, cap: int, rng: np.random.Generator) -> StructuredMatrix:
        """Fit a contained kind so that its matrix costs at most `cap` as one of `kind`."""
        start = copy.deepcopy(rng)
        matrix = self.own(other, Goal(max_cost=cap), rng)
        cost = self._as(matrix, kind).cost
        if cost > cap:
            # A conversion from elsewhere may raise the cost.
            matrix = self.own(other, Goal(max_cost=cap**2 // cost), start)
            if (cost := self._as(matrix, kind).cost) > cap:
                raise BudgetError(f"{other!r} costs {cost} as {kind!r}; expected at most {cap}")
        return matrix

    def _run(
        self,
        other: str,
        kind: str,
        bound: Bound,
        rng: np.random.Generator,
        progress: Progress,
    ) -> StructuredMatrix:
        """Fit a kind as a matrix of `kind`, at an ever lower aim until a tolerance is met."""
        if bound.cap is not None:
            if other == kind:
                return self.own(kind, Goal(max_cost=bound.cap), rng, progress)
            return self._as(self.within(other, kind, bound.cap, rng), kind)
        tol, error = bound.tol or 0.0, math.inf
        attempt = partial(self._attempt, other, kind, tol, rng=rng, progress=progress)
        # Aims that depended on estimates would let the fit see their random vectors.
        for share in AIMS:
            if not self.exact_errors:
                found, error = attempt(aim=share * tol * self.size)
                if error <= tol and not self.exact_errors:
                    return found
        # By now errors are measured, unless no estimate meets the tolerance.
        aim = tol * self.size
        for _ in range(ATTEMPTS if self.exact_errors else 0):
            found, error = attempt(aim=aim)
            if error <= tol:
                return found
            aim *= 0.99 * tol / error
        dtype = self._source.data.dtype
        raise ToleranceError(
            f"tol = {tol:.3g}, but {kind!r} reaches only {error:.3g} in {dtype}; allow "
            "more" + (", or give the matrix in double precision" if dtype.char in "fF" else "")
        )

    def _attempt(
        self,
        other: str,
        kind: str,
        tol: float,
        *,
        aim: float,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[StructuredMatrix, float]:
        """A matrix of one aim, and the bound on its relative error."""
        try:
            matrix = self.own(other, Goal(max_error=aim), rng, progress)
        except ToleranceError as reason:
            raise ToleranceError(
                f"tol = {tol:.3g} of a norm of {self.size:.3g}: {reason}"
            ) from None
        found = matrix if other == kind else self._as(matrix, kind)
        return found, self.estimate(found).bound

    def _is_better(self, new: StructuredMatrix, old: StructuredMatrix, bound: Bound) -> bool:
        if bound.tol is not None:
            return new.cost < old.cost
        return is_nearer((self.error(new), new.cost), (self.error(old), old.cost), self.exact)

    def _fitter(self, kind: str) -> Callable[..., StructuredMatrix]:
        plain = self._plain_fitter(kind)
        return hermitian_fit(kind, plain) if self._hermitian else plain

    def _plain_fitter(self, kind: str) -> Callable[..., StructuredMatrix]:
        fit = find_fit(kind, implicit=self._source.implicit)
        products = find_fit(kind, implicit=True)
        if fit is None and products is not None:
            # An array has products, too.
            return lambda A, goal, **options: products(Explicit(A), goal, **options)
        if fit is None:
            able = ", ".join(fitted_kinds(implicit=True))
            raise InputError(
                f"compression of an operator to {kind!r} needs its entries; expected one of {able} "
                "(or give the dense matrix, for a sparse one A.toarray())"
            )
        return fit

    def _fit(self, kind: str, goal: Goal, **options: Any) -> StructuredMatrix:
        source = self._source
        matrix = self._fitter(kind)(source.data, goal, **options)
        is_matrix = isinstance(matrix, StructuredMatrix)
        if not is_matrix or matrix.shape != source.data.shape:
            found = repr(matrix) if is_matrix else f"a {type(matrix).__qualname__}"
            raise InputError(
                f"the fit of {kind!r} returned {found}; expected a StructuredMatrix of shape "
                f"{source.data.shape} (mend the fit)"
            )
        if goal.max_cost is not None and matrix.cost > goal.max_cost:
            raise BudgetError(
                f"{kind!r} costs {matrix.cost}, above the cap of {goal.max_cost}; that is a "
                "mistake of its fit, please report it with the matrix"
            )
        return matrix


def attempt(kind: str, fit: Callable[[], Fitted]) -> Fitted | None:
    """Result of the fit of a contained kind; None if it fails.

    A call of `compress` for that kind itself shows the exception of a third party's fit.
    """
    try:
        return fit()
    except (BudgetError, ToleranceError, ConversionError):
        return None
    except Exception:
        if is_built_in(kind):
            raise
        return None


def as_contained(matrix: StructuredMatrix, kind: str) -> StructuredMatrix:
    """The same matrix as a kind that contains its own; otherwise a `ConversionError`."""
    for step in contained_kinds(kind).get(matrix.kind, (kind,)):
        matrix = matrix.to_kind(step)
    if matrix.kind != kind:
        raise ConversionError(f"{matrix!r}; expected a {kind!r} matrix (mend the conversion)")
    return matrix


def is_nearer(new: tuple[float, int], old: tuple[float, int], exact: float) -> bool:
    """Compare (relative error, cost): the least error wins, of equal ones the least cost.

    Examples
    --------
    >>> is_nearer((0.1, 9), (0.2, 4), 1e-15), is_nearer((1e-16, 9), (1e-15, 4), 1e-14)
    (True, False)
    """
    ahead, behind = (error if error > exact else 0.0 for error, _ in (new, old))
    if abs(ahead - behind) > EQUAL_ERRORS * max(ahead, behind):
        return ahead < behind
    return new[1] < old[1]
