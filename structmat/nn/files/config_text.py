"""Structure of a network as one text in a configuration file, apart from its parameters.

The text is JSON, compressed and written in letters. It has the descriptions of the layers,
their index arrays, dtypes and shapes of their tensors, and the modules that they share.
"""

import base64
import json
import zlib
from typing import Any

import numpy as np
import torch
from torch import nn

from structmat.errors import FileFormatError
from structmat.nn.files.describe import build_layers, describe_layers
from structmat.nn.files.place import named_tensors, shared


def structure_text(model: nn.Module) -> str:
    """Write the structure of a model as it is now; empty if all of its layers are dense."""
    layers, index = describe_layers(model)
    inside = tuple(f"{path}." for path in layers)
    known = {
        "layers": layers,
        "index": {n: [a.dtype.str, a.shape, a.ravel().tolist()] for n, a in index.items()},
        "tensors": {
            name: [str(tensor.dtype).removeprefix("torch."), tensor.shape]
            for name, tensor, _ in named_tensors(model)
            if name.startswith(inside)
        },
        "shared": {p: q for p, q in shared(model).items() if p.startswith(inside)},
    }
    text = zlib.compress(json.dumps(known).encode())
    return base64.b64encode(text).decode() if layers else ""


def read_structure(text: str) -> dict[str, Any]:
    """Read a text of `structure_text`.

    Raises
    ------
    FileFormatError
        If the text is damaged.
    """
    try:
        known: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text)))
    except (ValueError, zlib.error) as error:
        raise _damaged(error) from None
    return known


def blank_layers(known: dict[str, Any]) -> dict[str, nn.Module]:
    """Build the layers of `read_structure` by path, with zeros for parameters.

    Raises
    ------
    FileFormatError
        If descriptions and arrays do not belong together.
    """
    try:
        tensors = {
            name: torch.zeros(shape, dtype=getattr(torch, dtype))
            for name, (dtype, shape) in known["tensors"].items()
        }
        index = {
            name: np.array(values, dtype).reshape(shape)
            for name, (dtype, shape, values) in known["index"].items()
        }
        return build_layers(known["layers"], tensors, index)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> FileFormatError:
    return FileFormatError(
        f"config.json has a damaged structmat structure ({error}); expected one that "
        "save_pretrained wrote (save the model again)"
    )
