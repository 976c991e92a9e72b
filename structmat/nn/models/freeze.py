"""Converted models with their structures fixed, or made dense again."""

from collections.abc import Mapping

from torch import nn

from structmat.errors import InputError
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.models.cost import cost
from structmat.nn.models.layer_types import STRUCTURED, dense_layer, rebuilt, weights_of
from structmat.nn.models.report import ConversionReport
from structmat.nn.models.targets import check_replaceable, module_names
from structmat.nn.structured.weight import StructuredWeight


def replace_(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Put new modules where old ones stand, everywhere in the model, in the same mode.

    Examples
    --------
    >>> model = nn.Sequential(nn.ReLU())
    >>> replace_(model, {model[0]: nn.Tanh()})
    >>> model[0]
    Tanh()
    """
    for module, names in module_names(model).items():
        if module in new:
            new[module].train(module.training)
            for name in names:
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, new[module])


def freeze_(model: nn.Module) -> ConversionReport:
    """Fix learned structures: what evaluation computes, packed, without dead blocks.

    Every Gaudi layer becomes a structured layer of hard boxcars that stores the contents
    on its runs and nothing else. In evaluation the model computes what it did, to
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
    layers = [m for m in model.modules() if isinstance(m, STRUCTURED)]
    learned = [m for m in layers if any(isinstance(w, GaudiWeight) for w in weights_of(m))]
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
    weights: dict[GaudiWeight, StructuredWeight] = {}

    def frozen(weight: GaudiWeight) -> StructuredWeight:
        if weight not in weights:
            packed = weights[weight] = StructuredWeight(weight.to_matrix())
            packed.positions = weight.positions
            packed.requires_grad_(weight.u.requires_grad)
        return weights[weight]

    new = {
        layer: rebuilt(
            layer, [frozen(w) if isinstance(w, GaudiWeight) else w for w in weights_of(layer)]
        )
        for layer in learned
    }
    names = {where[0] for module, where in module_names(model).items() if module in new}
    replace_(model, new)
    return ConversionReport(tuple(row for row in cost(model).rows if row.name in names))


def to_dense_(model: nn.Module) -> ConversionReport:
    """Bring every structured layer back to `torch.nn.Linear` or `torch.nn.Conv2d`.

    Weights are those of evaluation. A packed layer becomes one layer again, and what was
    Hugging Face's Conv1D becomes a `torch.nn.Linear`, which computes the same.

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
    layers = [m for m in model.modules() if isinstance(m, STRUCTURED)]
    if not layers:
        raise InputError(
            f"{type(model).__name__} has no structured layers; expected at least one to make dense"
        )
    rows = tuple(row for row in cost(model).rows if row.kind != "dense")
    kept: dict[tuple[int, ...], nn.Parameter] = {}
    new = {}
    for layer in layers:
        new[layer] = dense_layer(layer)
        # Layers that shared a weight go on sharing it.
        new[layer].weight = kept.setdefault(tuple(map(id, weights_of(layer))), new[layer].weight)
    replace_(model, new)
    return ConversionReport(rows)
