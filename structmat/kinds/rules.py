"""Rules for pairs of kinds: sums, products and conversions, and what follows from these."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from structmat.errors import InputError, KindError
from structmat.kinds.registry import all_kinds, fitted_kinds

Function = TypeVar("Function", bound=Callable[..., Any])

OPERATIONS = ("add", "matmul", "convert")


class _Rule(NamedTuple):
    apply: Callable[..., Any]
    #: False for a conversion that may cost more, or may give a matrix of another kind.
    contains: bool


_RULES: dict[tuple[str, str, str], _Rule] = {}


def rule(
    operation: str, left: str, right: str, *, contains: bool = True
) -> Callable[[Function], Function]:
    """Decorator that registers what an operation does with two kinds.

    Without a rule, sums and products stay lazy, and a conversion is refused. A rule for
    two kinds goes before one for a kind and any other.

    Parameters
    ----------
    operation : {"add", "matmul", "convert"}
        The function takes two matrices for ``"add"`` and ``"matmul"``, and may return
        NotImplemented; for ``"convert"`` it takes one, of the left kind, and returns the
        same matrix as the right kind.
    left, right : str
        Names of kinds; ``"*"`` stands for any.
    contains : bool
        For ``"convert"``, whether the right kind holds every matrix of the left kind at
        about its cost. `compress` then considers the left kind's fit for the right kind.

    Returns
    -------
    callable
        The decorator, which returns its function as it was.

    Raises
    ------
    InputError
        If the operation is none of the three.
    KindError
        If the two kinds have a rule for it.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> P, Q = structmat.Permutation([1, 0]), structmat.Permutation([0, 1])
    >>> (P + Q).kind
    'sum'
    >>> @structmat.rule("add", "permutation", "permutation")
    ... def add(a, b):
    ...     return structmat.Dense(a.to_dense() + b.to_dense())
    >>> (P + Q).kind
    'dense'
    """
    if operation not in OPERATIONS:
        raise InputError(f"operation {operation!r}; expected one of {', '.join(OPERATIONS)}")

    def enter(function: Function) -> Function:
        if (operation, left, right) in _RULES:
            raise KindError(
                f"{operation!r} has a rule for {left!r} and {right!r}; expected one rule for two "
                "kinds (give the class a kind of its own)"
            )
        _RULES[operation, left, right] = _Rule(function, contains)
        return function

    return enter


def find_rules(operation: str, left: str, right: str) -> list[Callable[..., Any]]:
    """Rules for two kinds, the most special first."""
    return [found.apply for found in _rules(operation, left, right)]


def _rules(operation: str, left: str, right: str) -> list[_Rule]:
    pairs = ((left, right), (left, "*"), ("*", right))
    return [_RULES[operation, *pair] for pair in pairs if (operation, *pair) in _RULES]


def contained_kinds(name: str, *, implicit: bool = False) -> dict[str, tuple[str, ...]]:
    """Fitted kinds whose matrices a kind holds exactly, each with its path of conversions.

    Examples
    --------
    >>> import structmat
    >>> contained_kinds("block_low_rank")
    {'low_rank': ('block_low_rank',), 'block_sparse': ('block_low_rank',)}
    """
    paths: dict[str, tuple[str, ...]] = {name: ()}
    reached = [name]
    for target in reached:
        for kind in (record.name for record in all_kinds()):
            found = _rules("convert", kind, target)
            if kind not in paths and found and found[0].contains:
                paths[kind] = (target, *paths[target])
                reached.append(kind)
    return {kind: paths[kind] for kind in fitted_kinds(implicit=implicit) if paths.get(kind)}
