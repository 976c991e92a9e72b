"""Losses of the steps of an epoch, read where nothing has to wait for them."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from structmat.errors import TrainingError
from structmat.nn.structured import devices

#: Steps between two looks at losses on a device, which wait for it.
LOOK_EVERY = 256


class Losses:
    """Losses of an epoch: looked at in each step on the CPU, and now and then on a device.

    Parameters
    ----------
    model : torch.nn.Module
        The network that is trained.
    epoch : int
        From 0.
    steps : int
        Steps of each epoch.
    """

    def __init__(self, model: nn.Module, epoch: int, steps: int) -> None:
        self._model, self._epoch, self._first = model, epoch, epoch * steps
        self._read: list[float] = []
        self._new: list[Tensor] = []

    def add(self, loss: Tensor, x: Tensor) -> None:
        """Add the loss of a step on a batch `x`.

        Raises
        ------
        TrainingError
            If the loss, or one before it that was not looked at, is NaN or infinite.
        """
        self._new.append(loss.detach())
        if not devices.is_apart(loss.device):
            self._look(x)
        elif len(self._new) == LOOK_EVERY:
            self._look(None)

    def read(self) -> list[float]:
        """All losses; NaN and infinite ones are refused as by `add`."""
        self._look(None)
        return self._read

    def _look(self, x: Tensor | None) -> None:
        """Read the new losses, of which those before the last step's batch `x` are finite."""
        values = torch.stack(self._new).tolist() if self._new else []
        self._new.clear()
        for value in values:
            if not math.isfinite(value):
                step = self._first + len(self._read)
                where = _THERE if x is None else _where(self._model, x)
                raise TrainingError(
                    f"the loss is {value} at step {step} (epoch {self._epoch + 1}), {where}; "
                    "expected a number. Lower the learning rate; --resume goes on from the last "
                    "finished epoch"
                )
            self._read.append(value)


#: Said of layers where the weights have moved on since.
_THERE = "seen some steps later (--device cpu names the layer)"


def _where(model: nn.Module, x: Tensor) -> str:
    """Name the first layer whose output is NaN or infinite, for the error message."""
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not bool(output.isfinite().all()):
                found.append(name)

        return hook

    handles = [m.register_forward_hook(look(n)) for n, m in model.named_modules() if n]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return f"the output of layer {found[0]!r} is not finite" if found else "all layers are finite"
