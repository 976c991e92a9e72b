"""Rules for every path that a layer takes on a device, checked without one.

A step has a bounded number of launches, whatever the size; it reads no value, so that the host
never waits; and the same path gives the same numbers on the CPU.
"""

import time
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from structmat import _derivatives
from structmat.kernels.choice.record import on
from structmat.kernels.choice.table import KERNELS
from structmat.nn.structured import products

#: Launches of a step at most.
MOST_LAUNCHES = 40
#: Operations that allocate or rename and start nothing on a device.
_FREE = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")
_FREE += ("_unsafe_view", "lift_fresh", "sym_size", "detach", "_reshape_alias")
#: Operations by which the host reads values, or memory that a capture must not ask for.
READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2")
READS += ("equal", "is_pinned", "_pin_memory", "pin_memory")
#: Launches of operators of this project.
OPERATORS = {"tile_matmul": 1, "tile_outer": 3, "lines": 6}


class Launches(TorchDispatchMode):
    """Operations that a device would be asked to start, by name; views are none."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        returns = func._schema.returns
        alias = returns[0].alias_info if returns else None
        view = alias is not None and not alias.is_write
        first = result[0] if isinstance(result, tuple | list) and result else result
        changes = func._schema.is_mutable  # as operations on lists do, which return nothing
        if not (isinstance(first, Tensor) or changes) or view or name in _FREE:
            return result
        count = OPERATORS[name] if func.namespace == "structmat" else 1
        self.names += [name] * count
        return result


class Capture(TorchDispatchMode):
    """A graph of CUDA that is captured: nothing is computed until it is replayed.

    Results are NaN, and what makes a capture fail is an error: operands of another device than
    the layer's, and values that the host reads.
    """

    def __init__(self, device, monkeypatch):
        super().__init__()
        self._device, self._patch = torch.device(device), monkeypatch

    def __enter__(self):
        self._patch.setattr(_derivatives, "_CUDA", True)
        self._patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        return super().__enter__()

    def __exit__(self, *reason):
        self._patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        return super().__exit__(*reason)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        assert name not in READS, f"{name} waits for the device"
        assert name != "repeat_interleave" or kwargs.get("output_size") is not None
        result = func(*args, **kwargs)
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, Tensor):
                assert tensor.device == self._device, f"{name} with a tensor of the host"
        returns = func._schema.returns
        alias = returns[0].alias_info if returns else None
        if alias is None and isinstance(result, Tensor) and result.is_floating_point():
            result.fill_(torch.nan)
        return result


def by_structure(monkeypatch):
    """Let layers multiply by their structure, whatever time it takes."""
    monkeypatch.setattr(products, "takes_dense", lambda *args, **kwargs: False)


def by_kernel(monkeypatch, name):
    """Let torch multiply by one kernel on every device, as it does by its default."""
    choose, anywhere = type(KERNELS).default, replace(KERNELS[name], wants=on("torch"))
    monkeypatch.setitem(KERNELS, name, anywhere)

    def default(table, structure, contents, columns):
        if structure.library == "torch":
            return anywhere
        return choose(table, structure, contents, columns)

    monkeypatch.setattr(type(KERNELS), "default", default)


def step(layer, x):
    """Output of a layer, and the gradients by its input and parameters."""
    x = x.detach().requires_grad_()
    y = layer(x)
    wanted = [x, *(p for p in layer.parameters() if p.requires_grad)]
    return y, torch.autograd.grad(y, wanted, torch.ones_like(y))


def launches(layer, count=3, *, backward):
    """Names of the operations that one product launches, once layouts and contents are there."""
    tensor = next(layer.parameters())
    x = torch.ones(count, layer.in_features, dtype=tensor.dtype, device=tensor.device)

    def run():
        if backward:
            return step(layer, x)
        with torch.no_grad():
            return layer(x)

    run()
    with Launches() as seen:
        run()
    return seen.names


def host_microseconds(layer, count=1, times=200):
    """Host time of a call: with sizes so small that nothing else counts."""
    x = torch.ones(count, layer.in_features, dtype=next(layer.parameters()).dtype)
    with torch.no_grad():
        layer(x)
        start = time.perf_counter()
        for _ in range(times):
            layer(x)
    return 1e6 * (time.perf_counter() - start) / times
