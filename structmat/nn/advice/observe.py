"""Inputs and losses of a running model, gathered without changing it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from structmat._progress import Progress, no_progress
from structmat.errors import InputError
from structmat.nn.models.targets import Target
from structmat.nn.models.trace import call, forward_hooks, in_evaluation

#: Scalar loss of a model on a batch: ``loss(model, batch)``.
Loss = Callable[[nn.Module, Any], Tensor]


@dataclass
class Seen:
    """Inputs X (T, n) of one weight, over all batches."""

    #: Sums over the inputs: X^T X (n, n), and X^T 1 (n,).
    gram: Tensor
    total: Tensor
    vectors: int = 0

    @property
    def idle(self) -> int:
        """Number of inputs that never change."""
        squares = self.gram.diagonal() / max(self.vectors, 1)
        return int((self.covariance.diagonal() <= IDLE * float(squares.mean())).sum())

    @property
    def covariance(self) -> Tensor:
        """Covariance C of the inputs, (n, n)."""
        mean = self.total / max(self.vectors, 1)
        return self.gram / max(self.vectors, 1) - torch.outer(mean, mean)

    @property
    def rank(self) -> float:
        """Effective number of directions in which the inputs vary, (tr C)² / tr C²."""
        size = float(self.covariance.square().sum())
        return float(self.covariance.trace()) ** 2 / size if size else 0.0


#: Variance of an idle input at most, over the mean square of all inputs: that of rounding.
IDLE = 1e-5


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run the model in evaluation mode, and restore modes and random generators afterwards."""
    tensors = [*model.parameters(), *model.buffers()]
    devices = sorted({t.device.index or 0 for t in tensors if t.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), in_evaluation(model):
        yield


def observe(
    model: nn.Module,
    targets: Sequence[Target],
    batches: Sequence[Any],
    loss: Loss | None,
    progress: Progress = no_progress,
) -> list[Seen]:
    """Sum the inputs of each target's weight over the batches."""
    seen = [Seen(_zeros(target, 2), _zeros(target, 1)) for target in targets]
    owner = {module: i for i, target in enumerate(targets) for module in target.modules}

    def add(module: nn.Module, x: Tensor, _output: Tensor) -> None:
        target, record = targets[owner[module]], seen[owner[module]]
        vectors = target.type.vectors(module, x.detach(), False).to(record.gram.dtype)
        record.gram += vectors.T @ vectors
        record.total += vectors.sum(0)
        record.vectors += len(vectors)

    with forward_hooks(owner, add), torch.no_grad():
        for i, batch in enumerate(batches, 1):
            call(model, batch) if loss is None else loss(model, batch)
            progress(i / len(batches))
    _check(targets, seen)
    return seen


def mean_loss(model: nn.Module, batches: Sequence[Any], loss: Loss) -> float:
    """Mean of the loss over the batches, without gradients."""
    with torch.no_grad():
        return math.fsum(_number(loss(model, batch)) for batch in batches) / len(batches)


@contextmanager
def replaced(weights: Mapping[int, Tensor], targets: Sequence[Target]) -> Iterator[None]:
    """Put other matrices into the weights of some targets while the context lasts.

    The parameters themselves stay, and their former contents return, bit for bit.
    """
    kept = []
    try:
        for i, matrix in weights.items():
            parameter = targets[i].modules[0]._parameters["weight"]
            assert parameter is not None
            new = torch.empty_like(parameter, memory_format=torch.contiguous_format)
            _as_matrix(targets[i], new).copy_(matrix)
            kept.append((parameter, parameter.data))
            parameter.data = new.detach()
        yield
    finally:
        for parameter, old in kept:
            parameter.data = old


def _number(value: Any) -> float:
    """Loss of one batch as a number; not finite for a network that a fit has ruined."""
    if not isinstance(value, Tensor | float) or (isinstance(value, Tensor) and value.numel() != 1):
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
        raise InputError(f"loss(model, batch) gave {what}; expected one number")
    return float(value)


def _as_matrix(target: Target, weight: Tensor) -> Tensor:
    """The matrix (m, n) of a tensor of the weight's shape; a view of it if that is contiguous."""
    return target.type.matrix(SimpleNamespace(weight=weight), False)


def _zeros(target: Target, axes: int) -> Tensor:
    """Zeros (n,) or (n, n) for sums over inputs, in single precision at least."""
    W = target.matrix
    dtype = torch.float64 if W.dtype == torch.float64 else torch.float32
    return torch.zeros((W.shape[1],) * axes, dtype=dtype, device=W.device)


def _check(targets: Sequence[Target], seen: Sequence[Seen]) -> None:
    """Refuse batches that do not reach all layers, or that overflow."""
    for target, record in zip(targets, seen, strict=True):
        if not record.vectors:
            raise InputError(
                f"the batches never run {target.names[0]!r} as a module; expected at least one "
                "that reaches every layer (leave others out with filter_fn)"
            )
        if not torch.isfinite(record.gram).all():
            raise InputError(
                f"the batches gave {target.names[0]!r} NaN or infinite inputs; expected finite ones"
            )
