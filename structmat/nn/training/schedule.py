"""Schedules that follow the optimizer's steps."""

import math
from typing import Any

from torch import nn, optim

from structmat.errors import InputError
from structmat.nn.gaudi.masks import check_sigma
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import whole


class AfterStep:
    """Something to do after each optimizer step, by the optimizer's own hook.

    The hook runs once per real step under plain loops, gradient scaling and the
    trainers built on torch alike; a step that gradient scaling skips does not count, nor
    the one by which `torch.distributed.checkpoint` has an optimizer create its state.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer

    Attributes
    ----------
    step : int
        Optimizer steps seen so far.

    Examples
    --------
    >>> import torch
    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = torch.optim.SGD([w])
    >>> counter = AfterStep(optimizer)
    >>> optimizer.step(), counter.step
    (None, 1)
    """

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.step = 0
        self._optimizer = optimizer
        self._handle = optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, *_: Any) -> None:
        if not (_is_rehearsal(self._optimizer) or _is_skipped(self._optimizer)):
            self.step += 1
            self.update()

    def update(self) -> None:
        """What happens after a step; nothing here."""

    def remove(self) -> None:
        """Leave the optimizer alone from now on."""
        self._handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step = state["step"]


class SigmaSchedule(AfterStep):
    """Sharpen the masks of all Gaudi weights while training goes on.

    σ is `start` during warm-up, then grows linearly to `stop`, and stays there during
    cool-down (Lee & Kim, arXiv 2310.18882, section 5, with 1 and 100).

    Parameters
    ----------
    model : torch.nn.Module
        Its Gaudi weights are found now; their σ is set at once.
    optimizer : torch.optim.Optimizer
        Whose steps count.
    total_steps : int
        Steps of the whole training.
    start, stop : float
        σ at the two ends; both ∞ for boxcars throughout.
    warmup, cooldown : float
        Shares of `total_steps`.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear
    >>> layer = GaudiLinear(8, 8)
    >>> optimizer = torch.optim.AdamW(layer.parameters())
    >>> schedule = SigmaSchedule(layer, optimizer, total_steps=10)
    >>> [schedule.at(step) for step in (0, 1, 5, 9)]
    [1.0, 1.0, 50.5, 100.0]
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        total_steps: int,
        *,
        start: float = 1.0,
        stop: float = 100.0,
        warmup: float = 0.1,
        cooldown: float = 0.1,
    ) -> None:
        check_sigma(start)
        check_sigma(stop)
        if math.isinf(start) != math.isinf(stop):
            raise InputError(
                f"sigma from {start!r} to {stop!r}; expected two finite numbers, or twice math.inf"
            )
        if not 0 <= warmup <= 1 - cooldown <= 1:
            raise InputError(
                f"warmup = {warmup!r} and cooldown = {cooldown!r}; expected shares of the training "
                "that leave room between them"
            )
        if total_steps < 1:
            raise InputError(f"total_steps = {total_steps!r}; expected at least 1")
        super().__init__(optimizer)
        self.start, self.stop = float(start), float(stop)
        self._from, self._to = warmup * total_steps, (1 - cooldown) * total_steps
        self._weights = [w for w in model.modules() if isinstance(w, GaudiWeight)]
        self.update()

    def at(self, step: int) -> float:
        """σ after so many steps."""
        if self.start == self.stop or step >= self._to:
            return self.stop
        share = max(step - self._from, 0.0) / max(self._to - self._from, 1e-9)
        return self.start + share * (self.stop - self.start)

    @property
    def sigma(self) -> float:
        """σ now."""
        return self.at(self.step)

    def update(self) -> None:
        """Give every Gaudi weight the present σ."""
        for weight in self._weights:
            weight.sigma = self.sigma

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state_dict(state)
        self.update()


def _is_skipped(optimizer: optim.Optimizer) -> bool:
    """Whether a fused optimizer, which gradient scaling steps in any case, changed nothing."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _is_rehearsal(optimizer: optim.Optimizer) -> bool:
    """Whether the step had no learning rate and only zeros for gradients."""
    if any(group.get("lr", 1.0) != 0 for group in optimizer.param_groups):
        return False
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
    known = [grad for grad in gradients if grad is not None]
    return bool(known) and not any(bool(whole(grad).any()) for grad in known)
