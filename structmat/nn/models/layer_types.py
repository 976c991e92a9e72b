"""Layers that can be converted and layers that a conversion makes: one record a type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from structmat.nn.anneal.conv import AnnealConv2d
from structmat.nn.anneal.linear import AnnealLinear
from structmat.nn.anneal.weight import AnnealWeight
from structmat.nn.gaudi.conv import GaudiConv2d
from structmat.nn.gaudi.linear import GaudiLinear
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.structured.attention import Projection, SplitAttention
from structmat.nn.structured.layers import StructuredConv2d, StructuredLinear
from structmat.nn.structured.packed import PackedLinear
from structmat.nn.structured.weight import StructuredWeight

Weight = GaudiWeight | AnnealWeight | StructuredWeight
#: Weights that learn their structure.
LEARNING = (GaudiWeight, AnnealWeight)
Build = Callable[[Sequence[Any], Tensor | None, dict[str, Any]], nn.Module]

#: Makers of the layers that stand in a converted model: ``make(weights, bias, settings)``.
MAKERS: dict[type[nn.Module], Build] = {
    GaudiLinear: lambda weights, bias, _: GaudiLinear.from_weight(weights[0], bias),
    GaudiConv2d: lambda taps, bias, settings: GaudiConv2d.from_taps(taps, bias, **settings),
    AnnealLinear: lambda weights, bias, _: AnnealLinear(weights[0], bias),
    AnnealConv2d: lambda taps, bias, settings: AnnealConv2d(taps, bias, **settings),
    StructuredLinear: lambda weights, bias, _: StructuredLinear(weights[0], bias),
    StructuredConv2d: lambda taps, bias, settings: StructuredConv2d(taps, bias, **settings),
    PackedLinear: lambda parts, bias, _: PackedLinear(parts, bias),
}
#: Types of the layers that a conversion makes.
STRUCTURED = tuple(MAKERS)
_CONVOLUTIONS = (GaudiConv2d, AnnealConv2d, StructuredConv2d)
#: Layers of one weight, and convolutions, by the type of their weights.
_SINGLE = {GaudiWeight: GaudiLinear, AnnealWeight: AnnealLinear, StructuredWeight: StructuredLinear}
_KERNELS = dict(zip(_SINGLE, _CONVOLUTIONS, strict=True))


@dataclass(frozen=True)
class LayerType:
    """Functions that read and replace dense layers of one type.

    Attributes
    ----------
    matrix : callable
        ``matrix(layer, by_taps)``: the weight as one matrix (m, n) with a row for each
        output. With `by_taps` the columns of a convolution are ordered tap by tap.
    vectors : callable
        ``vectors(layer, input, by_taps)``: the vectors (T, n) that this matrix multiplies.
    variance : callable
        Mean squared entry of the weight under the layer's default initialisation.
    build : callable
        ``build(layer, weights)``: the same layer around structured weights.
    taps : callable
        Number of column blocks that the matrix can be cut into.
    complaint : callable
        Reason why a layer cannot be converted; empty if it can.
    """

    matrix: Callable[[Any, bool], Tensor]
    vectors: Callable[[Any, Tensor, bool], Tensor]
    variance: Callable[[Any], float]
    build: Callable[[Any, Sequence[Weight]], nn.Module]
    taps: Callable[[Any], int] = lambda layer: 1
    complaint: Callable[[Any], str] = lambda layer: ""


def layer_type(module: nn.Module) -> LayerType | None:
    """Record of a module's exact type; None if such modules are not converted.

    A subclass has no record, because its `forward` may do anything.
    """
    kind = type(module)
    if kind.__name__ == "Conv1D" and kind.__module__.partition(".")[0] == "transformers":
        return _TRANSPOSED
    return LAYERS.get(kind)


def weights_of(layer: Any) -> list[Weight]:
    """List the structured weights of a converted layer."""
    if isinstance(layer, PackedLinear):
        return list(layer.parts)
    return list(layer.taps) if isinstance(layer, _CONVOLUTIONS) else [layer.matrix]


def contents_of(layer: Any) -> list[nn.Parameter]:
    """List the parameters of a layer's weights, dense or structured, that are no runs."""
    found: list[Any] = []
    for weight in weights_of(layer) if isinstance(layer, STRUCTURED) else [layer]:
        if isinstance(weight, StructuredWeight | AnnealWeight):
            found += weight.parameters()
        else:
            found += [weight.u, weight.v] if isinstance(weight, GaudiWeight) else [weight.weight]
    return [tensor for tensor in found if isinstance(tensor, nn.Parameter)]


def fresh(layer: Any) -> nn.Module:
    """Make a layer of the same type that nobody has changed, to compare names with.

    A structured one has the same weights; a dense one is small, and on the meta device.
    """
    kind = next((kind for kind in STRUCTURED if isinstance(layer, kind)), None)
    if kind is not None:
        return MAKERS[kind](weights_of(layer), None, layer_settings(layer))
    if isinstance(layer, SplitAttention):
        layers = (layer.q_proj, layer.k_proj, layer.v_proj, layer.out_proj)
        return SplitAttention(*layers, num_heads=layer.num_heads)
    with torch.device("meta"):
        if isinstance(layer, nn.MultiheadAttention):
            return nn.MultiheadAttention(2, 1)
        if isinstance(layer, Projection):
            return Projection(1, 1, fan=2)
        if layer_type(layer) is _TRANSPOSED:
            return type(layer)(1, 1)
        return nn.Conv2d(1, 1, 1) if isinstance(layer, nn.Conv2d) else nn.Linear(1, 1)


def structured_layers(model: nn.Module) -> dict[nn.Module, list[Weight]]:
    """List the structured layers of a model, with their weights."""
    return {m: weights_of(m) for m in model.modules() if isinstance(m, STRUCTURED)}


def has_linear_weight(module: nn.Module) -> bool:
    """Tell whether a module is a linear layer or a convolution, dense or structured."""
    known = isinstance(module, (nn.Linear, nn.Conv2d, *STRUCTURED))
    return known or layer_type(module) is not None


def layer_shape(layer: Any) -> tuple[int, ...]:
    """Shape (out, in) of a layer's weight, or (out, in, height, width) of a convolution's."""
    if isinstance(layer, _CONVOLUTIONS):
        return layer.out_channels, layer.in_channels, *layer.kernel_size
    if isinstance(layer, nn.Conv2d):
        return tuple(layer.weight.shape)
    is_linear = isinstance(layer, (nn.Linear, *STRUCTURED))
    return (layer.out_features, layer.in_features) if is_linear else tuple(layer.weight.shape[::-1])


def layer_settings(layer: Any) -> dict[str, Any]:
    """Settings of a convolution that its weights do not show; empty for a linear layer."""
    names = ("in_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
    convolves = isinstance(layer, (nn.Conv2d, *_CONVOLUTIONS))
    return {name: getattr(layer, name) for name in names} if convolves else {}


def rebuilt(layer: Any, weights: Sequence[Weight]) -> nn.Module:
    """Make a converted layer of the same settings around other weights; the bias is shared."""
    if isinstance(layer, PackedLinear):
        return _made(PackedLinear, layer, weights)
    return _convolution(layer, weights) if layer_settings(layer) else _linear(layer, weights)


def dense_layer(layer: Any) -> nn.Linear | nn.Conv2d:
    """Make the dense layer with the weight that a converted one has in evaluation."""
    weights = [weight.to_matrix().to_dense() for weight in weights_of(layer)]
    like = {"bias": layer.bias is not None, "device": weights[0].device, "dtype": weights[0].dtype}
    settings = layer_settings(layer)
    if settings:
        dense = skip_init(nn.Conv2d, out_channels=layer.out_channels, **settings, **like)
        weight = weights[0] if len(weights) == 1 else torch.stack(weights, -1)
    else:
        dense = skip_init(nn.Linear, layer.in_features, layer.out_features, **like)
        weight = torch.cat(weights)
    with torch.no_grad():
        dense.weight.copy_(weight.view_as(dense.weight))
    return _with_bias(dense, layer)


def _with_bias(layer: Any, old: Any) -> Any:
    # The same parameter, so that optimizers, ties and requires_grad stay valid.
    layer.bias = old.bias
    return layer


def _made(kind: type[nn.Module], layer: Any, weights: Sequence[Weight]) -> nn.Module:
    return _with_bias(MAKERS[kind](weights, None, layer_settings(layer)), layer)


def _linear(layer: Any, weights: Sequence[Weight]) -> nn.Module:
    single = _by_weight(_SINGLE, weights[0])
    return _made(single if len(weights) == 1 else PackedLinear, layer, weights)


def _convolution(layer: Any, weights: Sequence[Weight]) -> nn.Module:
    return _made(_by_weight(_KERNELS, weights[0]), layer, weights)


def _by_weight(layers: dict[Any, Any], weight: Weight) -> Any:
    # Wrappers such as FSDP2 give a weight a class of its own, derived from its class.
    return next(layer for kind, layer in layers.items() if isinstance(weight, kind))


def _kernel_matrix(layer: nn.Conv2d, by_taps: bool) -> Tensor:
    weight = layer.weight.detach()
    return (weight.permute(0, 2, 3, 1) if by_taps else weight).flatten(1)


def _patches(layer: Any, images: Tensor, by_taps: bool) -> Tensor:
    images = images if images.ndim == 4 else images[None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    images = F.pad(images, layer._reversed_padding_repeated_twice, mode=mode)
    patches = F.unfold(images, layer.kernel_size, layer.dilation, 0, layer.stride)
    if by_taps:
        patches = patches.unflatten(1, (layer.in_channels, -1)).transpose(1, 2).flatten(1, 2)
    return patches.transpose(1, 2).flatten(0, 1)


_LINEAR = LayerType(
    matrix=lambda layer, _: layer.weight.detach(),
    vectors=lambda layer, x, _: x.reshape(-1, layer.weight.shape[1]),
    variance=lambda layer: 1 / (3 * layer.weight.shape[1]),
    build=_linear,
)
#: Hugging Face's Conv1D, a linear layer whose weight is stored (in, out).
_TRANSPOSED = LayerType(
    matrix=lambda layer, _: layer.weight.detach().T,
    vectors=lambda layer, x, _: x.reshape(-1, layer.weight.shape[0]),
    variance=lambda layer: 0.02**2,
    build=_linear,
)
_CONVOLUTION = LayerType(
    matrix=_kernel_matrix,
    vectors=_patches,
    variance=lambda layer: 1 / (3 * layer.weight[0].numel()),
    taps=lambda layer: layer.kernel_size[0] * layer.kernel_size[1],
    complaint=lambda layer: "" if layer.groups == 1 else f"{layer.groups} groups; expected 1",
    build=_convolution,
)
#: Records of dense layers by exact type; a new layer is one more record.
LAYERS: dict[type[nn.Module], LayerType] = {
    nn.Linear: _LINEAR,
    nn.Conv2d: _CONVOLUTION,
    Projection: replace(_LINEAR, variance=lambda layer: 2 / layer.fan),
}
