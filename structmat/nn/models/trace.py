"""Inputs of the layers of a running model: their number, and their Gram matrices."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from structmat._progress import Progress, no_progress
from structmat.errors import InputError

Hook = Callable[[nn.Module, Tensor, Tensor], None]
Vectors = Callable[[nn.Module, Tensor], Tensor]


def batches_of(calibration: Any) -> Iterable[Any]:
    """List the batches of a calibration: one batch, or an iterable of several.

    A batch is a tensor, a tuple of arguments, or a mapping of keywords.
    """
    if isinstance(calibration, (Tensor, tuple, Mapping)):
        return [calibration]
    if isinstance(calibration, Iterable):
        return calibration
    raise InputError(
        f"calibration is a {type(calibration).__qualname__}; expected a batch (a tensor, a tuple "
        "of arguments, or a mapping of keywords), or an iterable of batches"
    )


def batch_size(batch: Any) -> int:
    """Length of the first dimension of the first tensor in a batch."""
    if isinstance(batch, Mapping):
        batch = tuple(batch.values())
    values = batch if isinstance(batch, tuple) else (batch,)
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors or tensors[0].ndim == 0 or len(tensors[0]) == 0:
        what = f"shape {tuple(tensors[0].shape)}" if tensors else f"type {type(batch).__qualname__}"
        raise InputError(
            f"an example input of {what}; expected a tensor whose first dimension counts at least "
            "one example, alone, in a tuple of arguments or in a mapping of keywords"
        )
    return len(tensors[0])


@contextmanager
def forward_hooks(modules: Iterable[nn.Module], hook: Hook) -> Iterator[None]:
    """Call ``hook(module, input, output)`` after every run of one of the modules."""

    def seen(module: nn.Module, args: tuple, keywords: dict[str, Any], output: Tensor) -> None:
        hook(module, (*args, *keywords.values())[0], output)

    handles = [module.register_forward_hook(seen, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, and restore the mode of every module."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def run_in_evaluation(model: nn.Module, batch: Any) -> None:
    """Run the model on a batch in evaluation mode, without gradients, and restore its mode."""
    with in_evaluation(model), torch.no_grad():
        call(model, batch)


def call(model: nn.Module, batch: Any) -> Any:
    """Output of the model for a tensor, a tuple of arguments, or a mapping of keywords."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple) else model(batch)


def count_vectors(
    model: nn.Module, layers: Mapping[nn.Module, int], example: Any
) -> dict[nn.Module, int]:
    """Count the vectors that each layer multiplies for one example, rounded up.

    `layers` has the number of outputs that each layer makes of one vector. The first dimension
    of the example counts the examples.
    """
    vectors = dict.fromkeys(layers, 0)

    def count(module: nn.Module, _input: Tensor, output: Tensor) -> None:
        vectors[module] += output.numel() // layers[module]

    examples = batch_size(example)
    with forward_hooks(layers, count):
        run_in_evaluation(model, example)
    return {layer: math.ceil(total / examples) for layer, total in vectors.items()}


def collect_grams(
    model: nn.Module,
    layers: Mapping[nn.Module, Vectors],
    batches: Sequence[Any],
    progress: Progress = no_progress,
) -> dict[nn.Module, Tensor]:
    """Sum the Gram matrix (n, n) of each layer's inputs over all batches.

    `layers` has a function for each layer that reads its input as vectors (T, n).
    """
    grams: dict[nn.Module, Tensor] = {}

    def add(module: nn.Module, x: Tensor, _output: Tensor) -> None:
        vectors = layers[module](module, x)
        # A sum of many squares needs single precision at least.
        vectors = vectors if vectors.dtype == torch.float64 else vectors.float()
        gram = vectors.T @ vectors
        grams[module] = grams[module] + gram if module in grams else gram

    with forward_hooks(layers, add):
        for i, batch in enumerate(batches, 1):
            run_in_evaluation(model, batch)
            progress(i / len(batches))
    if len(grams) < len(layers):
        raise InputError(
            f"calibration reached {len(grams)} of {len(layers)} layers; expected all (give at "
            "least one batch that runs the whole model, or leave layers out with filter_fn)"
        )
    for gram in grams.values():
        if not torch.isfinite(gram).all():
            raise InputError("calibration gave infinite or NaN activations; expected finite ones")
    return grams
