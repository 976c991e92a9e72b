"""`compress` and `compare`: checks, budgets, and measured errors."""

import math
import numbers
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from structmat.compress.goal import Goal, Progress, no_progress
from structmat.compress.results import Comparison, CompressionResult
from structmat.compress.source import Source, residual, source_of, svd_residual
from structmat.compress.svd import sketch, truncated_svd
from structmat.errors import BudgetError, InputError, KindError, ToleranceError
from structmat.kinds import find_fit, fitted_kinds, is_built_in
from structmat.matrix import StructuredMatrix

#: Number of fits that are tried while rounding brings the error just above the tolerance.
ATTEMPTS = 3


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
    fit = _fitter(source, kind)
    started = time.perf_counter()
    if cap is not None:
        matrix = fit(Goal(max_cost=cap), rng=generator, progress=report)
        seconds = time.perf_counter() - started
        error = _relative(residual(source.data, matrix), size)
    else:
        matrix, error = _meet(source, fit, kind, float(tol or 0.0), size, generator, report)
        seconds = time.perf_counter() - started
        cap = matrix.cost
    baseline = error
    if kind != "low_rank":
        rank = cap // max(m + n, 1)
        decompose = sketch if source.implicit else truncated_svd
        triple = decompose(source.data, rank, generator)
        baseline = _relative(svd_residual(source.data, triple), size)
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
    goal = Goal(max_cost=_cap(budget, *source.data.shape))
    generator, report = _generator(rng), progress or no_progress
    size = source.norm()
    kinds = fitted_kinds(implicit=source.implicit)
    rows = []
    for i, kind in enumerate(kinds):

        def share(done: float, before: int = i) -> None:
            report((before + done) / len(kinds))

        try:
            rows.append(_compared(source, kind, goal, size, generator, share))
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
    kind: str,
    goal: Goal,
    size: float,
    rng: np.random.Generator,
    progress: Progress,
) -> Comparison:
    """Row of one kind."""
    fit = _fitter(source, kind)
    started = time.perf_counter()
    matrix = fit(goal, rng=rng, progress=progress)
    seconds = time.perf_counter() - started
    error = _relative(residual(source.data, matrix), size)
    moved = source.restore(matrix)
    return Comparison(kind, moved, matrix.cost, matrix.storage, error, seconds)


def _no_matrix(kind: str, note: str) -> Comparison:
    return Comparison(kind, None, 0, 0, math.nan, 0.0, note)


def _fitter(source: Source, kind: str) -> Callable[..., StructuredMatrix]:
    """Function that fits this kind to this input, imported."""
    fit = find_fit(kind, implicit=source.implicit)
    if fit is None:
        able = ", ".join(fitted_kinds(implicit=True))
        raise InputError(
            f"compression of an operator to {kind!r} needs its entries; expected one of {able} "
            "(or give the dense matrix, for a sparse one A.toarray())"
        )

    def within(goal: Goal, **options: Any) -> StructuredMatrix:
        matrix = fit(source.data, goal, **options)
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

    return within


def _meet(
    source: Source,
    fit: Callable[..., StructuredMatrix],
    kind: str,
    tol: float,
    size: float,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[StructuredMatrix, float]:
    """Fit until the measured error meets the bound, at an ever lower aim."""
    aim = tol * size
    for _ in range(ATTEMPTS):
        try:
            matrix = fit(Goal(max_error=aim), rng=rng, progress=progress)
        except ToleranceError as reason:
            raise ToleranceError(f"tol = {tol:.3g} of a norm of {size:.3g}: {reason}") from None
        error = _relative(residual(source.data, matrix), size)
        if error <= tol:
            return matrix, error
        aim *= 0.99 * tol / error
    dtype = source.data.dtype
    raise ToleranceError(
        f"tol = {tol:.3g}, but {kind!r} reaches only {error:.3g} in {dtype}; allow "
        "more" + (", or give the matrix in double precision" if dtype.char in "fF" else "")
    )


def _relative(error: float, size: float) -> float:
    """Error as a fraction of a norm; zero or infinite beside a norm of zero."""
    if size == 0.0:
        return 0.0 if error == 0.0 else math.inf
    return error / size


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
