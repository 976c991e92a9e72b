"""`compare`: every kind under one cap on the cost, or to one tolerance."""

import math
import time
from functools import partial
from typing import Any

import numpy as np

from structmat._progress import Progress, part, reporting
from structmat.compress.arguments import bound_for, check_goal, generator_of
from structmat.compress.contained import Bound, Fits
from structmat.compress.entries.run import takes
from structmat.compress.front import compress, fits_of, is_halved
from structmat.compress.hermitian import FORMS
from structmat.compress.results import Comparison, ComparisonTable, CompressionResult
from structmat.compress.source import Source, source_of
from structmat.errors import BudgetError, ToleranceError
from structmat.kinds import compressible_kinds, fitted_kinds, is_built_in
from structmat.sources.source import Source as EntrySource


def compare(
    A: Any,
    *,
    budget: float | None = None,
    tol: float | None = None,
    symmetric: bool | None = None,
    measure: str | None = None,
    rng: Any = None,
    progress: Progress | bool | None = None,
) -> tuple[Comparison, ...]:
    """Compress a matrix to every kind, under one cap on the cost or to one tolerance.

    Parameters
    ----------
    A : array, shape (m, n), or structured or sparse matrix, or operator
        As in `compress`. An operator is compressed to the kinds that need no entries.
    budget : float, optional
        Cap on the cost, as a fraction of m n, in (0, 1]. Give this or `tol`.
    tol : float, optional
        Bound on the relative error. Each kind then shows the cheapest matrix found that
        meets it.
    symmetric, measure : optional
        As in `compress`.
    rng : None, int or numpy.random.Generator
        As for `numpy.random.default_rng`.
    progress : bool or callable, optional
        By default a bar on a terminal, once the work has taken three seconds, and silence
        elsewhere. True shows the bar at once, False never; a function is called with the
        share of the work done, 0 to 1.

    Returns
    -------
    tuple of Comparison
        One for each kind that has a fit; it prints as a table, and a notebook shows the
        blocks of each matrix. If a kind has no matrix that cheap or that close, or a third
        party's fit raises, its row has no matrix, and a note of the reason.

    Raises
    ------
    BudgetError
        If the budget is no fraction.
    InputError
        If `A` is no finite matrix of numbers.

    Notes
    -----
    Expected time: the sum of all kinds in `compress`, about a quarter of a minute for a
    matrix of 1024 x 1024 on one core.

    Examples
    --------
    >>> import numpy as np
    >>> rows = compare(np.eye(8), budget=0.5, rng=0)
    >>> [row.kind for row in rows]
    ['low_rank', 'block_sparse', 'block_low_rank', 'monarch', 'gblr', 'hierarchical']
    """
    check_goal(budget, tol)
    generator = generator_of(rng)
    if isinstance(A, EntrySource):
        call = partial(
            compress, A, budget=budget, tol=tol, measure=measure, rng=generator,
            symmetric=symmetric,
        )  # fmt: skip
        with reporting(progress, "comparing kinds") as report:
            return ComparisonTable(_rows_of_source(A, call, report))
    with reporting(progress, "comparing kinds") as report:
        source = source_of(A, symmetric=symmetric, rng=generator)
        bound = bound_for(budget, tol, source.data.shape)
        kinds = fitted_kinds(implicit=source.implicit)
        halved = is_halved(source, symmetric, "low_rank")
        fits, rows = fits_of(source, measure, hermitian=halved), []
        unmet = BudgetError if tol is None else ToleranceError
        for i, kind in enumerate(kinds):
            done = part(report, i / len(kinds), (i + 1) / len(kinds))
            if halved and kind not in FORMS:
                rows.append(_no_matrix(kind, "no form of half the storage"))
                continue
            try:
                rows.append(_compared(source, fits, kind, bound, generator, done))
            except unmet as error:
                rows.append(_no_matrix(kind, str(error)))
            except Exception as error:
                if is_built_in(kind):
                    raise
                rows.append(_no_matrix(kind, f"{type(error).__name__}: {error}"))
        report(1.0)
    return ComparisonTable(rows)


def _rows_of_source(
    A: EntrySource, call: partial[CompressionResult], report: Progress
) -> list[Comparison]:
    """Rows of the kinds that take a source of this size."""
    rows, kinds = [], [kind for kind in compressible_kinds() if takes(A, kind)]
    if call.keywords.get("symmetric"):
        kinds = [kind for kind in kinds if kind in FORMS]
    for i, kind in enumerate(kinds):
        try:
            found = call(kind, progress=part(report, i / len(kinds), (i + 1) / len(kinds)))
            rows.append(
                Comparison(
                    kind, found.matrix, found.cost, found.storage, found.error, found.seconds,
                    estimate=found.estimate,
                )
            )  # fmt: skip
        except (BudgetError, ToleranceError) as error:
            rows.append(_no_matrix(kind, str(error)))
    return rows


def _compared(
    source: Source,
    fits: Fits,
    kind: str,
    bound: Bound,
    rng: np.random.Generator,
    progress: Progress,
) -> Comparison:
    """Row of one kind."""
    fits.load(kind)
    started = time.perf_counter()
    matrix = fits.best(kind, bound, rng, progress)
    seconds = time.perf_counter() - started
    estimate = fits.estimate(matrix)
    moved = source.restore(matrix)
    return Comparison(
        kind, moved, matrix.cost, matrix.storage, estimate.error, seconds, estimate=estimate
    )


def _no_matrix(kind: str, note: str) -> Comparison:
    return Comparison(kind, None, 0, 0, math.nan, 0.0, note)
