"""Rules of a training, and the hook by which each follows an optimizer."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import optim

from structmat.nn.sharded import whole


class Rule(Protocol):
    """Rule of a training: acts after each optimizer step, and resumes from a checkpoint."""

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""

    def update(self) -> None:
        """Act after a step."""

    def remove(self) -> None:
        """Leave the optimizer alone from now on."""

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""


class StepHook:
    """Counter of an optimizer's steps that calls a function after each.

    A step counts once under plain loops, gradient scaling and the trainers built on torch.
    Two kinds of steps do not count: those that gradient scaling skips, and the one by which
    `torch.distributed.checkpoint` has an optimizer create its state.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    update : callable
        Called without arguments, once the step has been counted.

    Attributes
    ----------
    step : int
        Optimizer steps counted so far.

    Examples
    --------
    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    >>> hook = StepHook(optimizer, lambda: print("stepped"))
    >>> optimizer.step(), hook.step
    stepped
    (None, 1)
    """

    def __init__(self, optimizer: optim.Optimizer, update: Callable[[], None]) -> None:
        self.step = 0
        self._optimizer, self._update = optimizer, update
        self._handle = optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, *_: Any) -> None:
        if not (_is_rehearsal(self._optimizer) or _is_skipped(self._optimizer)):
            self.step += 1
            self._update()

    def remove(self) -> None:
        """Leave the optimizer alone from now on."""
        self._handle.remove()


def _is_skipped(optimizer: optim.Optimizer) -> bool:
    """Tell whether a fused optimizer, which gradient scaling always steps, changed nothing."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _is_rehearsal(optimizer: optim.Optimizer) -> bool:
    """Tell whether the step had a learning rate of zero and only zeros for gradients."""
    if any(group.get("lr", 1.0) != 0 for group in optimizer.param_groups):
        return False
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
    known = [grad for grad in gradients if grad is not None]
    return bool(known) and not any(bool(whole(grad).any()) for grad in known)
