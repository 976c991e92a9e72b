"""Arguments of `compress` and `compare`, checked."""

import math
import numbers
from typing import Any, NamedTuple

import numpy as np

from structmat.compress.contained import Bound
from structmat.errors import BudgetError, InputError, KindError
from structmat.files.paths import name_of
from structmat.kinds import compressible_kinds
from structmat.sources.source import Source


def check_kind(kind: object) -> None:
    """Refuse a kind without a fit."""
    if not isinstance(kind, str) or kind not in compressible_kinds():
        raise KindError(
            f"kind {kind!r}; expected one of {', '.join(map(repr, compressible_kinds()))}"
        )


def check_goal(budget: Any, tol: Any) -> None:
    """Refuse a budget or a tolerance that is none, and both or neither of them."""
    if (budget is None) == (tol is None):
        raise InputError(
            f"budget = {budget!r} and tol = {tol!r}; expected exactly one of them "
            "(a cap on the cost, or a bound on the error)"
        )
    if budget is not None and not (_is_real(budget) and 0 < budget <= 1):
        raise BudgetError(
            f"budget = {budget!r}; expected a fraction of the dense cost m n, above 0 and at most "
            "1 (0.2 for twenty per cent)"
        )
    if tol is not None and not (_is_real(tol) and 0 <= tol < math.inf):
        raise InputError(
            f"tol = {tol!r}; expected a relative error, finite and at least 0 (1e-3 for a tenth "
            "of a per cent)"
        )


def bound_for(budget: float | None, tol: float | None, shape: tuple[int, int]) -> Bound:
    """Cap on the cost of a matrix of this shape, or the bound on its error."""
    if budget is None:
        return Bound(tol=None if tol is None else float(tol))
    return Bound(cap=math.floor(float(budget) * math.prod(shape)))


class Workers(NamedTuple):
    """A Dask cluster that compresses, and the folder in which it writes."""

    client: Any
    folder: str | None


def workers_of(A: Any, client: Any, folder: Any) -> Workers | None:
    """The cluster that was asked for, if any; only sources are compressed there."""
    if client is None:
        if folder is not None:
            raise InputError(
                f"folder = {folder!r} without client; expected both (structmat.save writes a "
                "matrix of this machine)"
            )
        return None
    if not isinstance(A, Source):
        raise InputError(
            f"client for a {type(A).__qualname__}; expected a source, whose entries workers "
            "evaluate (KernelMatrix of points, Entries of a function), or client left out"
        )
    if not callable(getattr(client, "scheduler_info", None)):
        raise InputError(
            f"client is a {type(client).__qualname__}; expected a distributed.Client "
            "(distributed.Client() starts a cluster on this machine)"
        )
    return Workers(client, None if folder is None else name_of(folder))


def generator_of(rng: Any) -> np.random.Generator:
    """Source of random choices."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise InputError(
            f"rng = {rng!r}; expected None, a whole number of at least 0, or a "
            "numpy.random.Generator"
        ) from None


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
