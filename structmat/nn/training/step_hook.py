"""Rules of a training, and the hooks on optimizers by which they act."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import optim

from structmat.errors import InputError
from structmat.nn.gaudi.structure import GaudiStructure, Runs
from structmat.nn.sharded import whole
from structmat.nn.training.optimizers import Followed, is_inner_step


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
    """Counter of the steps of optimizers that calls ``update()`` after each.

    A step counts once under plain loops, gradient scaling and the trainers built on torch.
    Of several optimizers, each that trains learned layers has to take a step. Two kinds of
    steps do not count: those that gradient scaling skips, and the one by which
    `torch.distributed.checkpoint` has an optimizer create its state.

    Parameters
    ----------
    followed : Followed
        The optimizers, and the parameters that they train; checked before each step.
    update : callable
    """

    def __init__(self, followed: Followed, update: Callable[[], None]) -> None:
        self.step = 0
        self.followed, self._update = followed, update
        self._acting = followed.acting()
        self._stepped: set[int] = set()
        self._handles = [o.register_step_pre_hook(self._before_step) for o in self._acting]
        self._handles += [o.register_step_post_hook(self._after_step) for o in self._acting]

    def _before_step(self, *_: Any) -> None:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise InputError(
                "an optimizer's step is captured in a CUDA graph, which calls no rule when it is "
                "replayed; expected plain steps (capture the forward and backward passes alone)"
            )
        self.followed.check()

    def _after_step(self, optimizer: optim.Optimizer, *_: Any) -> None:
        if _is_rehearsal(optimizer) or _is_skipped(optimizer) or is_inner_step(optimizer):
            return
        self._stepped.add(id(optimizer))
        if len(self._stepped) == len(self._acting):
            self._stepped.clear()
            self.step += 1
            self._update()

    def remove(self) -> None:
        """Leave the optimizers alone from now on."""
        for handle in self._handles:
            handle.remove()


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


class Pin:
    """Keep learned widths and locations as they are in every step of an optimizer.

    Their gradients become zero: `DistributedDataParallel`, which waits for gradients, gets
    them, and clipping does not count them. Weight decay and momentum need no gradient, so
    the values are also put back after each step, before hooks that were registered later.
    The optimizers may have the parameters, or not.
    """

    def __init__(
        self, structures: Iterable[GaudiStructure], optimizers: Iterable[optim.Optimizer]
    ) -> None:
        self._structures = list(structures)
        self._pinned = [p for s in self._structures for p in s.parameters() if p.requires_grad]
        self._handles = [s.register_forward_hook(_zero_gradients) for s in self._structures]
        for structure in self._structures:
            structure.is_pinned = True
        # Dropping gradients before the step would miss those that a closure makes within it.
        for optimizer in optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._note))
            self._handles.append(optimizer.register_step_post_hook(self._put_back))

    def _note(self, optimizer: optim.Optimizer, *_: Any) -> None:
        if is_inner_step(optimizer):
            return  # noted by the outer step, which may have changed them since
        self._values = [p.detach().clone() for p in self._pinned]

    @torch.no_grad()
    def _put_back(self, *_: Any) -> None:
        for parameter, value in zip(self._pinned, self._values, strict=True):
            parameter.copy_(value)

    def remove(self) -> None:
        """Leave widths and locations to the optimizer again."""
        for handle in self._handles:
            handle.remove()
        for structure in self._structures:
            structure.is_pinned = False


def _zero_gradients(structure: GaudiStructure, _: Any, runs: Runs) -> None:
    for values in runs:
        if values.requires_grad and structure.is_pinned:  # copies keep the hook, and no pin
            values.register_hook(torch.zeros_like)
