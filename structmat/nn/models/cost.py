"""What the layers of a model cost: dense ones, learned ones and frozen ones."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.models.layer_types import STRUCTURED, Weight, layer_type, weights_of
from structmat.nn.models.report import LayerReport, ModelCost
from structmat.nn.models.targets import check_module, module_names
from structmat.nn.models.trace import count_positions


def cost(model: nn.Module, example: Any = None) -> ModelCost:
    """What the linear layers and convolutions of a model cost.

    Parameters
    ----------
    model : Module
        Dense, converted or frozen, in any mixture; it is not changed.
    example : tensor, tuple of arguments or mapping of keywords, optional
        Input for one run in evaluation mode, which counts how many vectors each layer
        multiplies; the first dimension of its first tensor counts the examples. Without
        it structured layers have the positions that they were given, and dense ones 1.

    Returns
    -------
    ModelCost
        With one row for each weight; print it for a table.

    Raises
    ------
    InputError
        If `model` is no module, or the example has no tensor.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn.gaudi.linear import GaudiLinear
    >>> model = nn.Sequential(GaudiLinear(64, 32, budget=0.25), nn.ReLU(), nn.Linear(32, 10))
    >>> print(cost(model, torch.zeros(4, 64)))
    layer  shape  kind   positions  multiplications  relative  scalars  error
    0      32x64  gblr           1              512    25.00%      512      -
    2      10x32  dense          1              320   100.00%      320      -
    structured: 512 of 2,048 multiplications an example (25.00%), 512 of 2,048 scalars (25.00%)
    together: 832 of 2,368 multiplications an example (35.14%), 832 of 2,368 scalars (35.14%)
    """
    check_module(model)
    names = {m: where for m, where in module_names(model).items() if _is_counted(m)}
    counts = None
    if example is not None:
        counts = count_positions(model, {m: _outputs(m) for m in names}, example)
    groups: dict[Any, list[Any]] = {}
    for module in names:
        groups.setdefault(_weight_identity(module), []).append(module)
    rows = []
    for modules in groups.values():
        where = [name for module in modules for name in names[module]]
        positions = None if counts is None else sum(counts[module] for module in modules)
        shape = _shape(modules[0])
        if isinstance(modules[0], STRUCTURED):
            rows.append(structured_row(weights_of(modules[0]), shape, where, positions))
        else:
            rows.append(_dense_row(shape, where, len(modules) if positions is None else positions))
    return ModelCost(tuple(rows), counted=counts is not None)


def structured_row(
    weights: Sequence[Weight],
    shape: tuple[int, ...],
    names: Sequence[str],
    positions: int | None = None,
    error: float | None = None,
) -> LayerReport:
    """Row of a layer made of structured weights."""
    kinds = dict.fromkeys("gblr" if isinstance(w, GaudiWeight) else w.kind for w in weights)
    return LayerReport(
        names[0],
        "+".join(kinds),
        shape,
        weights[0].positions if positions is None else positions,
        sum(weight.cost for weight in weights),
        sum(weight.storage for weight in weights),
        error,
        tuple(names[1:]),
    )


def _dense_row(shape: tuple[int, ...], names: Sequence[str], positions: int) -> LayerReport:
    size = math.prod(shape)
    shared_with = tuple(names[1:])
    return LayerReport(names[0], "dense", shape, positions, size, size, shared_with=shared_with)


def _is_counted(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.Conv2d, *STRUCTURED)) or layer_type(module) is not None


def _outputs(layer: Any) -> int:
    return _shape(layer)[0]


def _shape(layer: Any) -> tuple[int, ...]:
    """(out, in), or (out, in, kh, kw) of a convolution."""
    if isinstance(layer, STRUCTURED) and hasattr(layer, "taps"):
        return layer.out_channels, layer.in_channels, *layer.kernel_size
    if isinstance(layer, (nn.Linear, *STRUCTURED)):
        return layer.out_features, layer.in_features
    shape = tuple(layer.weight.shape)
    return shape if isinstance(layer, nn.Conv2d) else shape[::-1]


def _weight_identity(layer: Any) -> Any:
    """What layers that share a weight have in common."""
    if isinstance(layer, STRUCTURED):
        return tuple(map(id, weights_of(layer)))
    return id(layer._parameters.get("weight", layer))
