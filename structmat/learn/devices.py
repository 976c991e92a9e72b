"""Devices that train: chosen by name, waited for, and given examples without waiting."""

import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.errors import InputError, first_line

#: Bytes of an array that a device keeps whole; of larger ones it gets each batch.
KEPT_BYTES = 2**30


def training_device(name: str) -> str:
    """Name of a device that works here: the one asked for, or for "auto" the best there is.

    Raises
    ------
    InputError
        If there is no such device.

    Examples
    --------
    >>> training_device("cpu")
    'cpu'
    """
    if name == "auto":
        found = torch.accelerator.is_available()
        return str(torch.accelerator.current_accelerator()) if found else "cpu"
    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as reason:
        raise InputError(
            f"--device {name} does not work here ({first_line(reason)}); expected "
            f"{_devices_here()} (or auto, which takes the best of them)"
        ) from None
    return name


def _devices_here() -> str:
    """The devices that torch finds, in words."""
    if not torch.accelerator.is_available():
        return "cpu, as torch finds no other device"
    kind, count = torch.accelerator.current_accelerator().type, torch.accelerator.device_count()
    return f"cpu, {kind}, or one of {kind}:0 to {kind}:{count - 1}"


def wait_for(device: str) -> None:
    """Wait until a device has done all that it was asked for."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(device)


def device_facts(device: str) -> dict[str, str]:
    """Name and model of a device apart from the processor; nothing for the processor."""
    kind = torch.device(device).type
    if kind == "cpu":
        return {}
    model = torch.cuda.get_device_name(device) if kind == "cuda" else kind
    return {"device": device, "device_model": model}


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, for whose copy the host does not wait."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Examples:
    """Rows of arrays of the host, on a device that keeps them all where they are few.

    Parameters
    ----------
    device : str
    *arrays : ndarray, shape (N, …)

    Examples
    --------
    >>> import numpy as np
    >>> rows = Examples("cpu", np.arange(6).reshape(3, 2), np.arange(3))
    >>> rows[rows.near(torch.tensor([2, 0]))]
    [tensor([[4, 5],
            [0, 1]]), tensor([2, 0])]
    """

    def __init__(self, device: str, *arrays: NDArray) -> None:
        self.device = torch.device(device)
        rows = [torch.from_numpy(a if a.flags.writeable else a.copy()) for a in arrays]
        are_few = sum(a.nbytes for a in arrays) <= KEPT_BYTES
        self._rows = [moved(part, self.device) for part in rows] if are_few else rows

    def near(self, index: Tensor) -> Tensor:
        """Indices of the host on the device that holds the rows."""
        return moved(index, self._rows[0].device)

    def __getitem__(self, index: Tensor | slice) -> list[Tensor]:
        return [moved(rows[index], self.device) for rows in self._rows]
