"""Costs of the layers of a model: dense ones, learned ones and frozen ones."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from structmat.nn.models.attention import split_attentions
from structmat.nn.models.layer_types import (
    STRUCTURED,
    Weight,
    has_linear_weight,
    layer_shape,
    weights_of,
)
from structmat.nn.models.modules import check_module, module_names
from structmat.nn.models.report import LayerReport, ModelCost
from structmat.nn.models.times import expected_times
from structmat.nn.models.trace import batch_size, count_vectors


def cost(model: nn.Module, example: Any = None) -> ModelCost:
    """Count what the linear layers and convolutions of a model cost.

    Parameters
    ----------
    model : Module
        Dense, converted or frozen, in any mixture; it is not changed.
    example : tensor, tuple of arguments or mapping of keywords, optional
        Input for one run in evaluation mode, which counts how many vectors each layer
        multiplies; the first dimension of its first tensor counts the examples. Without
        it structured layers have the positions that they were given, and dense ones 1;
        a total over layers of both sorts then counts one vector for each weight. The example
        also gives the vectors for which times are expected.

    Returns
    -------
    ModelCost
        With one row for each weight; print it for a table, and its ``times`` for the expected
        times of the layers on the device where they are.

    Raises
    ------
    InputError
        If `model` is not a module, or the example has no tensor.

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
    (structured layers stand for 86.49% of the dense multiplications)
    """
    check_module(model)
    with split_attentions(model):
        names = linear_layers(model)
        counts, times = None, None
        if example is not None:
            counts = count_vectors(model, {m: layer_shape(m)[0] for m in names}, example)
            times = expected_times(names, counts, batch_size(example))
        rows = layer_rows(names, counts)
        others = other_layers(model, names)
    return ModelCost(tuple(rows), counts is not None, tuple(others), times)


def linear_layers(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Name the layers that are counted: linear ones and convolutions, dense or structured."""
    names = module_names(model)
    inside = {m for a in names if isinstance(a, nn.MultiheadAttention) for m in a.modules()}
    return {m: n for m, n in names.items() if has_linear_weight(m) and m not in inside}


def other_layers(model: nn.Module, names: Mapping[nn.Module, Sequence[str]]) -> list[str]:
    """Describe the modules whose multiplications are not counted, by name and type.

    They have matrices as parameters and are neither among `names` nor embeddings.
    """
    inside = {inner for layer in names for inner in layer.modules()}
    return [
        f"{name or 'the model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if module not in inside
        and not isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        and any(p is not None and p.squeeze().ndim > 1 for p in module._parameters.values())
    ]


def layer_rows(
    names: Mapping[nn.Module, Sequence[str]], counts: Mapping[nn.Module, int] | None = None
) -> list[LayerReport]:
    """Make one row for each weight of some layers, given with all their names.

    `counts` has the vectors that each layer multiplies for one example.
    """
    # Layers that share a weight stand in one row; dense ones share the parameter itself.
    groups: dict[tuple[int, ...], list[nn.Module]] = {}
    weights = {layer: weights_of(layer) for layer in names if isinstance(layer, STRUCTURED)}
    for layer in names:
        shared = weights.get(layer) or [layer._parameters.get("weight", layer)]
        groups.setdefault(tuple(map(id, shared)), []).append(layer)
    shapes = [layer_shape(layers[0]) for layers in groups.values()]
    rows = []
    for shape, layers in zip(shapes, groups.values(), strict=True):
        first, where = layers[0], [name for layer in layers for name in names[layer]]
        vectors = None if counts is None else sum(counts[layer] for layer in layers)
        if first in weights:
            rows.append(structured_row(weights[first], shape, where, vectors))
        else:
            vectors = len(layers) if vectors is None else vectors
            name, size, rest = where[0], math.prod(shape), tuple(where[1:])
            counted = counts is not None
            row = LayerReport(name, "dense", shape, vectors, size, size, None, rest, counted)
            rows.append(row)
    return rows


def structured_row(
    weights: Sequence[Weight],
    shape: tuple[int, ...],
    names: Sequence[str],
    vectors_per_example: int | None = None,
    error: float | None = None,
) -> LayerReport:
    """Make the row of a layer of structured weights."""
    figures = [(weight.kind, weight.cost, weight.storage) for weight in weights]
    kinds, costs, storages = zip(*figures, strict=True)
    return LayerReport(
        names[0],
        "+".join(dict.fromkeys(kinds)),
        shape,
        weights[0].positions if vectors_per_example is None else vectors_per_example,
        sum(costs),
        sum(storages),
        error,
        tuple(names[1:]),
        vectors_per_example is not None or "positions" in vars(weights[0]),
    )
