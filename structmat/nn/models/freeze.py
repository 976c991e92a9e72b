"""Converted models with their structures fixed, or made dense again."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from structmat.errors import InputError
from structmat.nn.models.attention import merged, projections
from structmat.nn.models.carry import KEPT
from structmat.nn.models.changed import announce
from structmat.nn.models.cost import layer_rows
from structmat.nn.models.layer_types import (
    LEARNING,
    Weight,
    contents_of,
    dense_layer,
    rebuilt,
    structured_layers,
)
from structmat.nn.models.merge_orders import merge_orders_
from structmat.nn.models.modules import (
    check_module,
    check_obstacles,
    check_replaceable,
    check_untied,
    module_names,
    replace_,
)
from structmat.nn.models.report import ConversionReport
from structmat.nn.structured.attention import SplitAttention
from structmat.nn.structured.weight import StructuredWeight


def freeze_(model: nn.Module) -> ConversionReport:
    """Fix learned structures: pack the weights of evaluation, without dead blocks.

    Every layer that learns becomes a structured layer, which stores the contents on its
    structure and nothing else: the hard boxcars of a Gaudi layer, the present structure of a
    layer that `Anneal` brings down. Layers of other kinds are packed from the start and stay as
    they are, and so is a model that was frozen before. The model's outputs in evaluation stay
    the same, up to rounding. Training may go on, of contents alone, with a new optimizer.
    Hooks and attributes of the layers move to the new ones. A Gaudi layer counts the widths of its
    blocks; packed, each block one row high or one column wide takes one multiplication less.

    Permutations of rows and columns merge between neighbours of an `nn.Sequential`: linear layers
    with elementwise modules between them. The hidden units there, and the entries of a dense
    neighbour's parameters, then have another order.

    Parameters
    ----------
    model : Module

    Returns
    -------
    ConversionReport
        One row for each structured weight.

    Raises
    ------
    InputError
        If the model has no structured layers, or something that is attached to a learned
        layer cannot move to another one.

    Examples
    --------
    >>> from structmat.nn.gaudi.linear import GaudiLinear
    >>> model = nn.Sequential(GaudiLinear(64, 32, budget=0.25))
    >>> print(freeze_(model))
    layer  shape  kind  positions  multiplications  relative  scalars  error
    0      32x64  gblr          1              480    23.44%      512      -
    converted: 480 of 2,048 multiplications a vector (23.44%), 512 of 2,048 scalars (25.00%)
    >>> type(model[0]).__name__
    'StructuredLinear'
    """
    check_module(model)
    layers = structured_layers(model)
    if not layers:
        raise InputError(
            f"{type(model).__name__} has no structured layers; expected at least one with a "
            "structure to fix (convert it first: convert_(model, Config(kind='gblr', budget=…)))"
        )
    learned = dict.fromkeys(w for ws in layers.values() for w in ws if isinstance(w, LEARNING))
    changed = [layer for layer, weights in layers.items() if not learned.keys().isdisjoint(weights)]
    if changed:
        check_replaceable(model)
        check_obstacles(model, dict.fromkeys(changed, KEPT))
        check_untied(model, changed)
    frozen: dict[Weight, Weight] = {weight: _packed(weight) for weight in learned}
    around = [[frozen.get(weight, weight) for weight in layers[layer]] for layer in changed]
    replace_(model, dict(zip(changed, map(rebuilt, changed, around), strict=True)))
    merge_orders_(model)
    announce(model)
    names = module_names(model)
    return ConversionReport(tuple(layer_rows({m: names[m] for m in structured_layers(model)})))


def _packed(weight: Any) -> StructuredWeight:
    packed = StructuredWeight(weight.to_matrix())
    if "positions" in vars(weight):
        packed.positions = weight.positions
    for name, contents in packed.contents.named_parameters():
        # One parameter of a learned weight stands for all contents, those of Gaudi have its names.
        trained = weight._parameters.get(name, weight._parameters.get("weight"))
        contents.requires_grad_(trained is None or trained.requires_grad)
    return packed


def to_dense_(model: nn.Module) -> ConversionReport:
    """Turn every structured layer back into `torch.nn.Linear` or `torch.nn.Conv2d`.

    Attention whose projections were converted becomes `torch.nn.MultiheadAttention` again.
    The dense weights are those of evaluation; they are trained if the contents were. A
    packed layer becomes one layer again. A layer that was Hugging Face's Conv1D becomes one
    again inside a model of transformers, and elsewhere a `torch.nn.Linear`, which computes the
    same. Hooks and attributes of the layers move to the new ones. Make the optimizer
    afterwards, since the parameters are new.

    Parameters
    ----------
    model : Module

    Returns
    -------
    ConversionReport
        One row for each weight, with the cost that it had.

    Raises
    ------
    InputError
        If the model has no structured layers, some contents of a layer are trained and
        others not, or something that is attached to a layer cannot move to another one.

    Examples
    --------
    >>> from structmat.nn.gaudi.linear import GaudiLinear
    >>> model = nn.Sequential(GaudiLinear(64, 32, budget=0.25))
    >>> to_dense_(model).total.relative_cost, model[0]
    (0.25, Linear(in_features=64, out_features=32, bias=True))
    """
    check_replaceable(model)
    layers = structured_layers(model)
    attentions = [m for m in model.modules() if isinstance(m, SplitAttention)]
    if not layers and not attentions:
        raise InputError(
            f"{type(model).__name__} has no structured layers; expected at least one to make dense"
        )
    check_obstacles(model, dict.fromkeys([*layers, *attentions], KEPT))
    check_untied(model, [*layers, *attentions])
    names = module_names(model)
    trained = {layer: _is_trained(names[layer][0], [layer]) for layer in layers}
    for attention in attentions:
        _is_trained(names[attention][0], projections(attention))
    rows = layer_rows({layer: names[layer] for layer in layers})
    dense: dict[tuple[Weight, ...], nn.Parameter] = {}
    new = {}
    for layer, weights in layers.items():
        new[layer] = dense_layer(layer)
        new[layer].weight.requires_grad_(trained[layer])
        # Layers that shared a weight go on sharing it.
        new[layer].weight = dense.setdefault(tuple(weights), new[layer].weight)
    replace_(model, new)
    packed: dict[tuple[int, ...], nn.Parameter] = {}
    replace_(model, {attention: merged(attention, packed) for attention in attentions})
    announce(model)
    return ConversionReport(tuple(rows))


def _is_trained(name: str, layers: Sequence[nn.Module]) -> bool:
    """Tell whether weights are trained, and refuse some that are and some that are not.

    The layers become one dense weight, which is one parameter.
    """
    trained = {p.requires_grad for layer in layers for p in contents_of(layer)}
    if len(trained) > 1:
        raise InputError(
            f"{name!r} has contents that are trained and contents that are not (requires_grad); "
            "expected one or the other, as its dense weight is one parameter (set them alike)"
        )
    return trained != {False}
