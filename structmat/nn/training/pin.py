"""Pin of widths and locations against an optimizer."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn, optim

from structmat.nn.gaudi.structure import GaudiStructure, Runs


class Pin:
    """Keep learned widths and locations as they are in every step of an optimizer.

    Their gradients become zero: `DistributedDataParallel`, which waits for gradients, gets
    them, and clipping does not count them. Weight decay and momentum need no gradient, so
    the values are also put back after each step, before hooks that were registered later.

    Parameters
    ----------
    structures : iterable of GaudiStructure
    optimizer : torch.optim.Optimizer
        With their parameters or without.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear
    >>> layer = GaudiLinear(8, 8)
    >>> width = layer.matrix.structure.row_width
    >>> pin = Pin([layer.matrix.structure], torch.optim.AdamW([width]))
    >>> layer(torch.ones(8)).sum().backward()
    >>> float(width.grad.norm())
    0.0
    """

    def __init__(self, structures: Iterable[GaudiStructure], optimizer: optim.Optimizer) -> None:
        self._structures = list(structures)
        self._pinned = [p for s in self._structures for p in s.parameters() if p.requires_grad]
        self._handles = [s.register_forward_hook(_zero_gradients) for s in self._structures]
        for structure in self._structures:
            structure.is_pinned = True
        # Dropping gradients before the step would miss those that a closure makes within it.
        self._handles.append(optimizer.register_step_pre_hook(self._note))
        self._handles.append(optimizer.register_step_post_hook(self._put_back))

    def _note(self, *_: Any) -> None:
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


def _zero_gradients(_: nn.Module, __: Any, runs: Runs) -> None:
    for values in runs:
        if values.requires_grad:
            values.register_hook(torch.zeros_like)
