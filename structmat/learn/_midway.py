"""Entries that layers use half-way through the learning of their structure, in one file."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from structmat.nn import AnnealWeight
from structmat.nn.files.tensor_file import read_tensors, write_tensors

_HEADER = "structmat_midway"
_FORMAT_VERSION = 2


def write_supports(path: Path, model: nn.Module) -> None:
    """Write the entries in use of all layers that learn by projections, by their names."""
    used = {
        name: torch.from_numpy(module.projected.support.copy())
        for name, module in model.named_modules()
        if isinstance(module, AnnealWeight)
    }
    write_tensors(path, used, {"format_version": _FORMAT_VERSION}, _HEADER)


def read_supports(path: Path) -> dict[str, NDArray[np.bool_]]:
    """Read what `write_supports` wrote; nothing if there is no file."""
    if not path.exists():
        return {}
    remedy = "delete it, and the report goes without these pictures"
    _, tensors = read_tensors(path, _HEADER, _FORMAT_VERSION, remedy)
    return {name: tensor.numpy() for name, tensor in tensors.items()}
