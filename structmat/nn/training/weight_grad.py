"""Gradients of dense weights, which Gaudi weights record for the rules that read them."""

from collections.abc import Iterable

import torch
from torch import Tensor

from structmat.nn.gaudi.weight import GaudiWeight


def record_grads_(weights: Iterable[GaudiWeight], wanted: bool) -> None:
    """Have weights record the gradient in the next backward passes, or no longer."""
    for weight in weights:
        weight.record_weight_grad = wanted


def forget_grads_(weights: Iterable[GaudiWeight]) -> None:
    """Have weights record no gradients, and drop those that they have."""
    for weight in weights:
        weight.record_weight_grad, weight.weight_grad = False, None


def take_grad(weight: GaudiWeight) -> Tensor | None:
    """Take the recorded gradient from a weight, summed over all processes that have one.

    Returns None if there is no gradient, or it is not finite. All processes must ask for
    it, and all come to the same answer.
    """
    gradient, weight.weight_grad = weight.weight_grad, None
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gradient = _sum(gradient, weight)
    # Checked after the sum, so that all agree: one process may have skipped its step.
    return gradient if gradient is not None and bool(gradient.isfinite().all()) else None


def _sum(gradient: Tensor | None, weight: GaudiWeight) -> Tensor | None:
    """Sum over all processes; in some, the layer may not have run."""
    count = torch.tensor(int(gradient is not None), device=weight.u.device)
    torch.distributed.all_reduce(count)
    if not count:
        return None
    if gradient is None:
        gradient = torch.zeros(weight.shape, device=weight.u.device)
    torch.distributed.all_reduce(gradient)
    return gradient
