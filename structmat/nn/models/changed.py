"""Announcement that layers of a model were replaced."""

from collections.abc import Callable

from torch import nn

#: Functions that want to know of every such model; `structmat.nn` enters them.
FOLLOWERS: list[Callable[[nn.Module], None]] = []


def announce(model: nn.Module) -> None:
    """Tell all followers that layers of a model were replaced."""
    for follow in FOLLOWERS:
        follow(model)
