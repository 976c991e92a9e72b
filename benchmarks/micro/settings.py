"""Settings of a measurement of layers: device, dtype, threads and vectors."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from benchmarks.micro.timing import Call, Timing, interleaved, wall_clock
from benchmarks.results import Row

#: Inputs, outputs, vectors.
Shape = tuple[int, int, int]
GPU_DTYPES = ("bfloat16", "float32")
#: Bytes to overwrite, more than the caches of any GPU hold.
CACHE_BYTES = 2**28


@dataclass(frozen=True)
class Setting:
    """Shape of a layer, and the device, dtype and threads to measure it with."""

    shape: Shape
    device: str
    dtype: str
    threads: int

    def row(self) -> Row:
        """Columns of the results."""
        n, m, tokens = self.shape
        return {
            "in": n,
            "out": m,
            "tokens": tokens,
            "device": self.device,
            "dtype": self.dtype,
            "threads": self.threads,
        }

    def moved(self, what: nn.Module | Tensor) -> nn.Module | Tensor:
        """Layer or operand on this device, in this dtype."""
        return what.to(device=self.device, dtype=getattr(torch, self.dtype))

    @property
    def limit(self) -> float:
        """Bound on the relative error, in the Frobenius norm, of rounding alone."""
        own, single = (torch.finfo(getattr(torch, d)).eps for d in (self.dtype, "float32"))
        return 4 * own + max(self.shape) * single

    def timed(self, calls: Mapping[str, Call], *, seconds: float, least: int) -> Timing:
        """Time calls in turns, by the clock of the device."""
        clock = cuda_clock if self.device == "cuda" else wall_clock
        return interleaved(calls, seconds=seconds, least=least, clock=clock)


def settings(cpu: Sequence[Shape], gpu: Sequence[Shape], threads: Sequence[int]) -> list[Setting]:
    """Every shape on the CPU with each number of threads, and on a GPU if there is one."""
    made = [Setting(s, "cpu", "float32", t) for s in cpu for t in threads]
    if torch.cuda.is_available():
        made += [Setting(s, "cuda", d, threads[-1]) for s in gpu for d in GPU_DTYPES]
    return made


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Limit the threads of torch and structmat."""
    before, name = torch.get_num_threads(), "STRUCTMAT_NUM_THREADS"
    kept = os.environ.get(name)
    torch.set_num_threads(threads)
    os.environ[name] = str(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        os.environ.pop(name)
        if kept is not None:
            os.environ[name] = kept


def cuda_clock(call: Call, loops: int) -> float:
    """Seconds of one call on the GPU, with empty caches.

    In a network, the other layers also empty the caches between two uses of a weight.
    """
    events = []
    for _ in range(loops):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        _filler().zero_()
        begin.record()
        call()
        end.record()
        events.append((begin, end))
    torch.cuda.synchronize()
    return 1e-3 * sum(begin.elapsed_time(end) for begin, end in events) / loops


@cache
def _filler() -> Tensor:
    return torch.empty(CACHE_BYTES, dtype=torch.int8, device="cuda")


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Relative error of a tensor in the Frobenius norm, in single precision."""
    got, expected = got.float(), expected.float()
    return float((got - expected).norm() / expected.norm())
