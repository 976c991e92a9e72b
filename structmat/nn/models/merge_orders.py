"""Orders merged between neighbours: one gather, or none, where two layers had one each.

An elementwise function takes its input in any order. So the order of one layer's outputs can
move into the inputs of the next layer: B Q f(P A x + b) = B (Q P) f(A x + Pᵀ b).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from structmat.matrices import Permutation, Product, split_orders
from structmat.matrix import StructuredMatrix
from structmat.nn.models.carry import KEPT, has_hooks, inner_modules
from structmat.nn.models.modules import module_names, obstacles
from structmat.nn.structured.layers import StructuredLinear
from structmat.nn.structured.weight import StructuredWeight

#: Modules that compute every entry of their output from the same entry of their input.
_ELEMENTWISE = (
    nn.AlphaDropout, nn.CELU, nn.Dropout, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid,
    nn.Hardswish, nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU,
    nn.ReLU6, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh,
    nn.Tanhshrink, nn.Threshold,
)  # fmt: skip


def merge_orders_(model: nn.Module) -> bool:
    """Merge the orders of neighbouring layers, which leaves the outputs of a model as they are.

    The model is an `nn.Sequential`, perhaps of others; nothing else shows that an output goes to
    the next layer alone. Neighbours are linear layers, structured or dense, with elementwise
    modules between them. Layers that are shared, have hooks or are referred to elsewhere stay.
    Parameters keep their identity, and lose a gradient whose entries have moved.

    Returns
    -------
    bool
        True if a layer has changed.
    """
    changed = False
    for first, second in _neighbours(model):
        if _movable(model, (first, second)):
            changed |= _merge(first, second)
    return changed


def _neighbours(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Linear layers that follow each other, with elementwise modules between them."""
    last = None
    for module in _chain(model, module_names(model)):
        if type(module) in (StructuredLinear, nn.Linear):
            if last is not None:
                yield last, module
            last = module
        elif type(module) not in _ELEMENTWISE or has_hooks(module):
            last = None


def _chain(model: nn.Module, names: dict[nn.Module, list[str]]) -> Iterator[nn.Module]:
    """Modules that call each other's output alone, one after the other."""
    if type(model) is not nn.Sequential:
        return
    for child in model:
        if type(child) is nn.Sequential and len(names[child]) == 1 and not has_hooks(child):
            yield from _chain(child, names)
        else:
            yield child


def _movable(model: nn.Module, layers: tuple[nn.Module, ...]) -> bool:
    """Tell whether each layer and parameter has one place, no hooks, and entries to be moved."""
    if not any(isinstance(layer, StructuredLinear) for layer in layers):
        return False
    names = module_names(model)
    slots = [id(p) for module in names for p in module._parameters.values() if p is not None]
    inside = [inner for layer in layers for inner in inner_modules(layer)]
    own = [p for layer in layers for p in layer.parameters()]
    return (
        all(len(names[inner]) == 1 and not has_hooks(inner) for inner in inside)
        and all(slots.count(id(p)) == 1 for p in own)
        and all(type(p.detach()) is Tensor and not p.is_meta for p in own)  # no shards
        and not obstacles(model, dict.fromkeys(layers, KEPT))
    )


def _merge(first: Any, second: Any) -> bool:
    """Move the order that is between two layers to the side where fewer gathers are left."""
    own, other = _matrix(first), _matrix(second)
    left = None if own is None else split_orders(own)[0]
    right = None if other is None else split_orders(other)[2]
    for P in (left, None if right is None else right.H):
        if P is None:
            continue
        moved = [None if own is None else P.H @ own, None if other is None else other @ P]
        if sum(map(_gathers, moved)) < _gathers(own) + _gathers(other):
            _reorder_rows_(first, moved[0], P)
            _reorder_columns_(second, moved[1], P)
            return True
    return False


def _matrix(layer: Any) -> StructuredMatrix | None:
    return layer.to_matrix() if isinstance(layer, StructuredLinear) else None


def _gathers(A: StructuredMatrix | None) -> int:
    """Number of permutations that a product by a matrix goes through."""
    factors = A.children if isinstance(A, Product) else (A,)
    return sum(isinstance(factor, Permutation) for factor in factors)


def _reorder_rows_(layer: Any, matrix: StructuredMatrix | None, P: Permutation) -> None:
    """Make Pᵀ A and Pᵀ b of the weight and the bias of a layer."""
    if matrix is None:
        _set_(layer.weight, P.H @ layer.weight.detach())
    else:
        layer.matrix = _around(matrix, layer.matrix)
    if layer.bias is not None:
        _set_(layer.bias, P.H @ layer.bias.detach())


def _reorder_columns_(layer: Any, matrix: StructuredMatrix | None, P: Permutation) -> None:
    """Make B P of the weight B of a layer."""
    if matrix is None:
        _set_(layer.weight, layer.weight.detach() @ P)
    else:
        layer.matrix = _around(matrix, layer.matrix)


def _around(matrix: StructuredMatrix, old: StructuredWeight) -> StructuredWeight:
    """A weight of another order that has the parameters of the old one."""
    weight = StructuredWeight(matrix).train(old.training)
    if "positions" in vars(old):
        weight.positions = old.positions
    present = list(old.contents.parameters())
    for module in weight.contents.modules():
        for name, made in module._parameters.items():
            module._parameters[name] = parameter = present.pop(0)
            if not torch.equal(parameter, made):
                _set_(parameter, made.detach())
    return weight


@torch.no_grad()
def _set_(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.copy_(value)
    parameter.grad = None
