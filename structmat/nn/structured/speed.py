"""Whether a structured weight or the dense one assembled from it multiplies sooner.

Decided by a model of both products, so that the same layer takes the same way again and
again. `watch` counts what one product by the structure does, whatever the kind; `CPU`
says what that takes, in nanoseconds.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from structmat import binding
from structmat.matrix import StructuredMatrix

#: Vectors that a thread takes through the structure at once where no gradient is
#: recorded, so that what stands between two factors stays in its cache.
CHUNK = 256
#: The dense weight is preferred unless the structure promises to be this much quicker.
MARGIN = 0.85

_aten = torch.ops.aten
_PRODUCTS = {
    _aten.addmm,
    _aten.addmm_,
    _aten.baddbmm,
    _aten.baddbmm_,
    _aten.bmm,
    _aten.mm,
}


class Work(NamedTuple):
    """What a product by a structure consists of.

    Attributes
    ----------
    calls : int
        Operations that touch data, whatever the number of vectors.
    scalars : float
        Scalars that a vector is multiplied by, padding included.
    written : float
        Numbers that are written for each vector.
    compiled : float
        Scalars that a vector is multiplied by in compiled kernels, padding included.
    """

    calls: int
    scalars: float
    written: float
    compiled: float = 0.0


class Speeds(NamedTuple):
    """Nanoseconds that a device takes, with one thread.

    Attributes
    ----------
    dense, structured : float
        To start a product.
    call : float
        To start one operation within it.
    dense_read, read : float
        To fetch one stored scalar for a dense or a structured product.
    dense_multiply, convolve, multiply : float
        For one multiplication: in a dense product, a dense convolution, a structure.
    write : float
        To write one number.
    compiled_call, compiled_read, compiled_multiply : float
        To start a compiled kernel, to fetch one scalar for it, and for one multiplication.
    """

    dense: float
    structured: float
    call: float
    dense_read: float
    read: float
    dense_multiply: float
    convolve: float
    multiply: float
    write: float
    compiled_call: float
    compiled_read: float
    compiled_multiply: float


# Least squares on 714 products in float32, relative errors, one thread of an AMD EPYC
# (Zen 4): all kinds at 6 to 75 % of the dense cost, 1 to 4096 vectors, weights from
# 256 x 256 to 3072 x 768. The choice was right for 95 % of them.
CPU = Speeds(5300.0, 43700.0, 4150.0, 0.112, 0.27, 0.0215, 0.0165, 0.0234, 0.3, 3e4, 0.11, 0.0185)
# Orders of magnitude of a data-centre GPU, from its data sheet: nothing was measured.
ACCELERATOR = Speeds(1e4, 2e4, 5e3, 2e-3, 2e-3, 4e-5, 4e-5, 1e-4, 4e-3, 2e4, 2e-3, 1e-4)


def watch(matrix: StructuredMatrix, count: int = 16) -> Work:
    """Work of a matrix on torch that has multiplied before: what it does to `count` vectors."""
    vectors = torch.zeros(count, matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    with torch.no_grad(), _Watch() as seen:
        binding.multiply(matrix, vectors.T)
    multiplications, compiled = seen.multiplications / count, seen.compiled / count
    return Work(seen.calls, multiplications, seen.written / count, compiled)


class _Watch(TorchDispatchMode):
    """Counts operations as they are executed; views count for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.multiplications = self.written = self.compiled = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "structmat":
            # Its operand, then lists of indices, then the cells of both factors.
            x, _, *cells = args[:4]
            self.compiled += x.shape[0] * sum(c.numel() for c in cells)
            self.written += x.numel() + result.numel()
            return result
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        if isinstance(result, Tensor) and (alias is None or alias.is_write):
            tensors = [a for a in args if isinstance(a, Tensor) and a.is_floating_point()]
            # What adds rows to a larger tensor writes as many as it is given.
            sizes = [result.numel(), *(t.numel() for t in tensors if alias is not None)]
            self.calls += 1
            if func.overloadpacket in _PRODUCTS:
                left, right = tensors[-2:]
                self.multiplications += left.numel() * right.shape[-1]
                sizes = sizes[:1]
            self.written += min(sizes)
        return result


class Times(NamedTuple):
    """Nanoseconds of both products: once, and for each vector on one thread."""

    dense_once: float
    dense_each: float
    once: float
    each: float

    @classmethod
    def of(cls, work: Work, shape: tuple[int, int], device: str) -> "Times":
        """Of a structure (m, n) on a type of device."""
        speeds, area = CPU if device == "cpu" else ACCELERATOR, math.prod(shape)
        plain = work.scalars > 0 or work.calls > 0
        once = speeds.read * work.scalars + speeds.compiled_read * work.compiled
        once += plain * speeds.structured + speeds.call * work.calls
        once += (work.compiled > 0) * speeds.compiled_call
        multiplying = speeds.multiply * work.scalars + speeds.compiled_multiply * work.compiled
        return cls(
            speeds.dense + speeds.dense_read * area,
            speeds.dense_multiply * area,
            once,
            multiplying + speeds.write * (work.written + shape[0]),
        )

    @classmethod
    def of_convolution(cls, taps: Sequence["Times"], width: int, device: str) -> "Times":
        """Of a convolution by these taps, whose patches and results have so many numbers."""
        speeds = CPU if device == "cpu" else ACCELERATOR
        total = cls(*map(sum, zip(*taps, strict=True)))
        return total._replace(
            dense_each=total.dense_each * speeds.convolve / speeds.dense_multiply,
            each=total.each + speeds.write * width,
        )


def dense_is_quicker(times: Times, count: int, *, assembly: int, device: str) -> bool:
    """Whether the dense weight multiplies `count` vectors sooner than the structure.

    Parameters
    ----------
    times : Times
    count : int
        Left out of account while a product is traced, so that the trace is right for any.
    assembly : int
        How many vectors the structure has to multiply first to assemble the dense
        weight; 0 where it is remembered.
    device : str
        Its type; only a CPU shares vectors out among threads of our own.
    """
    if torch.compiler.is_compiling():
        return times.dense_each < times.each
    threads = torch.get_num_threads() if device == "cpu" else 1
    dense = times.dense_once + times.dense_each * count / threads
    if assembly:
        return dense < times.each * (count - assembly) / threads
    rounds = -(-count // (CHUNK * threads))
    return MARGIN * dense < times.once * rounds + times.each * count / threads
