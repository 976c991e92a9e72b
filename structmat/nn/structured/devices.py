"""Devices apart from the host, on which each operation has to be started."""

import torch


def is_apart(device: torch.device) -> bool:
    """Tell whether the host starts operations there without waiting: all devices but the CPU.

    Layers take paths of few operations there, which read no value.

    Examples
    --------
    >>> is_apart(torch.device("cpu")), is_apart(torch.device("meta"))
    (False, True)
    """
    return device.type != "cpu"
