"""Structured layers of a folder that ``save_pretrained`` wrote, read without their model."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from structmat.errors import InputError
from structmat.files.foreign import foreign
from structmat.files.paths import name_of
from structmat.nn.files.stored import Sort, StoredModel, inside, stored_model
from structmat.nn.pretrained.config import METHOD_NAME, StructureConfig

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_REMEDY = "expected a folder that save_pretrained wrote (save the model again)"


def read_pretrained(path: str | os.PathLike[str]) -> StoredModel:
    """Read the structured layers of a folder of ``save_pretrained``, without building the model.

    Tensors of other layers are not read, only their shapes.

    Raises
    ------
    InputError
        If the model has no structured layers.
    FileFormatError
        If the configuration or the weights are damaged.
    FileNotFoundError
        If there is no configuration, or no weights as safetensors.

    Examples
    --------
    >>> import tempfile
    >>> from structmat.nn.gaudi.linear import GaudiLinear
    >>> from structmat.nn.pretrained.quantizer import enable
    >>> from transformers import GPT2Config, GPT2Model
    >>> model = GPT2Model(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32))
    >>> model.h[0].mlp.c_fc = GaudiLinear(16, 64)
    >>> enable(model)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_pretrained(folder)
    ...     list(read_pretrained(folder).layers)
    ['h.0.mlp.c_fc']
    """
    folder = Path(name_of(path))
    entry = _structure(folder)
    files = _weight_files(folder)
    size = sum(file.stat().st_size for file in files)
    with foreign(str(folder), _REMEDY):
        config = StructureConfig(**entry)
        layers = config.build(size)
        tensors, sorts = _tensors(files, layers)
        for place, layer in layers.items():
            start = f"{place}."
            state = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            with torch.no_grad():
                layer.load_state_dict(state, strict=False)
        return stored_model(layers, config.content(size)["shared"], sorts)


def _structure(folder: Path) -> dict[str, Any]:
    """The entry of the structure in the configuration of a model."""
    file = folder / _CONFIG
    with foreign(str(file), _REMEDY):
        entry = json.loads(file.read_text("utf-8")).get("quantization_config") or {}
        method = entry.get("quant_method")
    if method != METHOD_NAME:
        raise InputError(
            f"{str(file)!r} has no structured layers"
            f"{f' (the model is quantized by {method!r})' if method else ''}; expected a model "
            "that structmat.nn.convert_ has changed, saved by save_pretrained"
        )
    known: dict[str, Any] = entry
    return known


def _weight_files(folder: Path) -> list[Path]:
    """The files of weights: one, or those that an index names."""
    index = folder / f"{_WEIGHTS}.index.json"
    if not index.exists():
        return [folder / _WEIGHTS]
    with foreign(str(index), _REMEDY):
        names = dict.fromkeys(json.loads(index.read_text("utf-8"))["weight_map"].values())
        return [folder / Path(name).name for name in names]


def _tensors(
    files: list[Path], layers: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Sort]]:
    """Tensors of the layers by name, and the sorts of all tensors."""
    tensors, sorts = {}, {}
    for file in files:
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                found = weights.get_slice(name)
                sorts[name] = (
                    tuple(found.get_shape()),
                    _DTYPES.get(found.get_dtype(), found.get_dtype()),
                )
                if inside(name, layers):
                    tensors[name] = weights.get_tensor(name)
    return tensors, sorts


#: Names of dtypes in safetensors, as torch has them.
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
