"""Loops that Numba compiles where it is installed; elsewhere Python runs the same functions."""

import importlib.util
from collections.abc import Callable
from typing import Any

HAS_NUMBA = importlib.util.find_spec("numba") is not None


def compiled(function: Callable[..., Any]) -> Any:
    """A function compiled at its first call, or the function itself without Numba."""
    if not HAS_NUMBA:
        return function
    from structmat.kernels.cpu.llvm import compiled as compile_

    return compile_(function)
