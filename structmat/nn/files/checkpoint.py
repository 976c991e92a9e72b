"""Whole networks in one file: parameters, buffers, and the structure of their layers.

The file is an ordinary safetensors file. Its metadata hold one JSON text under
``structmat`` with the format version, what every structured layer is, which names
mean one tensor or one module, and SHA-256 digests of all tensors and of itself.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from structmat.errors import InputError
from structmat.files.paths import name_of
from structmat.nn.files.describe import build_layers, describe_layers
from structmat.nn.files.place import (
    common_parameters,
    fill,
    listed,
    named_tensors,
    put_layer,
    share,
    shared,
)
from structmat.nn.files.tensor_file import (
    read_tensors,
    reading,
    safetensors_package,
    write_tensors,
)
from structmat.nn.models.carry import bind_
from structmat.nn.models.changed import announce
from structmat.nn.models.layer_types import has_linear_weight
from structmat.nn.models.modules import check_obstacles, check_wrappers
from structmat.nn.sharded import whole

#: Of files; those of version 1 have no digests.
FORMAT_VERSION = 2
_HEADER_KEY = "structmat"
#: What to do with a file of another sort.
REMEDY = "expected a file written by save_model; read others with safetensors.torch.load_file"


def save_model(path: str | os.PathLike[str], model: nn.Module) -> None:
    """Write a network to one safetensors file, with the structure of its layers.

    Learned, frozen and dense layers may be mixed. Shared modules and parameters are
    written once.

    Parameters
    ----------
    path : path-like
        Name of the file; no ending is added.
    model : torch.nn.Module

    Raises
    ------
    InputError
        If `model` is not a module, or has tensors on the meta device.
    SaveError
        If the file cannot be written; an older file of that name stays unchanged.
    MissingDependencyError
        If safetensors is not installed (extra ``torch``).

    Examples
    --------
    >>> import os, tempfile, torch
    >>> from structmat.nn import GaudiLinear
    >>> model = torch.nn.Sequential(GaudiLinear(16, 8), torch.nn.ReLU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     save_model(path, model)
    ...     again = load_model(path, torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU()))
    >>> type(again[0]).__name__, torch.equal(again[0].weight, model[0].weight)
    ('GaudiLinear', True)
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model is a {type(model).__qualname__}; expected a torch.nn.Module (a single matrix "
            "is saved by structmat.save)"
        )
    safetensors_package()  # or an error before any work
    layers, index = describe_layers(model)
    tensors = {name: torch.tensor(array) for name, array in index.items()}
    tied: dict[str, str] = {}
    names: dict[int, str] = {}
    for name, tensor, _ in named_tensors(model):
        if tensor.is_meta:
            raise InputError(
                f"{name} is on the meta device; expected a model with values (load or "
                "initialise it first)"
            )
        if names.setdefault(id(tensor), name) == name:
            tensors[name] = whole(tensor)
        else:
            tied[name] = names[id(tensor)]
    header = {"format_version": FORMAT_VERSION, "layers": layers}
    header |= {"tied": tied, "shared": shared(model)}
    write_tensors(path, tensors, header, _HEADER_KEY)


def load_model(path: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """Read a file of `save_model` into a network of the same architecture.

    Parameters
    ----------
    path : path-like
    model : torch.nn.Module
        The dense original, newly built, perhaps on the meta device; or a network of the
        same structure. Layers that are structured in the file are replaced, and so are all
        parameters: make the optimizer afterwards. Tensors stay on their devices, or move
        from meta to the CPU, and have the dtypes of the file. Hooks and attributes of the
        layers and parameters move to the new ones.

    Returns
    -------
    torch.nn.Module
        `model`, changed in place; a new layer where `model` itself is one to be replaced.

    Raises
    ------
    FileFormatError
        If the file is truncated, not from `save_model`, damaged, or from a newer version.
        A file of format version 2 that loads holds what was saved, by its digests; files of
        version 1 have none.
    FileNotFoundError
        If there is no such file.
    InputError
        If the file belongs to another network, or something that is attached to a layer
        cannot move to the one from the file; `model` then stays unchanged.
    MissingDependencyError
        If safetensors is not installed (extra ``torch``).

    Examples
    --------
    See `save_model`.

    >>> import os, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     save_model(path, torch.nn.Linear(2, 2))
    ...     load_model(path, torch.nn.Linear(2, 2, bias=False))
    Traceback (most recent call last):
    ...
    structmat.errors.InputError: ... holds another network than this Linear: ...
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model is a {type(model).__qualname__}; expected a torch.nn.Module, the network as "
            "it was built before its layers were converted"
        )
    name = name_of(path)
    header, tensors, index = read_checkpoint(name)
    with reading(name, REMEDY):
        layers = build_layers(header["layers"], tensors, index)
    replaced = _replaced(model, layers)
    with _unchanged_on_failure(model):
        try:
            for place, layer in layers.items():
                model = put_layer(model, place, layer)
            share(model, header["shared"])
            fill(model, tensors, header["tied"])
        except InputError as error:
            raise InputError(
                f"{name!r} holds another network than this {type(model).__name__}: {error}; "
                "expected the model as it was before its layers were converted, or as it was saved "
                "(build it with the same sizes)"
            ) from None
    for old, layer in replaced.items():
        bind_(old, layer)
    if layers:
        announce(model)
    return model


def _replaced(model: nn.Module, layers: Mapping[str, nn.Module]) -> dict[nn.Module, nn.Module]:
    """Pair the layers that a file replaces with the new ones; refuse if an attachment is lost."""
    check_wrappers(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    pairs = {modules[place]: layer for place, layer in layers.items() if place in modules}
    known = {
        old: new
        for old, new in pairs.items()
        if has_linear_weight(old) or isinstance(old, nn.MultiheadAttention)
    }
    kept = {old: common_parameters(old, new) for old, new in known.items()}
    check_obstacles(model, kept)
    return known


def read_checkpoint(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Read header, parameters and buffers by all their names, and index arrays of a file.

    Raises
    ------
    FileFormatError, FileNotFoundError, MissingDependencyError
        As `load_model` does.
    """
    header, tensors = read_tensors(name, _HEADER_KEY, FORMAT_VERSION, REMEDY)
    with reading(name, REMEDY):
        parts = {key: dict(header[key]) for key in ("layers", "tied", "shared")}
        if not all(isinstance(n, str) for key in ("tied", "shared") for n in parts[key].values()):
            raise ValueError("a name is no text")
        missing = sorted(set(parts["tied"].values()) - tensors.keys())
        if missing:
            raise ValueError(f"it lacks {listed(missing)}, which its structmat header names")
        index = {key: tensors.pop(key) for key in list(tensors) if ".." in key}
        return parts, tensors | {a: tensors[key] for a, key in parts["tied"].items()}, index


@contextmanager
def _unchanged_on_failure(model: nn.Module) -> Iterator[None]:
    """Restore submodules, parameters and buffers of all modules after an error."""
    tables = [t for m in model.modules() for t in (m._modules, m._parameters, m._buffers)]
    before: list[dict[str, Any]] = [dict(table) for table in tables]
    try:
        yield
    except BaseException:
        for table, entries in zip(tables, before, strict=True):
            table.update(entries)
        raise
