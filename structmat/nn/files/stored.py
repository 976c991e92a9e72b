"""Structured layers of a saved network, read without the network."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from structmat.files.paths import name_of
from structmat.nn.files.checkpoint import REMEDY, read_checkpoint
from structmat.nn.files.describe import build_layers
from structmat.nn.files.tensor_file import reading
from structmat.nn.models.layer_types import STRUCTURED

#: Shape and dtype of a tensor.
Sort = tuple[tuple[int, ...], str]


@dataclass(frozen=True)
class StoredModel:
    """The structured layers of a saved network, and the sorts of its other tensors.

    Attributes
    ----------
    layers : mapping of str to Module
        Layers by their paths in the network.
    names : mapping of str to tuple of str
        Further paths of layers that stand at several places.
    others : mapping of str to (shape, dtype)
        Tensors that belong to no structured layer: biases and norms, embeddings, dense layers.

    Examples
    --------
    See `read_model`.
    """

    layers: Mapping[str, nn.Module]
    names: Mapping[str, tuple[str, ...]]
    others: Mapping[str, Sort]


def read_model(path: str | os.PathLike[str]) -> StoredModel:
    """Read the structured layers of a file of `save_model`, without building its network.

    Raises
    ------
    FileFormatError, FileNotFoundError, MissingDependencyError
        As `load_model` does.

    Examples
    --------
    >>> import tempfile
    >>> from structmat.nn.files.checkpoint import save_model
    >>> from structmat.nn.gaudi.linear import GaudiLinear
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     save_model(path, nn.Sequential(GaudiLinear(16, 8), nn.Linear(8, 2)))
    ...     stored = read_model(path)
    >>> list(stored.layers), stored.others["1.weight"]
    (['0'], ((2, 8), 'float32'))
    """
    name = name_of(path)
    header, tensors, index = read_checkpoint(name)
    sorts = {
        key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in tensors.items()
        if key not in header["tied"]
    }
    with reading(name, REMEDY):
        layers = build_layers(header["layers"], tensors, index)
    return stored_model(layers, header["shared"], sorts)


def stored_model(
    layers: Mapping[str, nn.Module], shared: Mapping[str, str], tensors: Mapping[str, Sort]
) -> StoredModel:
    """Sort what a file holds: `shared` maps further paths of modules to their first ones."""
    known = {path: layer for path, layer in layers.items() if isinstance(layer, STRUCTURED)}
    names = {path: tuple(n for n, first in shared.items() if first == path) for path in known}
    others = {key: sort for key, sort in tensors.items() if not inside(key, known)}
    return StoredModel(known, names, others)


def inside(name: str, paths: Iterable[str]) -> bool:
    """Tell whether a tensor is one of the modules at some paths; a network itself has none."""
    return name.startswith(tuple(f"{path}." if path else "" for path in paths))
