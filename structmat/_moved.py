"""Old homes of classes, for pickles that name them.

A pickle names the module of each class that it holds. The name of a module that has moved
since version 0.1.0 leads to its new home.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_HOMES = {
    "structmat.compress._front": "structmat.compress.front",
    "structmat.learn._images": "structmat.learn.data.images",
    "structmat.learn._text": "structmat.learn.data.text",
    "structmat.nn._contents": "structmat.nn.structured.parameters",
    "structmat.nn._speed": "structmat.kernels.cost_model.layers",
    "structmat.nn._trainers": "structmat.nn.training.for_trainers",
    "structmat.nn.config": "structmat.nn.models.config",
    "structmat.nn.conv": "structmat.nn.gaudi.conv",
    "structmat.nn.holding": "structmat.nn.training.step_hook",
    "structmat.nn.linear": "structmat.nn.gaudi.linear",
    "structmat.nn.packed": "structmat.nn.structured.packed",
    "structmat.nn.report": "structmat.nn.models.report",
    "structmat.nn.structure": "structmat.nn.gaudi.structure",
    "structmat.nn.structured_weight": "structmat.nn.structured.weight",
}

#: New names of functions: the pickle of a network in training names those of its hooks.
_NAMES = {"_without_gradients": "_zero_gradients"}


class _OldHome(ModuleType):
    """Module that takes its names from its new home."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(_HOMES[self.__name__]), _NAMES.get(name, name))


def keep_old_homes() -> None:
    """Let pickles find moved classes; a module is imported when a pickle asks for it."""
    for name in _HOMES:
        sys.modules.setdefault(name, _OldHome(name))
