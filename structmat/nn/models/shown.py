"""Facts and pictures of layers, for notebooks and for reports on files."""

from typing import Any

import torch

from structmat._html import SMALL, blocks_svg
from structmat._markup import Markup, amount, card
from structmat.nn.models.cost import structured_row
from structmat.nn.models.layer_types import LEARNING, STRUCTURED, layer_shape, weights_of
from structmat.nn.sharded import is_sharded

#: Pictures of one layer at most: one for each tap of a kernel or part of a packed weight.
_MOST_PICTURES = 9
#: Length of each where there are more than four, in CSS pixels.
_TINY = 52


def layer_html(layer: Any) -> Markup:
    """The facts of a structured layer or weight beside the pictures of its blocks.

    Of a layer without values, or with values on several processes, only those facts are shown
    that ask for none.

    Examples
    --------
    >>> from structmat.nn.gaudi.linear import GaudiLinear
    >>> "128 (25.00% of dense)" in layer_html(GaudiLinear(32, 16, budget=0.25))
    True
    """
    weights = _weights(layer)
    shape = layer_shape(layer) if isinstance(layer, STRUCTURED) else weights[0].shape
    facts = {"shape": " x ".join(map(str, shape)), "kind": _kinds(weights)}
    tensors = [*layer.parameters(), *layer.buffers()]
    facts |= {"dtype": ", ".join(dict.fromkeys(str(tensor.dtype) for tensor in tensors))}
    facts |= {"device": ", ".join(dict.fromkeys(str(tensor.device) for tensor in tensors))}
    if any(is_sharded(tensor) or tensor.is_meta for tensor in tensors):
        return card(type(layer).__name__, facts)
    row = structured_row(weights, tuple(shape), [""])
    facts |= {
        "cost": amount(row.cost, row.dense_cost),
        "storage": amount(row.storage, row.dense_cost),
        "learns": "structure and contents" if isinstance(weights[0], LEARNING) else "contents",
    }
    return card(type(layer).__name__, facts, layer_pictures(layer))


def layer_pictures(layer: Any, title: str = "") -> list[Markup]:
    """Pictures of the blocks of a layer's weights: the first few where they are many."""
    weights = _weights(layer)
    matrices = [weight.to_matrix() for weight in weights[:_MOST_PICTURES]]
    size = {} if len(weights) == 1 else {"side": SMALL if len(weights) <= 4 else _TINY}
    with torch.no_grad():
        return [blocks_svg(matrix, title, **size) for matrix in matrices]


def _weights(layer: Any) -> list[Any]:
    """The weights of a layer; a weight is its own."""
    return weights_of(layer) if isinstance(layer, STRUCTURED) else [layer]


def _kinds(weights: list[Any]) -> str:
    kinds = " + ".join(dict.fromkeys(weight.kind for weight in weights))
    return kinds if len(weights) == 1 else f"{kinds} ({len(weights)} weights)"
