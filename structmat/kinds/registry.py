"""Registry of kinds: records are entered here, and asked for by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from structmat.errors import InputError, KindError
from structmat.kinds.built_in import BUILT_IN
from structmat.kinds.record import Kind, later

_KINDS: dict[str, Kind] = {kind.name: kind for kind in BUILT_IN}


def register(kind: Kind) -> None:
    """Enter the record of a kind; `compress`, `compare`, charts and networks then know it.

    A class statement enters a record that has a name and a class alone. This function
    completes that record, once.

    Parameters
    ----------
    kind : Kind

    Raises
    ------
    KindError
        If the kind is registered already, or `Kind.matrix` belongs to another kind.

    Examples
    --------
    A recipe that approximates by the mean of all entries:

    >>> import numpy as np
    >>> import structmat
    >>> def fit(A, goal, *, rng, progress):
    ...     m, n = A.shape
    ...     return structmat.LowRank(np.full((m, 1), A.mean()), np.ones((n, 1)))
    >>> structmat.register(structmat.Kind("constant", fit=fit))
    >>> structmat.compress(np.full((4, 4), 3.0), "constant", budget=0.5).matrix
    <4x4 LowRank, float64, numpy: cost 0.5, storage 0.5 of dense>
    """
    if not isinstance(kind, Kind):
        raise InputError(f"register got a {type(kind).__qualname__}; expected a structmat.Kind")
    known = _KINDS.get(kind.name, Kind(kind.name))
    if is_built_in(kind.name) or known != Kind(kind.name, matrix=known.matrix):
        raise KindError(
            f"the kind {kind.name!r} is registered already; choose another name, or register it "
            "once, with everything it has"
        )
    if isinstance(known.matrix, type):
        fits = kind.matrix in (None, known.matrix, _place(known.matrix))
    else:
        fits = kind.matrix is None or isinstance(kind.matrix, str)
    if not fits:
        raise KindError(
            f"matrix = {kind.matrix} for the kind {kind.name!r}; expected the class that was "
            f"defined with kind={kind.name!r} (or leave matrix out)"
        )
    _KINDS[kind.name] = replace(kind, matrix=known.matrix or kind.matrix)


def enter_class(name: str, cls: type) -> None:
    """Enter a class in the record of its kind; a kind has one class."""
    known = _KINDS.get(name, Kind(name))
    if known.matrix != _place(cls) and (known.matrix is not None or is_built_in(name)):
        owner = known.matrix.__qualname__ if isinstance(known.matrix, type) else known.matrix
        raise KindError(f"the kind {name!r} is taken by {owner or 'a recipe'}; choose another name")
    _KINDS[name] = replace(known, matrix=cls)


def _place(cls: type) -> str:
    """Text by which a record names a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def all_kinds() -> tuple[Kind, ...]:
    """Every record, in the order of tables."""
    return tuple(_KINDS.values())


def kind_record(name: str) -> Kind:
    """Record of a kind, or one of defaults for a name that is not known."""
    return _KINDS.get(name) or Kind(name)


def is_built_in(name: str) -> bool:
    """True for a kind of structmat's own."""
    return any(kind.name == name for kind in BUILT_IN)


def fitted_kinds(*, implicit: bool = False) -> tuple[str, ...]:
    """Names of the kinds with a fit, or of those with a fit of operators."""
    fits = {kind.name: kind.fit_implicit if implicit else kind.fit for kind in all_kinds()}
    return tuple(name for name, fit in fits.items() if fit is not None)


def compressible_kinds() -> tuple[str, ...]:
    """Names of the kinds with a fit of arrays, of operators or of sources."""
    return tuple(k.name for k in all_kinds() if k.fit is not None or k.fit_entries is not None)


def find_fit(name: str, *, implicit: bool = False) -> Callable[..., Any] | None:
    """Fit of a kind, or its fit of operators; None where it has none."""
    kind = _KINDS[name]
    fit: Callable[..., Any] | None = later(kind.fit_implicit if implicit else kind.fit)
    return fit


def find_entries_fit(name: str) -> Callable[..., Any] | None:
    """Fit of sources of a kind; None where it has none."""
    fit: Callable[..., Any] | None = later(_KINDS[name].fit_entries)
    return fit


def find_factorizations(name: str) -> list[Callable[..., Any]]:
    """Direct factorizations of a kind, the first to be asked first."""
    ways = _KINDS[name].factorize
    return [later(way) for way in (ways if isinstance(ways, tuple) else (ways,)) if way]


def kind_class(name: object) -> Any:
    """Class of a kind; a `KindError` lists the kinds that have one."""
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None or kind.matrix is None:
        known = ", ".join(k.name for k in all_kinds() if k.matrix is not None)
        raise KindError(
            f"unknown kind {name!r}; expected one of {known} (or import the module that defines it)"
        )
    return later(kind.matrix)
