"""The least that a call of a kernel costs on the host: a custom operator that does nothing."""

import torch
from torch import Tensor

try:
    import triton
except ImportError:
    triton = None
else:

    @triton.jit
    def _nothing(x):
        pass


@torch.library.custom_op("structmat_benchmarks::launch", mutates_args=())
def launch(x: Tensor) -> Tensor:
    """Launch an empty Triton kernel on a GPU, and return an array of the operand's shape."""
    y = torch.empty_like(x)
    if x.is_cuda and triton is not None:
        _nothing[(1,)](y)
    return y
