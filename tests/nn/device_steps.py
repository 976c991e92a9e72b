"""All layers that train, by name, and their steps as a device would be asked to take them."""

import math
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.append(str(Path(__file__).parents[1] / "kernels"))
from device_rules import Launches, by_kernel

import structmat
from structmat.nn import (
    AnnealWeight,
    GaudiConv2d,
    GaudiLinear,
    PackedLinear,
    StructuredConv2d,
    StructuredLinear,
    StructuredWeight,
)
from structmat.nn.anneal.conv import AnnealConv2d
from structmat.nn.anneal.linear import AnnealLinear
from structmat.nn.anneal.projectors import Options, project
from structmat.nn.structured import devices

BUDGET = 0.1
#: Launches of a step at most, without the optimizer's.
MOST_LAUNCHES = 40
#: Those of layers that take more, however large they are.
MORE = {
    "gaudi rank 2": 44,
    "gaudi windows": 60,
    "gaudi uneven": 87,
    "gaudi between samples": 139,
    "packed": 63,
}
#: Layers whose structure falls into one batch or two of equal tiles, or whose copies depend on
#: strides.
VARIED = ("monarch",)
#: Sizes at which structures have parts of the same sorts: at 64, all blocks are one sample wide.
SIZES = {"anneal factored": (128, 256)}
#: Operations that have no deterministic implementation on CUDA, or round by the order of threads
#: outside the deterministic mode of torch.
NEVER = {"cumsum", "put", "scatter_reduce", "histc", "bincount", "median", "kthvalue"}
#: Layers with supports or orders.
VALUED = ("anneal support", "anneal factored", "anneal block sparse", "anneal convolution",
          "ordered block sparse", "packed")  # fmt: skip


def apart(monkeypatch):
    """Let layers on the CPU take the paths of devices."""
    monkeypatch.setattr(devices, "is_apart", lambda device: True)
    by_kernel(monkeypatch, "batches")


def gaudi(n, **options):
    torch.manual_seed(0)
    return GaudiLinear(n, n // 2, **{"sigma": 5.0, **options})


def gaudi_convolution(n):
    torch.manual_seed(0)
    return GaudiConv2d(n, 8, 3, padding=1, sigma=5.0)


def pinned(n):
    layer = gaudi(n)
    layer.matrix.structure.is_pinned = True
    return layer


def annealed(n, stage, kind="gblr", shape=None):
    shape = shape or (n // 2, n)
    torch.manual_seed(0)
    weight = AnnealWeight(torch.randn(shape), int(BUDGET * math.prod(shape)), kind=kind)
    if stage != "dense":
        found = projected(weight.shape, stage, kind)
        weight.take_(found, factored=stage == "factored", gain=2.0)
    return weight


@cache
def projected(shape, stage, kind):
    """The structure of the weight that `annealed` begins with, in a stage of its training."""
    weight, budget = annealed(None, "dense", kind, shape), int(BUDGET * math.prod(shape))
    cap = int(3.2 * budget) if stage == "support" else budget
    return project(kind, weight.values().numpy(), cap, budget, weight.projected, Options())


def strips(n):
    rng, at = np.random.default_rng(1), np.arange(n // 2)
    widths = rng.integers(1, n // 4, n // 2)
    v = rng.standard_normal(widths.sum())
    return structmat.GBLR(at, at**0, 1.0 + at % 3, 7 * at % n, widths, v, shape=(n // 2, n))


def block_sparse(n, side=16):
    rng, at = np.random.default_rng(3), np.arange(n // 2 // side)
    rows, cols = np.repeat(at, 2), np.stack([at, at + n // 2 // side], 1).ravel()
    return structmat.BlockSparse(
        rng.standard_normal((rows.size, side, side)), rows, cols, shape=(n // 2, n)
    )


def ordered(n):
    rng = np.random.default_rng(4)
    P, Q = (structmat.Permutation(rng.permutation(size)) for size in (n // 2, n))
    return P @ block_sparse(n) @ Q


def block_low_rank(n, side=32):
    rng, grid = np.random.default_rng(5), n // 2 // side
    tiles = {(i, 2 * i): tuple(rng.standard_normal((2, side, 3))) for i in range(grid)}
    return structmat.BlockLowRank(tiles, row_sizes=[side] * grid, col_sizes=[side] * 2 * grid)


def low_rank(n, rank=8):
    rng = np.random.default_rng(6)
    return structmat.LowRank(rng.standard_normal((n // 2, rank)), rng.standard_normal((n, rank)))


def monarch(n, blocks=8):
    rng, side = np.random.default_rng(7), n // blocks
    L, R = (rng.standard_normal((blocks, side, side)) for _ in range(2))
    return structmat.Monarch(L, R, shape=(n, n))


def fixed(make):
    return lambda n: StructuredLinear(make(n), torch.ones(make(n).shape[0])).float()


def convolution(n):
    return StructuredConv2d([block_sparse(n)], in_channels=n, kernel_size=1).float()


def packed(n):
    torch.manual_seed(0)
    parts = [gaudi(n).matrix, StructuredWeight(strips(n)).float(), annealed(n, "support")]
    return PackedLinear(parts, torch.ones(3 * (n // 2)))


#: Layers of n inputs, or channels, in single precision.
LAYERS = {
    "anneal dense": lambda n: AnnealLinear(annealed(n, "dense"), torch.ones(n // 2)),
    "anneal support": lambda n: AnnealLinear(annealed(n, "support"), torch.ones(n // 2)),
    "anneal factored": lambda n: AnnealLinear(annealed(n, "factored")),
    "anneal block sparse": lambda n: AnnealLinear(annealed(n, "support", "block_sparse")),
    "anneal low rank": lambda n: AnnealLinear(annealed(n, "factored", "low_rank")),
    "anneal convolution": lambda n: AnnealConv2d(
        [annealed(n, "support", shape=(8, 9 * n))], None, in_channels=n, kernel_size=3, padding=1
    ),
    "gaudi": gaudi,
    "gaudi assembled": lambda n: gaudi(n, product="assembled", sigma=float("inf")),
    "gaudi factors": lambda n: gaudi(n, product="factors"),
    "gaudi grid": lambda n: gaudi(n, width_init="grid"),
    "gaudi rank 2": lambda n: gaudi(n, width_init=0.2, num_blocks=n, rank=2, granularity=4),
    "gaudi windows": lambda n: gaudi(n, width_init=0.2, num_blocks=n, max_width=n // 2),
    "gaudi uneven": lambda n: gaudi(n, width_init=0.2, num_blocks=n, granularity=3),
    "gaudi pinned": pinned,
    "gaudi between samples": lambda n: gaudi(n, straight_through=False),
    "gaudi convolution": gaudi_convolution,
    "strips": fixed(strips),
    "block sparse": fixed(block_sparse),
    "ordered block sparse": fixed(ordered),
    "block low rank": fixed(block_low_rank),
    "low rank": fixed(low_rank),
    "monarch": fixed(monarch),
    "convolution": convolution,
    "packed": packed,
}


def inputs(layer, count=3):
    """Inputs of a layer on its device, the same each time."""
    shape = (count, layer.in_channels, 4, 4) if hasattr(layer, "in_channels") else None
    shape = shape or (count, layer.in_features)
    like = next(layer.parameters())
    x = torch.from_numpy(np.random.default_rng(9).standard_normal(shape))
    return x.to(like.device, like.dtype)


def step(layer, x, run=None):
    """Output of a layer, or of `run`, and the gradients by its input and parameters."""
    x = x.detach().requires_grad_()
    layer.zero_grad()
    y = layer(x) if run is None else run(x)
    y.backward(torch.ones_like(y))
    return [y, x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


def bytes_held(layer, dtype):
    """Bytes of a layer's tensors, their gradients and Adam's state, and kept for the backward pass.

    Products are taken in `dtype`; the operand is not counted.
    """
    x, kept = inputs(layer, 1).requires_grad_(), {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    cast = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), cast:
        layer(x)
    trained = sum(p.numel() * p.element_size() for p in layer.parameters())
    tensors = [t for m in layer.modules() for t in vars(m).values() if isinstance(t, torch.Tensor)]
    for tensor in (*layer.parameters(), *tensors):
        keep(tensor)
    return 3 * trained + sum(kept.values())


def launches(layer):
    """Names of the operations of a step, once what follows from structure is there."""
    x = inputs(layer)
    step(layer, x)
    with Launches() as seen:
        step(layer, x)
    return seen.names


class Stays(TorchDispatchMode):
    """Refuses tensors of another device than the layer's, which the host would have made.

    Supports and orders are an exception on the meta device alone, where they keep their values.
    """

    def __init__(self, *, valued=False):
        super().__init__()
        self.valued = valued

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if self.valued and func.overloadpacket.__name__ == "_to_copy":
            return result
        found = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        assert all(t.is_meta for t in found), f"{func} on the host"
        return result
