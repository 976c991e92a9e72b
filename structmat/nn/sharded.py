"""Parameters and optimizers that may be sharded over processes."""

from typing import Any

import torch
from torch import Tensor, optim


def is_sharded(parameter: Tensor) -> bool:
    """Tell whether this process holds only a part, so that all must ask for the rest."""
    return hasattr(parameter, "full_tensor")


def is_flattened(parameter: Tensor) -> bool:
    """Tell whether FSDP1 has made it a flat tensor, or a piece of one without its shape."""
    return hasattr(parameter, "_fsdp_flattened")


def is_divided(optimizer: optim.Optimizer) -> bool:
    """Tell whether each process keeps the state of some parameters, and none of the others."""
    return "ZeroRedundancyOptimizer" in {base.__name__ for base in type(optimizer).__mro__}


def whole(parameter: Tensor) -> Tensor:
    """All of a parameter, gathered from every process where it is sharded."""
    everything: Any = parameter
    return everything.full_tensor().detach() if is_sharded(parameter) else parameter.detach()


@torch.no_grad()
def write_(parameter: Tensor, values: Tensor) -> None:
    """Replace a parameter's values by `values`, the same on every process.

    The parameter itself stays, as optimizers and wrappers hold on to it.
    """
    if not is_sharded(parameter):
        parameter.copy_(values)
        return
    from torch.distributed.tensor import DTensor, Replicate

    sharded: Any = parameter
    mesh = sharded.device_mesh
    # Every process has all values, so each takes its part and nothing is sent.
    known = DTensor.from_local(values, mesh, [Replicate()] * mesh.ndim, run_check=False)
    sharded.to_local().copy_(known.redistribute(placements=sharded.placements).to_local())


def write_where_(parameter: Tensor, chosen: Tensor, values: Tensor | float) -> None:
    """Replace a parameter's values where a mask is true, the same on every process."""
    old = whole(parameter)
    write_(parameter, torch.where(chosen, torch.as_tensor(values).to(old), old))
