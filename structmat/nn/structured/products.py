"""Products of vectors with a matrix, plus a bias: by the structure, or by the dense weight."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structmat import binding
from structmat.errors import InputError, ShapeError
from structmat.kernels.cost_model.layers import Times
from structmat.kernels.cost_model.steps import assembles_structure
from structmat.matrix import StructuredMatrix
from structmat.nn.structured import devices
from structmat.nn.structured.placed import placement
from structmat.nn.structured.remembered import Remembered, Way
from structmat.nn.structured.speed import (
    count_operations,
    dense_is_quicker,
    place_of_products,
)


def affine(matrix: StructuredMatrix, x: Tensor, bias: Tensor | None, times: Times) -> Tensor:
    """Vectors (…, n) to (…, m) by whichever product is estimated to take less time."""
    check_values(matrix, x)
    if bias is not None and bias.dtype != x.dtype:
        bias = bias.to(x.dtype)
    count = math.prod(x.shape[:-1])
    if takes_dense([matrix], times, count, assembly(matrix)):
        return F.linear(x, dense(matrix).to(x.dtype), bias)
    return through(matrix, x, count, bias, times.chunk)


def takes_dense(
    matrices: Sequence[StructuredMatrix], times: Times, count: int, assembly: int
) -> bool:
    """Tell whether `count` vectors are better multiplied by the dense weight of some matrices.

    `assembly` is the number of products that assemble it, 0 for one that is remembered. On a
    device, a step of a training is compared as a whole, with its gradients.
    """
    first, shape = matrices[0], (matrices[0].shape[0], sum(m.shape[1] for m in matrices))
    if not (devices.is_apart(first.device) and assembly) or torch.compiler.is_compiling():
        return dense_is_quicker(times, count, assembly=assembly, device=first.device.type)
    places = [placement(matrix) for matrix in matrices]
    terms = None if None in places else max((p.terms for p in places if p is not None), default=0)
    return assembles_structure(place_of_products(first), count, shape, times, terms=terms)


def through(
    matrix: StructuredMatrix, x: Tensor, count: int, bias: Tensor | None, chunk: int
) -> Tensor:
    """Vectors (…, n), `count` of them, to (…, m) by the structure.

    Where no gradient is recorded, each thread takes a `chunk` of them at once.
    """
    m, n = matrix.shape
    shape, x = (*x.shape[:-1], m), x.reshape(count, n)
    if torch.is_grad_enabled() or not binding.remembers(matrix):
        y = binding.multiply(matrix, x.T).T.contiguous()
        # No view, as from F.linear: the result of a layer may be written to.
        return torch.ops.aten._unsafe_view(y, shape) if bias is None else y.view(shape) + bias
    size = chunk * torch.get_num_threads()
    if count <= size:
        y = binding.multiply(matrix, x.T).T.contiguous()
        return (y if bias is None else _plus(y, bias, x)).view(shape)
    out = x.new_empty(shape)
    for part, target in zip(x.split(size), out.view(count, m).split(size), strict=True):
        y = binding.multiply(matrix, part.T).T
        target.copy_(y) if bias is None else torch.add(y, bias, out=target)
    return out


def affine_of_frozen(known: Remembered, x: Tensor, bias: Tensor | None, times: Times) -> Tensor:
    """Vectors (…, n) to (…, m) by unchanged contents that serve them: one call if it can be."""
    (m, n), shape = known.matrix.shape, x.shape
    if not shape or shape[-1] != n:
        check_inputs(x, (m, n))
    count = shape[0] if len(shape) == 2 else math.prod(shape[:-1])
    if bias is not None and bias.dtype is not x.dtype:
        bias = bias.to(x.dtype)

    way = known.way(count, lambda: _way(known.matrix, count, times))
    if way == "dense":
        return F.linear(x, dense(known.matrix), bias)
    plus = None if bias is None else known.bias_on_numpy(bias)
    if way == "operations" or x.is_neg() or (bias is not None and plus is None):
        return through(known.matrix, x, count, bias, times.chunk)
    way.threads = torch.get_num_threads()
    vectors = (x.detach() if x.requires_grad else x).numpy()
    if len(shape) != 2:
        vectors = vectors.reshape(count, n)
    y = way.multiply(vectors.T, by_columns=True, plus=plus).T
    return torch.from_numpy(y if len(shape) == 2 else y.reshape(*shape[:-1], m))


def _way(matrix: StructuredMatrix, count: int, times: Times) -> Way:
    """The way in which a matrix whose contents stay multiplies vectors on a CPU."""
    if takes_dense([matrix], times, count, 0):
        return "dense"
    if count > times.chunk * torch.get_num_threads():
        return "operations"
    return binding.direct(matrix, count) or "operations"


def _plus(y: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """The sum y + bias, in the memory of y unless that is also x's."""
    if torch._C._is_alias_of(y, x):
        return y + bias
    return y.add_(bias)


def dense(matrix: StructuredMatrix) -> Tensor:
    """The dense weight (m, n) of a matrix, once for one that remembers."""

    def assembled() -> Tensor:
        with without_autocast(matrix.device.type):
            if devices.is_apart(matrix.device) and (places := placement(matrix)) is not None:
                return places.dense(matrix)
            return matrix.to_dense().contiguous()

    return binding.kept(matrix, "dense", assembled)


def assembly(matrix: StructuredMatrix) -> int:
    """Number of products by the structure that assemble the dense weight."""
    return 0 if binding.remembers(matrix) else min(matrix.shape)


def prepare(matrix: StructuredMatrix) -> Times:
    """Estimate the times of products, and compute what depends on structure alone.

    Later products of the same structure may then be traced.
    """
    for size, adjoint in zip(matrix.shape, (True, False), strict=True):
        column = torch.zeros(size, 1, dtype=matrix.dtype, device=matrix.device)
        binding.multiply(matrix, column, adjoint=adjoint)
    if devices.is_apart(matrix.device):
        placement(matrix)
    return Times.of(count_operations(matrix), matrix.shape, place_of_products(matrix))


def check_dense(x: Any) -> None:
    """Refuse an input that is no dense tensor."""
    if not isinstance(x, Tensor):
        raise InputError(
            f"input is a {type(x).__qualname__}; expected a tensor (torch.as_tensor makes one)"
        )
    if x.layout is not torch.strided or x.is_nested:
        name = "nested" if x.is_nested else str(x.layout).removeprefix("torch.").lstrip("_")
        raise InputError(
            f"input is a {name} tensor; expected a dense one (x.to_dense(), or "
            "x.to_padded_tensor(0) of a nested one)"
        )


def check_inputs(x: Any, shape: tuple[int, int], weight: nn.Module | None = None) -> None:
    """Refuse vectors that a weight of a shape, with its values, cannot multiply."""
    check_dense(x)
    m, n = shape
    if x.ndim == 0 or x.shape[-1] != n:
        raise ShapeError(
            f"input has shape {tuple(x.shape)}; expected (…, {n}) for a weight of {m}x{n}"
        )
    if x.is_meta and weight is not None:
        devices = {t.device.type for t in (*weight.parameters(), *weight.buffers())}
        if devices and "meta" not in devices:
            raise InputError(
                "input is on the meta device, which has no values, and the weight on "
                f"{', '.join(sorted(devices))}; expected one device (move the layer with "
                ".to('meta') to learn of shapes)"
            )


def check_values(matrix: StructuredMatrix, x: Tensor) -> None:
    """Refuse to multiply an input by contents without values."""
    if matrix.device.type == "meta" and not x.is_meta:
        raise InputError(
            f"the contents of a weight of {matrix.shape[0]}x{matrix.shape[1]} are on the meta "
            f"device, and the input on {x.device}; expected contents with values (load them, or "
            "move the layer by to_empty and fill it)"
        )


def check_dtype(dtype: torch.dtype | None, own: torch.dtype | None) -> None:
    """Refuse an input of another dtype than the contents; None for no floating ones."""
    if own is not None and dtype not in (None, own):
        raise InputError(
            f"input has dtype {dtype} and the weight {own}; expected one dtype "
            "(move the layer with .to(dtype), or cast the input)"
        )


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Dtype to which autocast would change a product with `x`; None if it would not."""
    device = x.device.type
    if x.is_meta or x.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """A context in which operations on a device keep the dtype of their operands."""
    if device == "meta" or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)
