"""Structured layers of a network as text and index arrays, and built from them again.

What a layer's parameters do not say is described here: its type, its settings and the
structure of its weights. Index arrays are named by their weight and two dots
(``fc.matrix..row_start``), which no parameter's name contains.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from structmat.errors import InputError
from structmat.io import describe, restore
from structmat.nn.gaudi.conv import GaudiConv2d
from structmat.nn.gaudi.linear import GaudiLinear
from structmat.nn.gaudi.structure import GaudiStructure, Runs
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.models.layer_types import STRUCTURED, Weight, weights_of
from structmat.nn.structured.layers import StructuredConv2d, StructuredLinear
from structmat.nn.structured.packed import PackedLinear
from structmat.nn.structured.weight import StructuredWeight

Build = Callable[[list[Weight], Tensor | None, dict[str, Any]], nn.Module]
_SETTINGS = ("shape", "rank", "granularity", "straight_through", "product", "min_width")
_SIZES = (
    *("in_features", "out_features", "in_channels", "out_channels"),
    *("kernel_size", "stride", "padding", "dilation", "padding_mode"),
)
_BUILDS: dict[str, Build] = {
    "GaudiConv2d": lambda taps, bias, settings: GaudiConv2d.from_taps(taps, bias, **settings),
    "GaudiLinear": lambda weights, bias, _: GaudiLinear.from_weight(weights[0], bias),
    "PackedLinear": lambda parts, bias, _: PackedLinear(parts, bias),
    "StructuredConv2d": lambda taps, bias, settings: StructuredConv2d(taps, bias, **settings),
    "StructuredLinear": lambda weights, bias, _: StructuredLinear(weights[0], bias),
}


def describe_layers(model: nn.Module) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """What is to be known of the structured layers of a model beside its tensors.

    Returns
    -------
    layers : dict
        A JSON entry for each, by the path of its module.
    index : dict
        Index arrays by name.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    layers: dict[str, Any] = {}
    index: dict[str, NDArray] = {}
    for path, module in model.named_modules():
        if isinstance(module, STRUCTURED):
            layers[path] = {
                "layer": type(module).__name__,
                "weights": [_describe_weight(w, paths, index) for w in weights_of(module)],
                "settings": module.settings() if hasattr(module, "taps") else {},
                "fixed": [n for n, p in module.named_parameters() if not p.requires_grad],
            }
    return layers, index


def _describe_weight(
    weight: Weight, paths: Mapping[int, str], index: dict[str, NDArray]
) -> dict[str, Any]:
    path = paths[id(weight)]
    entry: dict[str, Any] = {"path": path, "positions": weight.positions}
    if isinstance(weight, GaudiWeight):
        entry["structure"] = paths[id(weight.structure)]  # of another weight where they share it
        entry["sigma"] = str(float(weight.sigma))  # infinity is no number in JSON
        return {**entry, "settings": {name: getattr(weight, name) for name in _SETTINGS}}
    entry["matrix"], arrays = describe(weight.to_matrix())
    index |= {f"{path}..{n}": array for n, array in arrays.items() if isinstance(array, np.ndarray)}
    return entry


def build_layers(
    layers: Mapping[str, Any], tensors: Mapping[str, Tensor], index: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """Layers as `describe_layers` found them, by path, around the given tensors.

    Index arrays may be tensors as well.

    Raises
    ------
    InputError
        If descriptions, tensors and index arrays do not belong together.
    """
    left = set(index)
    try:
        built = {path: _build(path, e, tensors, index, left) for path, e in layers.items()}
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"a layer's description does not fit its tensors ({error!r})") from error
    if left:
        raise InputError(f"the index arrays {sorted(left)} belong to no layer")
    return built


def _build(
    path: str,
    entry: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    index: Mapping[str, Any],
    left: set[str],
) -> nn.Module:
    weights = [_build_weight(w, tensors, index, left) for w in entry["weights"]]
    bias = tensors.get(f"{path}.bias" if path else "bias")
    layer = _BUILDS[entry["layer"]](weights, bias, entry["settings"])
    for name in entry["fixed"]:
        layer.get_parameter(name).requires_grad_(False)
    return layer


def _build_weight(
    entry: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    index: Mapping[str, Any],
    left: set[str],
) -> Weight:
    weight: Weight
    if "matrix" in entry:
        own = {n: np.asarray(a) for n, a in _below(entry["path"] + "..", index).items()}
        contents = _below(entry["path"] + ".contents.", tensors)
        arrays = own | {name.replace(".", "/"): t for name, t in contents.items()}
        weight = StructuredWeight(restore(entry["matrix"], arrays))
        left -= {f"{entry['path']}..{name}" for name in own}
    else:
        weight = _build_gaudi(entry, tensors)
    weight.positions = entry["positions"]
    return weight


def _below(prefix: str, named: Mapping[str, Any]) -> dict[str, Any]:
    return {name[len(prefix) :]: value for name, value in named.items() if name.startswith(prefix)}


def _build_gaudi(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> GaudiWeight:
    path = entry["path"]
    runs = Runs(*(tensors[f"{entry['structure']}.{name}"] for name in Runs._fields))
    u, v = tensors[f"{path}.u"], tensors[f"{path}.v"]
    # Without blocks at first, so that nothing is drawn.
    weight = GaudiWeight(
        num_blocks=0, width_init="zero", sigma=float(entry["sigma"]), **entry["settings"]
    )
    windows = (u.shape[-1], v.shape[-1])
    for contents, window, n in zip((u, v), windows, weight.shape, strict=True):
        if contents.shape != (len(runs.row_width), weight.rank, window) or window > n:
            raise InputError(f"{path} has contents of shape {tuple(contents.shape)}")
    weight.max_width, weight.structure = windows, GaudiStructure(runs)
    weight.u, weight.v = nn.Parameter(u), nn.Parameter(v)
    return weight


def put_layer(model: nn.Module, path: str, layer: nn.Module) -> nn.Module:
    """Put a structured layer where the model has one of its sizes; return the model.

    The layer goes to the device of the one that it replaces, but for the meta device.

    Raises
    ------
    InputError
        If the model has no layer of these sizes there.
    """
    try:
        old = model.get_submodule(path)
    except AttributeError:
        raise InputError(f"{type(model).__name__} has no module {path!r}") from None
    there, here = _sizes(layer), _sizes(old)
    if there != here:
        raise InputError(
            f"{path!r} is a {type(old).__name__} of {here} in the model and a "
            f"{type(layer).__name__} of {there} in the file"
        )
    device = next((p.device for p in old.parameters()), torch.device("cpu"))
    layer.train(old.training)
    if device.type != "meta":
        layer.to(device)
    if not path:
        return layer
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent)._modules[name] = layer
    return model


def _sizes(layer: Any) -> dict[str, Any]:
    """Attributes that a structured layer has in common with the dense one."""
    if hasattr(layer, "nx"):  # Conv1D of transformers: a linear layer of other names
        return {"in_features": layer.nx, "out_features": layer.nf, "bias": True}
    sizes = {name: getattr(layer, name) for name in _SIZES if hasattr(layer, name)}
    return {**sizes, "bias": getattr(layer, "bias", None) is not None}


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor, nn.Module]]:
    """Name, tensor and owner of all parameters and buffers, of every module once."""
    for path, module in model.named_modules():
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                yield f"{path}.{leaf}" if path else leaf, tensor, module


def shared(model: nn.Module) -> dict[str, str]:
    """Second and further paths of modules, with the first one."""
    first: dict[int, str] = {}
    again: dict[str, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        original = first.setdefault(id(module), path)
        if original != path:
            again[path] = original
    return again


def share(model: nn.Module, paths: Mapping[str, str]) -> None:
    """Let modules be one again where `shared` found them to be.

    Raises
    ------
    InputError
        If the model has no such modules.
    """
    for path, original in paths.items():
        try:
            model.get_submodule(path)
            module = model.get_submodule(original)
        except AttributeError:
            raise InputError(
                f"{type(model).__name__} has no modules {original!r} and {path!r} to be shared"
            ) from None
        parent, _, leaf = path.rpartition(".")
        model.get_submodule(parent)._modules[leaf] = module
