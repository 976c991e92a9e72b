"""Structured layers of a network as text and index arrays, and built from them again.

The text has what a layer's parameters do not show: its type, its settings and the
structure of its weights. Index arrays are named by their weight and two dots
(``fc.matrix..row_start``), which no parameter's name contains.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from structmat.errors import InputError
from structmat.io import describe, restore
from structmat.kinds import kind_class
from structmat.nn.anneal import state as anneal_state
from structmat.nn.anneal.weight import AnnealWeight
from structmat.nn.gaudi.state import SETTINGS
from structmat.nn.gaudi.structure import GaudiStructure, Runs
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.models.attention import attention_settings, blank_attention
from structmat.nn.models.layer_types import (
    LAYERS,
    MAKERS,
    Weight,
    layer_settings,
    structured_layers,
)
from structmat.nn.structured.attention import SplitAttention
from structmat.nn.structured.parameters import register
from structmat.nn.structured.structure import is_content, on_host
from structmat.nn.structured.weight import StructuredWeight

#: Size that a description may claim in any file.
_FREE_SIZE = 2**18
#: Counts of a description that are no sizes.
_NO_SIZES = ("positions", "cap", "cost")
_MAKERS = {kind.__name__: make for kind, make in MAKERS.items()}
_KINDS = {kind.__name__: kind for kind in MAKERS}


def describe_layers(
    model: nn.Module, *, states: bool = False
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Describe the structured layers of a model, except for their tensors.

    Returns a JSON entry for each layer by the path of its module, and index arrays by name.
    With `states`, the structures that `Anneal` changes are left to the states of their weights.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    layers: dict[str, Any] = {
        path: _describe_attention(module)
        for path, module in model.named_modules()
        if isinstance(module, SplitAttention)
    }
    index: dict[str, NDArray] = {}
    for layer, weights in structured_layers(model).items():
        layers[paths[id(layer)]] = {
            # Wrappers such as FSDP2 give a layer a class of their own, derived from its class.
            "layer": next(name for name, kind in _KINDS.items() if isinstance(layer, kind)),
            "weights": [_describe_weight(weight, paths, index, states) for weight in weights],
            "settings": layer_settings(layer),
            "fixed": [n for n, p in layer.named_parameters() if not p.requires_grad],
        }
    return layers, index


def _describe_attention(attention: SplitAttention) -> dict[str, Any]:
    dense = [name for name, child in attention.named_children() if type(child) in LAYERS]
    own = [(n, p) for n, p in attention.named_parameters() if n.rpartition(".")[0] in ("", *dense)]
    return {
        "layer": SplitAttention.__name__,
        "weights": [],
        "settings": attention_settings(attention),
        "fixed": [name for name, parameter in own if not parameter.requires_grad],
    }


def _describe_weight(
    weight: Weight, paths: Mapping[int, str], index: dict[str, NDArray], states: bool
) -> dict[str, Any]:
    path = paths[id(weight)]
    entry: dict[str, Any] = {"path": path}
    if "positions" in vars(weight):  # set, as otherwise nobody has counted them
        entry["positions"] = weight.positions
    if isinstance(weight, GaudiWeight):
        entry["structure"] = paths[id(weight.structure)]  # the first of those that share it
        entry["sigma"] = str(float(weight.sigma))  # JSON has no infinity
        return {**entry, "settings": {name: getattr(weight, name) for name in SETTINGS}}
    if isinstance(weight, AnnealWeight) and states:
        return {**entry, "annealing": anneal_state.settings_of(weight)}
    if isinstance(weight, AnnealWeight):
        found, own = anneal_state.described(weight)
        index |= {f"{path}..{name}": array for name, array in own.items()}
        return {**entry, **found}
    entry["matrix"], arrays = describe(weight.to_matrix())
    index |= {f"{path}..{n}": on_host(a) for n, a in arrays.items() if not is_content(a)}
    return entry


def build_layers(
    layers: Mapping[str, Any], tensors: dict[str, Tensor], index: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """Build the layers that `describe_layers` described, by path, around given tensors.

    Index arrays may be tensors as well. Integer contents, which stand among the tensors of
    files of version 0.1.0, are taken out of `tensors`. Descriptions, tensors and index arrays
    that do not belong together are an `InputError`.
    """
    left = set(index)
    try:
        _check_claims(layers, tensors, index)
        built = {path: _build(path, e, tensors, index, left) for path, e in layers.items()}
        weights = [f"{w['path']}.contents." for e in layers.values() for w in e["weights"]]
        inside = [name for name in tensors if name.startswith(tuple(weights))]
        for name in inside:
            if not is_content(tensors[name]):
                del tensors[name]
    except Exception as error:  # descriptions may say anything
        raise InputError(f"a layer's description does not fit its tensors ({error!r})") from error
    if left:
        raise InputError(f"the index arrays {sorted(left)} belong to no layer")
    return built


def _check_claims(
    layers: Mapping[str, Any], tensors: Mapping[str, Tensor], index: Mapping[str, Any]
) -> None:
    """Refuse sizes that nothing in the file stands for, before work begins that follows them."""
    most = _FREE_SIZE + sum(a.size for a in map(np.asarray, index.values()))
    most += sum(tensor.numel() for tensor in tensors.values())
    found = [0, *_whole_numbers(layers)]
    for array in map(np.asarray, index.values()):
        found += [abs(int(end)) for end in (array.min(initial=0), array.max(initial=0))]
    if max(found) > most:
        raise ValueError(f"a size of {max(found)}, for {most} stored numbers")


def _whole_numbers(value: Any, name: str = "") -> Iterator[int]:
    """Whole numbers of a description that may be sizes."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _NO_SIZES:
                yield from _whole_numbers(inner, key)
    elif isinstance(value, (list, tuple)):
        if name == "kernel_size":
            yield abs(math.prod(value))
        for inner in value:
            yield from _whole_numbers(inner, name)
    elif isinstance(value, int):
        yield abs(value)


def _build(
    path: str,
    entry: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    index: Mapping[str, Any],
    left: set[str],
) -> nn.Module:
    layer: nn.Module
    if entry["layer"] == SplitAttention.__name__:
        layer = blank_attention(**entry["settings"])
    else:
        weights = [_build_weight(w, tensors, index, left) for w in entry["weights"]]
        bias = tensors.get(f"{path}.bias" if path else "bias")
        # Version 0.1.0 wrote "FSDPGaudiLinear" for a sharded GaudiLinear.
        layer = _MAKERS[entry["layer"].removeprefix("FSDP")](weights, bias, entry["settings"])
    known = dict(layer.named_parameters()) | dict(layer.named_buffers())
    for name in entry["fixed"]:  # of version 0.1.0 also empty contents, which are buffers now
        known[name].requires_grad_(False)
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
        integers = _content_names(entry["matrix"])
        arrays = {name: torch.from_numpy(a) if name in integers else a for name, a in own.items()}
        arrays |= {name.replace(".", "/"): t for name, t in contents.items()}
        weight = StructuredWeight(restore(entry["matrix"], arrays))
        left -= {f"{entry['path']}..{name}" for name in own}
    elif "annealing" in entry:
        weight = _build_annealed(entry, tensors, index, left)
    else:
        weight = _build_gaudi(entry, tensors)
    if "positions" in entry:
        weight.positions = entry["positions"]
    return weight


def _content_names(entry: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Names of the content arrays of a matrix by its header entry, integer ones included."""
    names = {prefix + name for name in kind_class(entry["kind"]).data_names}
    for i, child in enumerate(entry["children"]):
        names |= _content_names(child, f"{prefix}{i}/")
    return names


def _below(prefix: str, named: Mapping[str, Any]) -> dict[str, Any]:
    return {name[len(prefix) :]: value for name, value in named.items() if name.startswith(prefix)}


def _build_annealed(
    entry: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    index: Mapping[str, Any],
    left: set[str],
) -> AnnealWeight:
    path, settings = entry["path"], entry["annealing"]
    # Files of earlier versions have neither tiles nor groups.
    options = {name: settings.get(name) for name in ("tile", "group")}
    weight = AnnealWeight(
        tensors[f"{path}.weight"], settings["cap"], kind=settings["kind"], **options
    )
    own = {name: np.asarray(a) for name, a in _below(f"{path}..", index).items()}
    if "is_factored" in settings:  # else the state of the weight has the rest
        anneal_state.take_(weight, dict(entry), own)
    left -= {f"{path}..{name}" for name in own}
    return weight


def _build_gaudi(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> GaudiWeight:
    path = entry["path"]
    runs = Runs(*(tensors[f"{entry['structure']}.{name}"] for name in Runs._fields))
    u, v = tensors[f"{path}.u"], tensors[f"{path}.v"]
    # A weight without blocks draws no random contents.
    weight = GaudiWeight(
        num_blocks=0, width_init="zero", sigma=float(entry["sigma"]), **entry["settings"]
    )
    windows = (u.shape[-1], v.shape[-1])
    for contents, window, n in zip((u, v), windows, weight.shape, strict=True):
        if contents.shape != (len(runs.row_width), weight.rank, window) or window > n:
            raise InputError(f"{path} has contents of shape {tuple(contents.shape)}")
    weight.max_width, weight.structure = windows, GaudiStructure(runs)
    register(weight, "u", u)
    register(weight, "v", v)
    return weight
