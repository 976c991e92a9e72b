"""Layers and tensors of a file, put where a network has them."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from structmat.errors import InputError
from structmat.nn.models.carry import carry_lost_, carry_parameter_, share_
from structmat.nn.models.modules import module_names, put_module
from structmat.nn.structured.attention import SplitAttention

#: Attributes that give the size of a layer, dense or structured.
_SIZE_NAMES = (
    *("in_features", "out_features", "in_channels", "out_channels"),
    *("kernel_size", "stride", "padding", "dilation", "padding_mode"),
    *("embed_dim", "kdim", "vdim", "num_heads", "batch_first", "add_zero_attn"),
)
#: Names that a message lists at most.
_LISTED_NAMES = 5


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor, nn.Module]]:
    """Yield name, tensor and owner of all parameters and buffers, of every module once."""
    for path, module in model.named_modules():
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                yield f"{path}.{leaf}" if path else leaf, tensor, module


def shared(model: nn.Module) -> dict[str, str]:
    """Map every further path of a module to its first path."""
    return {path: first for first, *rest in module_names(model).values() for path in rest}


def share(model: nn.Module, paths: Mapping[str, str]) -> None:
    """Make modules one again, at the paths that `shared` found."""
    for path, original in paths.items():
        try:
            model.get_submodule(path)
            module = model.get_submodule(original)
        except AttributeError:
            raise InputError(
                f"{type(model).__name__} has no modules {original!r} and {path!r} to be shared"
            ) from None
        put_module(model, path, module)


def put_layer(model: nn.Module, path: str, layer: nn.Module) -> nn.Module:
    """Put a structured layer where the model has one of its sizes; return the model.

    The layer moves to the device of the layer that it replaces, unless that is the meta
    device, and takes over its attachments; `bind_` has to follow once nothing can fail.
    """
    try:
        old = model.get_submodule(path)
    except AttributeError:
        raise InputError(f"{type(model).__name__} has no module {path!r}") from None
    there, here = _sizes(layer), _sizes(old)
    if isinstance(layer, SplitAttention) and there == here:
        if isinstance(old, SplitAttention):
            return model
        layer.dropout = old.dropout  # of the network, as with other layers for dropout
    if there != here:
        raise InputError(
            f"{path!r} is a {type(old).__name__} of {here} in the model and a "
            f"{type(layer).__name__} of {there} in the file"
        )
    device = next((p.device for p in old.parameters()), torch.device("cpu"))
    layer.train(old.training)
    if device.type != "meta":
        layer.to(device)
    share_(old, layer)
    common = common_parameters(old, layer)
    carry_lost_(old, layer, common)
    for name in common:
        carry_parameter_(old.get_parameter(name), layer.get_parameter(name))
    if not path:
        return layer
    put_module(model, path, layer)
    return model


def common_parameters(old: nn.Module, new: nn.Module) -> set[str]:
    """Names of the parameters that two layers have alike."""
    shapes = {name: parameter.shape for name, parameter in old.named_parameters()}
    return {n for n, p in new.named_parameters() if shapes.get(n) == p.shape}


def _sizes(layer: Any) -> dict[str, Any]:
    """Sizes that a structured layer has in common with the dense one."""
    if hasattr(layer, "nx"):  # Conv1D of transformers: a linear layer of other names
        return {"in_features": layer.nx, "out_features": layer.nf, "bias": True}
    sizes = {name: getattr(layer, name) for name in _SIZE_NAMES if hasattr(layer, name)}
    biases = (getattr(layer, name, None) for name in ("bias", "in_proj_bias"))
    return {**sizes, "bias": any(bias is not None for bias in biases)}


def fill(model: nn.Module, tensors: Mapping[str, Tensor], tied: Mapping[str, str]) -> None:
    """Give a model of the right structure the parameters and buffers of a file.

    `tied` maps every further name of a tensor to its first name.
    """
    places = {name: (old, owner) for name, old, owner in named_tensors(model)}
    complaints = [
        f"{what} {listed(sorted(names))}"
        for what, names in (
            ("the file lacks", places.keys() - tensors.keys()),
            ("the model lacks", tensors.keys() - places.keys()),
            ("of another shape or type are", _misfits(places, tensors)),
        )
        if names
    ]
    if complaints:
        raise InputError("; ".join(complaints))
    made: dict[str, Tensor] = {}
    for name, (old, owner) in places.items():
        key = tied.get(name, name)
        if key not in made:
            made[key] = _moved(tensors[key], old)
        if isinstance(old, nn.Parameter):
            carry_parameter_(old, made[key])
        table = owner._parameters if isinstance(old, nn.Parameter) else owner._buffers
        table[name.rpartition(".")[2]] = made[key]


def _misfits(places: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    def looks(tensor: Tensor) -> tuple[Any, ...]:
        return tensor.shape, tensor.is_floating_point(), tensor.is_complex()

    return [
        f"{name} {tuple(old.shape)} (in the file {tuple(tensors[name].shape)})"
        for name, (old, _) in places.items()
        if name in tensors and looks(old) != looks(tensors[name])
    ]


def _moved(tensor: Tensor, old: Tensor) -> Tensor:
    """Copy a tensor to the device of the one that it replaces."""
    device = torch.device("cpu") if old.is_meta else old.device
    # A tensor of a file lies at any address, and sums may depend on its alignment.
    copy = tensor.to(device, copy=True)
    if isinstance(old, nn.Parameter):
        return nn.Parameter(copy, requires_grad=old.requires_grad)
    return copy


def listed(names: list[str]) -> str:
    """Join names for a message: the first few, and the number of the rest."""
    rest = len(names) - _LISTED_NAMES
    return ", ".join(names[:_LISTED_NAMES]) + (f" and {rest} more" if rest > 0 else "")
