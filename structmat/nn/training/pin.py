"""Widths and locations that something else than the optimizer moves."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn, optim

from structmat.nn.gaudi.structure import GaudiStructure, Runs


class Hold:
    """Keeps learned widths and locations as they are in every step of an optimizer.

    Their gradients are zero: `DistributedDataParallel` waits for them and gets them, and
    clipping of gradients does not count them. As decay and momentum need no gradient,
    values are put back after the step besides.

    Parameters
    ----------
    structures : iterable of GaudiStructure
    optimizer : torch.optim.Optimizer
        It may have their parameters, or not.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear
    >>> layer = GaudiLinear(8, 8)
    >>> width = layer.matrix.structure.row_width
    >>> hold = Hold([layer.matrix.structure], torch.optim.AdamW([width]))
    >>> layer(torch.ones(8)).sum().backward()
    >>> float(width.grad.norm())
    0.0
    """

    def __init__(self, structures: Iterable[GaudiStructure], optimizer: optim.Optimizer) -> None:
        self._structures = list(structures)
        self._held = [p for s in self._structures for p in s.parameters() if p.requires_grad]
        self._handles = [s.register_forward_hook(_without_gradients) for s in self._structures]
        for structure in self._structures:
            structure.is_pinned = True
        # A closure may make gradients within the step: to drop them before it would not do.
        self._handles.append(optimizer.register_step_pre_hook(self._note))

    def _note(self, *_: Any) -> None:
        self._values = [p.detach().clone() for p in self._held]

    @torch.no_grad()
    def put_back(self) -> None:
        """Undo what a step has done to them; to be called right after it."""
        for parameter, value in zip(self._held, self._values, strict=True):
            parameter.copy_(value)

    def remove(self) -> None:
        """Leave them to the optimizer again."""
        for handle in self._handles:
            handle.remove()
        for structure in self._structures:
            structure.is_pinned = False


def _without_gradients(_: nn.Module, __: Any, runs: Runs) -> None:
    for values in runs:
        if values.requires_grad:
            values.register_hook(torch.zeros_like)
