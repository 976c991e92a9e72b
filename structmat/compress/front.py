"""`compress` and `compare`: checks, budgets, and measured errors."""

import math
import time
import warnings
from typing import Any

import numpy as np

from structmat._progress import Progress, part, reporting
from structmat.compress.arguments import bound_for, check_goal, check_kind, generator_of
from structmat.compress.contained import Bound, Fits, relative
from structmat.compress.results import Comparison, ComparisonTable, CompressionResult
from structmat.compress.source import Source, source_of, svd_residual
from structmat.errors import BudgetError, ToleranceError
from structmat.kinds import fitted_kinds, is_built_in
from structmat.project.svd import sketch, truncated_svd

#: Share of the progress of a compression that is left for measuring it.
MEASURING = 0.1


def compress(
    A: Any,
    kind: str = "gblr",
    *,
    budget: float | None = None,
    tol: float | None = None,
    rng: Any = None,
    progress: Progress | bool | None = None,
) -> CompressionResult:
    """Approximate a matrix by a structured one, under a budget or to a tolerance.

    Parameters
    ----------
    A : array, shape (m, n), or structured or sparse matrix, or operator
        An array of any library. An operator is anything with ``shape``, ``matmat`` and
        ``rmatmat``; like a structured or sparse matrix of more than 2**26 entries it is
        never made dense, and compresses to "low_rank" and "gblr". Gradients of tensors do
        not follow.
    kind : str
        "gblr" by default, which contains the next three; "low_rank", "block_sparse",
        "block_low_rank", "monarch", or one that `register` entered with a fit.
    budget : float, optional
        Cap on the cost, as a fraction of m n, in (0, 1]. Give this or `tol`.
    tol : float, optional
        Bound on ``||A - B||_F / ||A||_F``, which the measured error meets. The cost may
        then exceed that of the dense matrix.
    rng : None, int or numpy.random.Generator
        As for `numpy.random.default_rng`.
    progress : bool or callable, optional
        By default a bar on a terminal, once the work has taken three seconds, and silence
        elsewhere. True shows the bar at once, False never; a function is called with the
        share of the work done, 0 to 1.

    Returns
    -------
    CompressionResult

    Raises
    ------
    KindError
        If the kind is unknown.
    BudgetError
        If the budget is no fraction, or below the cost of the cheapest Monarch matrix of
        that shape. The other kinds fit into any budget: the zero matrix costs nothing, and a
        warning says so where the budget leaves nothing else.
    ToleranceError
        If no matrix of the kind comes that close in the precision of `A`.
    InputError
        If `A` is no finite matrix of numbers, if none or both of `budget` and `tol` are
        given, or if the kind needs the entries of an operator.

    Notes
    -----
    The result is never worse than a kind that converts to this one exactly, at about its
    cost: the fits of such kinds, converted, are among the candidates. `convert` lists them.

    Expected time on one core, for 1024 x 1024: about 8 s to "gblr", 2 s to "block_low_rank"
    and "monarch", half a second to the others; for 256 x 256 half a second at most.

    Errors are measured, not estimated. The norm of an operator takes n products with unit
    vectors, some at a time; that of a sparse matrix takes its entries. The error of a low-rank
    or GBLR matrix B then takes one product for each column of its factors, as
    ``||A||**2 - 2 <A, B> + ||B||**2``. Where that would cancel, below a relative error of about
    1e-5 in double precision, the difference takes n products again.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.outer(np.arange(1.0, 9.0), np.ones(8))
    >>> result = compress(A, "low_rank", tol=1e-9)
    >>> result.cost, result.error < 1e-9
    (16, True)
    """
    check_kind(kind)
    check_goal(budget, tol)
    generator = generator_of(rng)
    with reporting(progress, f"compressing to {kind}") as report:
        source = source_of(A)
        m, n = source.data.shape
        bound = bound_for(budget, tol, (m, n))
        size = source.norm()
        fits = Fits(source, size)
        fits.load(kind)
        started = time.perf_counter()
        matrix = fits.best(kind, bound, generator, part(report, 0.0, 1 - MEASURING))
        seconds = time.perf_counter() - started
        error = fits.error(matrix)
        baseline = error
        if kind != "low_rank":
            cap = matrix.cost if bound.cap is None else bound.cap
            decompose = sketch if source.implicit else truncated_svd
            triple = decompose(source.data, cap // max(m + n, 1), generator)
            baseline = relative(svd_residual(source.data, triple), size)
        report(1.0)
    # Permutations cost nothing, either.
    if bound.cap is not None and matrix.cost == 0 and math.isclose(error, 1.0, rel_tol=1e-6):
        warnings.warn(
            f"the result is the zero matrix: a budget of {budget} is {bound.cap} of the {m * n} "
            f"multiplications of a dense matrix, too few for any part of a {kind!r} one; expected "
            "a larger budget (structmat.compare shows what each kind makes of it)",
            stacklevel=2,
        )
    return CompressionResult(
        source.restore(matrix), kind, error, matrix.cost, matrix.storage, baseline, seconds
    )


def compare(
    A: Any,
    *,
    budget: float | None = None,
    tol: float | None = None,
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
    ['low_rank', 'block_sparse', 'block_low_rank', 'monarch', 'gblr']
    """
    check_goal(budget, tol)
    generator = generator_of(rng)
    with reporting(progress, "comparing kinds") as report:
        source = source_of(A)
        bound = bound_for(budget, tol, source.data.shape)
        kinds = fitted_kinds(implicit=source.implicit)
        fits, rows = Fits(source, source.norm()), []
        unmet = BudgetError if tol is None else ToleranceError
        for i, kind in enumerate(kinds):
            done = part(report, i / len(kinds), (i + 1) / len(kinds))
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
    error = fits.error(matrix)
    moved = source.restore(matrix)
    return Comparison(kind, moved, matrix.cost, matrix.storage, error, seconds)


def _no_matrix(kind: str, note: str) -> Comparison:
    return Comparison(kind, None, 0, 0, math.nan, 0.0, note)
