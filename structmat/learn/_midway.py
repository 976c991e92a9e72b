"""Entries that layers use half-way through the learning of their structure, in one file."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from structmat._write import whole_file
from structmat.nn import AnnealWeight


def write_supports(path: Path, model: nn.Module) -> None:
    """Write the entries in use of all layers that learn by projections, by their names."""
    used = {
        name: torch.from_numpy(module.projected.support.copy())
        for name, module in model.named_modules()
        if isinstance(module, AnnealWeight)
    }
    with whole_file(path) as beside:
        save_file(used, beside)


def read_supports(path: Path) -> dict[str, NDArray[np.bool_]]:
    """Read what `write_supports` wrote; nothing if there is no file."""
    return {n: t.numpy() for n, t in load_file(path).items()} if path.exists() else {}
