"""The choice between a structured weight and the dense one assembled from it.

A model of both products makes the choice, so that the same layer multiplies in the same way
again and again. `count_operations` counts one product by the structure, of any kind;
`structmat.kernels.cost_model.layers` turns the counts into times.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from structmat import binding
from structmat._array import device_name
from structmat.kernels.choice.contexts import watched
from structmat.kernels.cost_model.coefficients import place_of
from structmat.kernels.cost_model.layers import LAYER_MARGIN, LayerWork, Times
from structmat.matrix import StructuredMatrix

_aten = torch.ops.aten
_PRODUCTS = {
    _aten.addmm,
    _aten.addmm_,
    _aten.baddbmm,
    _aten.baddbmm_,
    _aten.bmm,
    _aten.mm,
}


#: Vectors for which a product is counted: on a device by the kernel for many.
_COUNTED, _COUNTED_ON_DEVICE = 16, 64
#: Choices that a weight remembers, at most.
_MOST_CASES = 1024


def count_operations(matrix: StructuredMatrix) -> LayerWork:
    """Count the operations of a product with a few vectors, by a matrix that has multiplied."""
    count = _COUNTED if matrix.device.type == "cpu" else _COUNTED_ON_DEVICE
    vectors = torch.zeros(count, matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    with torch.no_grad(), watched() as kernels, _OperationCounter() as seen:
        binding.multiply(matrix, vectors.T)
    scalars, written, batched = (
        counted / count for counted in (seen.multiplications, seen.written, seen.batched)
    )
    return LayerWork(seen.calls, scalars, written, batched, tuple(kernels))


def place_of_products(matrix: StructuredMatrix) -> str:
    """The place that figures of a matrix's products stand for."""
    name = device_name(matrix.xp, matrix.device)
    return place_of(name, dtype=str(matrix.dtype).removeprefix("torch."))


class _OperationCounter(TorchDispatchMode):
    """Counts operations as they are executed; views and compiled kernels count for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.multiplications = self.written = self.batched = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "structmat":
            return result  # compiled kernels have times of their own
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        if isinstance(result, Tensor) and (alias is None or alias.is_write):
            tensors = [a for a in args if isinstance(a, Tensor) and a.is_floating_point()]
            # An operation that adds rows to a larger tensor writes only those rows.
            sizes = [result.numel(), *(t.numel() for t in tensors if alias is not None)]
            self.calls += 1
            if func.overloadpacket in _PRODUCTS:
                left, right = tensors[-2:]
                self.multiplications += left.numel() * right.shape[-1]
                self.batched += left.numel() * right.shape[-1] * (left.ndim > 2)
                sizes = sizes[:1]
            self.written += min(sizes)
        return result


def dense_is_quicker(times: Times, count: int, *, assembly: int, device: str) -> bool:
    """Tell whether the dense weight multiplies `count` vectors sooner than the structure.

    Parameters
    ----------
    times : Times
    count : int
        Ignored while a product is traced, so that the trace is right for any number.
    assembly : int
        Vectors that the structure has to multiply first to assemble the dense weight; 0
        where the weight is remembered.
    device : str
        The type of the device; only a CPU shares vectors out among threads of our own.
    """
    if torch.compiler.is_compiling():
        return times.dense_for_many
    threads = torch.get_num_threads() if device == "cpu" else 1
    case = count, threads, assembly
    found = times.chosen.get(case)
    if found is None:
        if len(times.chosen) >= _MOST_CASES:
            times.chosen.clear()
        found = times.chosen[case] = _dense_is_quicker(times, *case)
    return found


def _dense_is_quicker(times: Times, count: int, threads: int, assembly: int) -> bool:
    if not times.known:
        return count > assembly
    dense, structured = times.dense(count, threads), times.structured(count, threads)
    if assembly:
        return dense + times.structured(assembly, threads) < structured
    return LAYER_MARGIN * dense < structured
