"""Converted models with their structures fixed, or made dense again."""

from torch import nn

from structmat.errors import InputError
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.models.changed import announce
from structmat.nn.models.cost import layer_rows
from structmat.nn.models.layer_types import Weight, dense_layer, rebuilt, structured_layers
from structmat.nn.models.modules import check_replaceable, module_names, replace_
from structmat.nn.models.report import ConversionReport
from structmat.nn.structured.weight import StructuredWeight


def freeze_(model: nn.Module) -> ConversionReport:
    """Fix learned structures: pack the weights of evaluation, without dead blocks.

    Every Gaudi layer becomes a structured layer of hard boxcars, which stores the contents
    on its runs and nothing else. The model's outputs in evaluation stay the same, up to
    rounding. Training may go on, of contents alone.

    Parameters
    ----------
    model : Module

    Returns
    -------
    ConversionReport
        One row for each frozen weight.

    Raises
    ------
    InputError
        If the model has no Gaudi layers.

    Examples
    --------
    >>> from structmat.nn.gaudi.linear import GaudiLinear
    >>> model = nn.Sequential(GaudiLinear(64, 32, budget=0.25))
    >>> print(freeze_(model))
    layer  shape  kind  positions  multiplications  relative  scalars  error
    0      32x64  gblr          1              512    25.00%      512      -
    converted: 512 of 2,048 multiplications an example (25.00%), 512 of 2,048 scalars (25.00%)
    >>> type(model[0]).__name__
    'StructuredLinear'
    """
    check_replaceable(model)
    layers = structured_layers(model)
    learned = dict.fromkeys(w for ws in layers.values() for w in ws if isinstance(w, GaudiWeight))
    if layers and not learned:
        raise InputError(
            f"{type(model).__name__} has structured layers, but none that learns its structure; "
            "expected Gaudi layers (these are packed already: there is nothing to freeze)"
        )
    if not learned:
        raise InputError(
            f"{type(model).__name__} has no Gaudi layers; expected at least one with a structure "
            "to fix (convert it first: convert_(model, Config(kind='gblr', budget=…)))"
        )
    frozen: dict[Weight, Weight] = {weight: _packed(weight) for weight in learned}
    changed = [layer for layer, weights in layers.items() if not frozen.keys().isdisjoint(weights)]
    around = [[frozen.get(weight, weight) for weight in layers[layer]] for layer in changed]
    new = dict(zip(changed, map(rebuilt, changed, around), strict=True))
    placed = replace_(model, new)
    announce(model)
    return ConversionReport(tuple(layer_rows(placed)))


def _packed(weight: GaudiWeight) -> StructuredWeight:
    packed = StructuredWeight(weight.to_matrix())
    packed.positions = weight.positions
    return packed.requires_grad_(weight.u.requires_grad)


def to_dense_(model: nn.Module) -> ConversionReport:
    """Turn every structured layer back into `torch.nn.Linear` or `torch.nn.Conv2d`.

    The dense weights are those of evaluation. A packed layer becomes one layer again. A
    layer that was Hugging Face's Conv1D becomes one again inside a model of transformers,
    and elsewhere a `torch.nn.Linear`, which computes the same.

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
        If the model has no structured layers.

    Examples
    --------
    >>> from structmat.nn.gaudi.linear import GaudiLinear
    >>> model = nn.Sequential(GaudiLinear(64, 32, budget=0.25))
    >>> to_dense_(model).total.relative_cost, model[0]
    (0.25, Linear(in_features=64, out_features=32, bias=True))
    """
    check_replaceable(model)
    layers = structured_layers(model)
    if not layers:
        raise InputError(
            f"{type(model).__name__} has no structured layers; expected at least one to make dense"
        )
    names = module_names(model)
    rows = layer_rows({layer: names[layer] for layer in layers})
    rows = [row for row in rows if row.kind != "dense"]
    dense: dict[tuple[Weight, ...], nn.Parameter] = {}
    new = {}
    for layer, weights in layers.items():
        new[layer] = dense_layer(layer)
        # Layers that shared a weight go on sharing it.
        new[layer].weight = dense.setdefault(tuple(weights), new[layer].weight)
    replace_(model, new)
    announce(model)
    return ConversionReport(tuple(rows))
