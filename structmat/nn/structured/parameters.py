"""Contents of structured matrices as parameters of a module."""

from typing import Any

import torch
from torch import Tensor, nn

from structmat.errors import InputError, ShapeError
from structmat.matrix import StructuredMatrix


class Contents(nn.Module):
    """Floating arrays of a matrix by name, and those of its children by number and name.

    They are copied. Integer arrays, as of a permutation, are structure: the matrix keeps them.
    """

    def __init__(self, matrix: StructuredMatrix) -> None:
        super().__init__()
        for name in matrix.data_names:
            array = getattr(matrix, name).detach()
            if array.is_floating_point():
                array = array.clone(memory_format=torch.contiguous_format)
                register(self, name, array)
        for i, child in enumerate(matrix.children):
            self.add_module(str(i), Contents(child))

    def forward(self) -> dict[str, Tensor]:
        """Own arrays by name. Hooks that keep parameters elsewhere bring them for a call."""
        return {n: t for n, t in (self._parameters | self._buffers).items() if t is not None}


def register(module: nn.Module, name: str, array: Tensor, *, trained: bool = True) -> None:
    """Give a module contents as a parameter, or as a buffer if they are empty.

    An empty array has nothing to train, and FSDP2 cannot shard empty parameters.
    """
    if array.numel():
        setattr(module, name, nn.Parameter(array, requires_grad=trained))
    else:
        module.register_buffer(name, array)


def leaves_of(matrix: StructuredMatrix, contents: nn.Module) -> list[Tensor]:
    """Present content arrays, integer ones included, in the order of `binding.leaves`."""
    pairs = _pairs(matrix, contents)
    present = [array for _, array in pairs if array is not None]
    if not present:
        return [own for own, _ in pairs]
    # Empty arrays are buffers, which loaders may leave on another device.
    device = next((array.device for array in present if array.numel()), present[0].device)
    arrays = [own if array is None else array for own, array in pairs]
    return [a if a.is_floating_point() and a.numel() else a.to(device) for a in arrays]


def stand_ins(matrix: StructuredMatrix, contents: nn.Module) -> list[Tensor]:
    """Contents that take no memory, of the dtypes and on the devices of the present ones.

    Instead of floating arrays one zero each, expanded; integer arrays are those of `matrix`.
    The present contents may be sharded, or not be there yet, so none is read.
    """
    return [
        own
        if present is None
        else torch.zeros((), dtype=present.dtype, device=present.device).expand(own.shape)
        for own, present in _pairs(matrix, contents)
    ]


def _pairs(matrix: StructuredMatrix, contents: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """Arrays of a matrix, each with the present one of `Contents`; None for integer arrays."""
    arrays = {name: getattr(matrix, name) for name in matrix.data_names}
    present = {n: getattr(contents, n) for n, own in arrays.items() if own.is_floating_point()}
    if any(tensor.is_meta for tensor in present.values()):
        present = contents()
    pairs = [(own, present.get(name)) for name, own in arrays.items()]
    for i, child in enumerate(matrix.children):
        pairs += _pairs(child, getattr(contents, str(i)))
    return pairs


def without_integers(contents: nn.Module) -> None:
    """Drop integer buffers, which contents that version 0.1.0 pickled have."""
    for module in contents.modules():
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and not buffer.is_floating_point():
                del module._buffers[name]


def bias_parameter(bias: Tensor | None, outputs: int) -> nn.Parameter | None:
    """A trainable copy of a bias of shape (outputs,), if there is one."""
    if bias is None:
        return None
    if tuple(bias.shape) != (outputs,):
        raise ShapeError(f"bias has shape {tuple(bias.shape)}; expected ({outputs},), the outputs")
    return nn.Parameter(bias.detach().clone())


def on_torch(matrix: Any) -> StructuredMatrix:
    """Return a matrix on torch, and refuse one whose contents cannot be trained."""
    if not isinstance(matrix, StructuredMatrix):
        raise InputError(
            f"matrix is a {type(matrix).__qualname__}; expected a StructuredMatrix (wrap a dense "
            "weight in structmat.Dense)"
        )
    if not isinstance(matrix.dtype, torch.dtype):
        matrix = matrix.to("torch")
    if matrix.dtype.is_complex:
        raise InputError(
            f"matrix has dtype {matrix.dtype}; expected real contents (layers compute with real "
            "numbers)"
        )
    _refuse_other_arrays(matrix)
    return matrix


def _refuse_other_arrays(matrix: StructuredMatrix) -> None:
    """Refuse arrays that a constructor computes from contents: they would not follow them."""
    for name, value in vars(matrix).items():
        if isinstance(value, Tensor) and name not in matrix.data_names:
            raise InputError(
                f"the kind {matrix.kind!r} holds the array {name!r} beside its contents; expected "
                f"{', '.join(matrix.data_names) or 'none'} alone (compute {name!r} in products, "
                "with self._kept)"
            )
    for child in matrix.children:
        _refuse_other_arrays(child)


def tensors_of(module: nn.Module) -> list[Tensor]:
    """List all parameters and buffers of the moment, which wrappers and transforms swap."""
    found: list[Tensor] = []
    _add_tensors(module, found)
    return found


def _add_tensors(module: nn.Module, found: list[Tensor]) -> None:
    for tensors in (module._parameters, module._buffers):
        if tensors:  # most are empty, and each layer is asked at every product
            found.extend(t for t in tensors.values() if t is not None)
    for child in module._modules.values():
        if child is not None:
            _add_tensors(child, found)


def floating_dtype(tensors: list[Tensor]) -> torch.dtype | None:
    """Dtype of the first floating tensor; None if all hold integers."""
    return next((t.dtype for t in tensors if t.is_floating_point()), None)
