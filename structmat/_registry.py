"""Kinds of matrices by name, and what operations do with pairs of them."""

from collections.abc import Callable
from typing import Any

from structmat.errors import KindError

_KINDS: dict[str, Any] = {}
_RULES: dict[tuple[str, str, str], Callable[..., Any]] = {}


def register_kind(kind: str, cls: Any) -> None:
    """Give a class its name; a name is given once."""
    if kind in _KINDS:
        raise KindError(
            f"the kind {kind!r} is taken by {_KINDS[kind].__qualname__}; choose another name"
        )
    _KINDS[kind] = cls


def kind_class(kind: object) -> Any:
    """Class of a kind; a `KindError` lists the known ones."""
    if not isinstance(kind, str) or kind not in _KINDS:
        raise KindError(f"unknown kind {kind!r}; expected one of {', '.join(sorted(_KINDS))}")
    return _KINDS[kind]


def rule(operation: str, left: str, right: str) -> Callable[[Callable], Callable]:
    """Register what an operation does with two kinds; ``"*"`` stands for any.

    `operation` is ``"add"`` or ``"matmul"`` (a function of two matrices, which may
    return NotImplemented), or ``"convert"`` (a function of one matrix, of the left kind).
    """

    def register(function: Callable) -> Callable:
        _RULES[operation, left, right] = function
        return function

    return register


def find_rules(operation: str, left: str, right: str) -> list[Callable[..., Any]]:
    """Rules for two kinds, the most special first."""
    pairs = ((left, right), (left, "*"), ("*", right))
    return [_RULES[operation, *pair] for pair in pairs if (operation, *pair) in _RULES]
