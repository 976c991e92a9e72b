"""Which modules can be converted, and how: one record a type of layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from structmat.nn.gaudi.conv import GaudiConv2d
from structmat.nn.gaudi.linear import GaudiLinear
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.structured.layers import StructuredConv2d, StructuredLinear
from structmat.nn.structured.packed import PackedLinear
from structmat.nn.structured.weight import StructuredWeight

Weight = GaudiWeight | StructuredWeight
#: Layers that a conversion makes.
STRUCTURED = (GaudiLinear, GaudiConv2d, StructuredLinear, StructuredConv2d, PackedLinear)


@dataclass(frozen=True)
class LayerType:
    """How layers of one type are read and replaced.

    Attributes
    ----------
    matrix : callable
        ``matrix(layer, by_taps)``: the weight as one matrix (m, n), rows being outputs;
        the columns of a convolution lie tap by tap where it is to be cut into taps.
    vectors : callable
        ``vectors(layer, input, by_taps)``: what this matrix multiplies, (T, n).
    variance : callable
        Mean squared entry of the weight as such a layer begins by default.
    taps : callable
        Column blocks that the matrix can be cut into.
    complaint : callable
        Why a layer cannot be converted; empty if it can.
    build : callable
        ``build(layer, weights)``: the same layer around structured weights.
    """

    matrix: Callable[[Any, bool], Tensor]
    vectors: Callable[[Any, Tensor, bool], Tensor]
    variance: Callable[[Any], float]
    taps: Callable[[Any], int]
    complaint: Callable[[Any], str]
    build: Callable[[Any, Sequence[Weight]], nn.Module]


def layer_type(module: nn.Module) -> LayerType | None:
    """How modules of exactly this type are converted; None if they are not.

    Subclasses may do anything in `forward`, so they do not count as what they derive from.

    Examples
    --------
    >>> layer_type(nn.Linear(2, 3)) is LAYERS[nn.Linear], layer_type(nn.LazyLinear(3))
    (True, None)
    """
    kind = type(module)
    if kind.__name__ == "Conv1D" and kind.__module__.partition(".")[0] == "transformers":
        return _TRANSPOSED
    return LAYERS.get(kind)


def weights_of(layer: Any) -> list[Weight]:
    """The structured weights of a converted layer.

    Examples
    --------
    >>> layer = GaudiLinear(64, 32, budget=0.25)
    >>> weights_of(layer) == [layer.matrix]
    True
    """
    if isinstance(layer, PackedLinear):
        return list(layer.parts)
    return list(layer.taps) if hasattr(layer, "taps") else [layer.matrix]


def rebuilt(layer: Any, weights: Sequence[Weight]) -> nn.Module:
    """A converted layer of the same settings around other weights; the bias is shared.

    Examples
    --------
    >>> layer = GaudiLinear(64, 32, budget=0.25)
    >>> other = rebuilt(layer, [StructuredWeight(layer.to_matrix())])
    >>> type(other).__name__, other.bias is layer.bias
    ('StructuredLinear', True)
    """
    if isinstance(layer, PackedLinear):
        return _with_bias(PackedLinear(weights), layer)
    if hasattr(layer, "taps"):
        return _convolution(layer, weights)
    return _linear(layer, weights)


def dense_layer(layer: Any) -> nn.Linear | nn.Conv2d:
    """The dense layer with the weight that a converted one has in evaluation.

    Examples
    --------
    >>> dense_layer(GaudiLinear(64, 32, budget=0.25))
    Linear(in_features=64, out_features=32, bias=True)
    """
    weights = [weight.to_matrix().to_dense() for weight in weights_of(layer)]
    like = {"bias": layer.bias is not None, "device": weights[0].device, "dtype": weights[0].dtype}
    if hasattr(layer, "taps"):
        dense = skip_init(nn.Conv2d, out_channels=layer.out_channels, **_settings(layer), **like)
        weight = weights[0] if len(weights) == 1 else torch.stack(weights, -1)
    else:
        dense = skip_init(nn.Linear, layer.in_features, layer.out_features, **like)
        weight = torch.cat(weights)
    with torch.no_grad():
        dense.weight.copy_(weight.view_as(dense.weight))
    return _with_bias(dense, layer)


def _with_bias(layer: Any, old: Any) -> Any:
    # The very parameter: optimizers, ties and requires_grad hold on.
    layer.bias = old.bias
    return layer


def _linear(layer: Any, weights: Sequence[Weight]) -> nn.Module:
    if len(weights) > 1:
        return _with_bias(PackedLinear(weights), layer)
    if isinstance(weights[0], GaudiWeight):
        return _with_bias(GaudiLinear.from_weight(weights[0], None), layer)
    return _with_bias(StructuredLinear(weights[0]), layer)


def _convolution(layer: Any, weights: Sequence[Weight]) -> nn.Module:
    settings = _settings(layer)
    if all(isinstance(weight, GaudiWeight) for weight in weights):
        return _with_bias(GaudiConv2d.from_taps(weights, None, **settings), layer)
    settings["out_channels"] = layer.out_channels
    settings["out_channels"] = layer.out_channels
    return _with_bias(StructuredConv2d(weights, None, **settings), layer)


def _settings(layer: Any) -> dict[str, Any]:
    names = ("in_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
    return {name: getattr(layer, name) for name in names}


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
    taps=lambda layer: 1,
    complaint=lambda layer: "",
    build=_linear,
)
#: Hugging Face's Conv1D, a linear layer whose weight is stored (in, out).
_TRANSPOSED = LayerType(
    matrix=lambda layer, _: layer.weight.detach().T,
    vectors=lambda layer, x, _: x.reshape(-1, layer.weight.shape[0]),
    variance=lambda layer: 0.02**2,
    taps=lambda layer: 1,
    complaint=lambda layer: "",
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
#: By exact type; a new layer is one more record.
LAYERS: dict[type[nn.Module], LayerType] = {nn.Linear: _LINEAR, nn.Conv2d: _CONVOLUTION}
