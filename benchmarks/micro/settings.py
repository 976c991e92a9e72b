"""Where layers are measured: on a device, in a dtype, with so many threads and vectors."""

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
#: More than the caches of any GPU hold.
CACHES = 2**28


@dataclass(frozen=True)
class Setting:
    """One place and shape."""

    shape: Shape
    device: str
    dtype: str
    threads: int

    def row(self) -> Row:
        """As it stands in the results."""
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
        """A layer or an operand, here."""
        return what.to(device=self.device, dtype=getattr(torch, self.dtype))

    @property
    def limit(self) -> float:
        """What a relative error, in the Frobenius norm, stays below by rounding alone."""
        own, single = (torch.finfo(getattr(torch, d)).eps for d in (self.dtype, "float32"))
        return 4 * own + max(self.shape) * single

    def timed(self, calls: Mapping[str, Call], *, seconds: float, least: int) -> Timing:
        """Calls in turns, by the clock of the device."""
        clock = cuda_clock if self.device == "cuda" else wall_clock
        return interleaved(calls, seconds=seconds, least=least, clock=clock)


def settings(cpu: Sequence[Shape], gpu: Sequence[Shape], threads: Sequence[int]) -> list[Setting]:
    """Every shape on the CPU with each number of threads, and on a GPU where there is one."""
    made = [Setting(s, "cpu", "float32", t) for s in cpu for t in threads]
    if torch.cuda.is_available():
        made += [Setting(s, "cuda", d, threads[-1]) for s in gpu for d in GPU_DTYPES]
    return made


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let torch and structmat use so many threads."""
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
    """Seconds of one call on the GPU, with nothing of its operands in the caches before it.

    So weights are when a network runs: the other layers have come between.
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
    return torch.empty(CACHES, dtype=torch.int8, device="cuda")


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Of one tensor against another, in the Frobenius norm and single precision."""
    got, expected = got.float(), expected.float()
    return float((got - expected).norm() / expected.norm())
