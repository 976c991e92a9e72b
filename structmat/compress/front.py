"""`compress` and `compare`: checks, budgets, and measured errors."""

import math
import numbers
import time
from typing import Any

import numpy as np

from structmat.compress.contained import Bound, Fits, relative
from structmat.compress.goal import Progress, no_progress
from structmat.compress.results import Comparison, CompressionResult
from structmat.compress.source import Source, source_of, svd_residual
from structmat.compress.svd import sketch, truncated_svd
from structmat.errors import BudgetError, InputError, KindError
from structmat.kinds import fitted_kinds, is_built_in


def compress(
    A: Any,
    kind: str,
    *,
    budget: float | None = None,
    tol: float | None = None,
    rng: Any = None,
    progress: Progress | None = None,
) -> CompressionResult:
    """Approximate a matrix by a structured one, under a budget or to a tolerance.

    Parameters
    ----------
    A : array, shape (m, n), or structured or sparse matrix, or operator
        An array of any library. An operator is anything with ``shape``, ``matmat`` and
        ``rmatmat``; like a structured or sparse matrix of more than 2**26 entries it is
        never made dense, and compresses to "low_rank" and "gblr".
    kind : str
        "low_rank", "block_sparse", "block_low_rank", "monarch", "gblr", or one that
        `register` entered with a fit.
    budget : float, optional
        Cap on the cost, as a fraction of m n, in (0, 1]. Give this or `tol`.
    tol : float, optional
        Bound on ``||A - B||_F / ||A||_F``, which the measured error meets. The cost may
        then exceed that of the dense matrix.
    rng : None, int or numpy.random.Generator
        As for `numpy.random.default_rng`.
    progress : callable, optional
        Called with the share of the work done, 0 to 1.

    Returns
    -------
    CompressionResult

    Raises
    ------
    KindError
        If the kind is unknown.
    BudgetError
        If the budget is no fraction, or below the cost of the cheapest Monarch matrix of
        that shape. The other kinds fit into any budget: the zero matrix costs nothing.
    ToleranceError
        If no matrix of the kind comes that close in the precision of `A`.
    InputError
        If `A` is no finite matrix of numbers, if none or both of `budget` and `tol` are
        given, or if the kind needs the entries of an operator.

    Notes
    -----
    The result is never worse than a kind that converts to this one exactly, at about its
    cost: the fits of such kinds, converted, are among the candidates. `convert` lists them.

    Errors are measured, not estimated. For an operator a measurement takes n products
    with unit vectors, some at a time, which may outlast the fit itself.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.outer(np.arange(1.0, 9.0), np.ones(8))
    >>> result = compress(A, "low_rank", tol=1e-9)
    >>> result.cost, result.error < 1e-9
    (16, True)
    """
    _check_kind(kind)
    if (budget is None) == (tol is None):
        raise InputError(
            f"budget = {budget!r} and tol = {tol!r}; expected exactly one of them "
            "(a cap on the cost, or a bound on the error)"
        )
    source = source_of(A)
    m, n = source.data.shape
    cap = None if budget is None else _cap(budget, m, n)
    _check_tol(tol)
    generator, report = _generator(rng), progress or no_progress
    size = source.norm()
    fits = Fits(source, size)
    fits.load(kind)
    started = time.perf_counter()
    bound = Bound(cap, None if tol is None else float(tol))
    matrix = fits.best(kind, bound, generator, report)
    seconds = time.perf_counter() - started
    error = fits.error(matrix)
    if cap is None:
        cap = matrix.cost
    baseline = error
    if kind != "low_rank":
        rank = cap // max(m + n, 1)
        decompose = sketch if source.implicit else truncated_svd
        triple = decompose(source.data, rank, generator)
        baseline = relative(svd_residual(source.data, triple), size)
    report(1.0)
    return CompressionResult(
        source.restore(matrix), kind, error, matrix.cost, matrix.storage, baseline, seconds
    )


def compare(
    A: Any, *, budget: float, rng: Any = None, progress: Progress | None = None
) -> tuple[Comparison, ...]:
    """Compress a matrix to every kind under one cap on the cost.

    Parameters
    ----------
    A : array, shape (m, n), or structured or sparse matrix, or operator
        As in `compress`. An operator is compressed to the kinds that need no entries.
    budget : float
        Cap on the cost, as a fraction of m n, in (0, 1].
    rng : None, int or numpy.random.Generator
        As for `numpy.random.default_rng`.
    progress : callable, optional
        Called with the share of the work done, 0 to 1.

    Returns
    -------
    tuple of Comparison
        One for each kind that has a fit. Where a kind has no matrix that cheap, or a
        third party's fit raises, the row has no matrix, and a note of the reason.

    Raises
    ------
    BudgetError
        If the budget is no fraction.
    InputError
        If `A` is no finite matrix of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> rows = compare(np.eye(8), budget=0.5, rng=0)
    >>> [row.kind for row in rows]
    ['low_rank', 'block_sparse', 'block_low_rank', 'monarch', 'gblr']
    """
    source = source_of(A)
    bound = Bound(cap=_cap(budget, *source.data.shape))
    generator, report = _generator(rng), progress or no_progress
    kinds = fitted_kinds(implicit=source.implicit)
    fits, rows = Fits(source, source.norm()), []
    for i, kind in enumerate(kinds):

        def share(done: float, before: int = i) -> None:
            report((before + done) / len(kinds))

        try:
            rows.append(_compared(source, fits, kind, bound, generator, share))
        except BudgetError as error:
            rows.append(_no_matrix(kind, str(error)))
        except Exception as error:
            if is_built_in(kind):
                raise
            rows.append(_no_matrix(kind, f"{type(error).__name__}: {error}"))
    report(1.0)
    return tuple(rows)


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


def _check_kind(kind: object) -> None:
    if not isinstance(kind, str) or kind not in fitted_kinds():
        raise KindError(f"kind {kind!r}; expected one of {', '.join(map(repr, fitted_kinds()))}")


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _cap(budget: float, m: int, n: int) -> int:
    """Multiplications within a budget."""
    if not _is_real(budget) or not 0 < budget <= 1:
        raise BudgetError(
            f"budget = {budget!r}; expected a fraction of the dense cost m n, above 0 and at most "
            "1 (0.2 for twenty per cent)"
        )
    return math.floor(float(budget) * m * n)


def _check_tol(tol: float | None) -> None:
    if tol is not None and not (_is_real(tol) and 0 <= tol < math.inf):
        raise InputError(
            f"tol = {tol!r}; expected a relative error, finite and at least 0 (1e-3 for a tenth "
            "of a per cent)"
        )


def _generator(rng: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise InputError(
            f"rng = {rng!r}; expected None, a whole number of at least 0, or a "
            "numpy.random.Generator"
        ) from None
