"""Memory of training steps: on a GPU as its allocator counts, elsewhere tensor by tensor."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.micro.timing import Call

#: Numbers that a step keeps for each parameter: itself, its gradient, and Adam's two moments.
COPIES = 4


def peak_bytes(device: str, model: nn.Module, call: Call) -> int:
    """Bytes of a step with AdamW at its peak: of parameters, gradients, moments and activations."""
    trained = sum(p.nbytes for p in model.parameters())
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        # Gradients are within the peak, and no other copy of the parameters.
        above = torch.cuda.max_memory_allocated() - before
        return above + (COPIES - 1) * trained + beside(model)
    with kept_for_backward(model) as kept:
        call()
    return COPIES * trained + beside(model) + kept.total


def beside(model: nn.Module) -> int:
    """Bytes of the tensors that modules keep beside their parameters."""
    own = [
        value
        for module in model.modules()
        for value in [*module.buffers(recurse=False), *vars(module).values()]
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
    ]
    return sum({id(value): value.nbytes for value in own}.values())


class Kept:
    """Storages that backward passes keep, each once; they live as long as this."""

    def __init__(self, known: set[int]) -> None:
        self._known, self._storages = known, []
        self.total = 0

    def add(self, tensor: Tensor) -> Tensor:
        """Count the storage of a tensor, unless it is known."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self._storages.append(storage)
            self.total += storage.nbytes()
        return tensor


@contextmanager
def kept_for_backward(model: nn.Module) -> Iterator[Kept]:
    """Count the bytes that steps keep for their backward passes, beside the parameters.

    It counts on the meta device as well, where nothing takes memory.
    """
    storages = [p.untyped_storage() for p in model.parameters()]
    kept = Kept({storage._cdata for storage in storages})

    def back(tensor: Any) -> Any:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(kept.add, back):
        yield kept
